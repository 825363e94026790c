"""The unmodified daemon on umockdev's machine: it knows its dock by udev properties, not by a port's name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import need

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_daemon_finds_its_dock_by_udev_properties_and_follows_it() -> None:
    need("umockdev-wrapper")
    program = [sys.executable, "-m", "tests.process.agent_udev_program"]
    done = subprocess.run(
        ["umockdev-wrapper", *program], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "opened_a_stranger": {"dock": {}},
        "opened": 2,
        "session": "locked",
    }
