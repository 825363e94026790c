"""Log lines by where they go, and one warning for each cycle of a fault."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from agent.logs import Cycle, configure, under_journal

PROGRAM = """
import os, sys
from agent.logs import configure
environ = dict(os.environ)
if "--journal" in sys.argv:
    stat = os.fstat(2)
    environ["JOURNAL_STREAM"] = f"{stat.st_dev}:{stat.st_ino}"
configure("info", stream=sys.stderr, environ=environ)
import structlog
log = structlog.get_logger()
log.debug("unseen")
log.warning("dock.lost", dock="front")
try:
    1 / 0
except ZeroDivisionError:
    log.error("defect", exc_info=True)
"""


def lines(*args: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *args], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == ""  # standard output belongs to the console actions
    return done.stderr.splitlines()


def test_the_journal_gets_json_with_its_priority_and_no_time_of_ours() -> None:
    warning, defect = lines("--journal")
    assert warning.startswith("<4>{")
    assert json.loads(warning[3:]) == {"dock": "front", "event": "dock.lost", "level": "warning"}
    assert defect.startswith("<3>{")
    assert "ZeroDivisionError" in json.loads(defect[3:])["exception"]


def test_a_pipe_gets_json_with_the_time() -> None:
    warning, _ = lines()
    assert json.loads(warning).keys() == {"dock", "event", "level", "timestamp"}


def test_a_terminal_gets_lines_for_people() -> None:
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", PROGRAM], stderr=theirs, check=True, timeout=120,
                   env={**os.environ, "NO_COLOR": "1"})  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "dock.lost" in shown
    assert "dock=front" in shown
    assert "\x1b" not in shown


def test_an_inherited_variable_is_not_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        stat = os.fstat(file.fileno())
        assert under_journal({"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}, file.fileno())
        assert not under_journal({"JOURNAL_STREAM": "1:2"}, file.fileno())
        assert not under_journal({}, file.fileno())


def test_an_unknown_level_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected one of debug, info"):
        configure("loud", stream=sys.stderr, environ={})


def test_a_cycle_warns_once_and_says_when_it_is_over() -> None:
    with capture_logs() as logged:
        cycle = Cycle(structlog.get_logger(), "dock.silent")
        cycle.ended()
        for _ in range(3):
            cycle.failed(port="front")
        cycle.ended()
        cycle.failed(port="front")
    assert [(entry["log_level"], entry["failures"]) for entry in logged] == [
        ("warning", 1), ("debug", 2), ("debug", 3), ("info", 3), ("warning", 1),
    ]  # fmt: skip


def test_rich_is_not_imported_with_the_log() -> None:
    code = (
        "import sys, agent.logs, structlog; sys.exit('rich' in sys.modules or 'rich.console' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
