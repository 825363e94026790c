"""A pytest plugin for a run in a copy of the tree: it names the test that failed, and trusts nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import agent
import drivers
import simulator
import sync

REPORT = "DEFECT_REPORT"  # the environment's name for the file in which failing tests are named, one a line


def pytest_configure() -> None:
    here = Path.cwd()
    for package in (agent, drivers, simulator, sync):
        if not Path(package.__file__ or "").is_relative_to(here):
            raise pytest.UsageError(f"{package.__name__} is {package.__file__}, not the copy in {here}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        with Path(os.environ[REPORT]).open("a", encoding="utf-8") as file:
            file.write(f"{report.nodeid}\n")
