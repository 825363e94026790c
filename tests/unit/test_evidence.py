"""Which claims are measured again: a time that did not hold, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.evidence.__main__ import run
from tests.evidence.claim import NOT_NOW, state


@pytest.mark.parametrize(
    ("holds", "timed", "status"),
    [(True, True, 0), (True, False, 0), (False, True, NOT_NOW), (False, False, 1)],
)
def test_a_time_that_does_not_hold_has_a_status_of_its_own(holds: bool, timed: bool, status: int) -> None:
    assert state("a claim", 1, "ms", 2, holds=holds, timed=timed) == status


@pytest.mark.parametrize(
    ("statuses", "runs"),
    [([NOT_NOW, 0], 2), ([NOT_NOW, NOT_NOW, NOT_NOW, 0], 3), ([NOT_NOW, 1], 2), ([1, 0], 1), ([0], 1)],
)
def test_only_a_time_is_measured_again(tmp_path: Path, statuses: list[int], runs: int) -> None:
    told = tmp_path / "told"
    told.touch()
    program = (
        "import pathlib, sys\n"
        f"told = pathlib.Path({str(told)!r})\n"
        "told.write_text(told.read_text() + 'x')\n"
        f"sys.exit({statuses}[len(told.read_text()) - 1])\n"
    )
    assert run([sys.executable, "-c", program], 3) == statuses[runs - 1]
    assert len(told.read_text()) == runs
