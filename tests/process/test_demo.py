"""`ivma-sim demo` as a user runs it: with each broker, with and without D-Bus, and interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import need

DEMO_S = 360  # a demo that hangs has ended itself by then
SIM = [sys.executable, "-m", "simulator"]


def sim(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """``ivma-sim`` with its files under ``folder``."""
    return subprocess.Popen(
        [*SIM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a Unix socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


def left_running(folder: Path) -> list[str]:
    """Command lines of processes that still have to do with ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if str(folder) in command:
            found.append(command)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broker", "dbus"), [("mosquitto", True), ("amqtt", False)], ids=["mosquitto-dbus", "amqtt-console"]
)
def test_the_demo_holds_and_its_last_line_says_so(folder: Path, broker: str, dbus: bool) -> None:
    if broker == "mosquitto":
        need("mosquitto")
    if dbus:
        need("dbus-daemon")
    with sim(folder, "demo", "--broker", broker, *([] if dbus else ["--no-dbus"])) as process:
        output, errors = process.communicate(timeout=DEMO_S)
    assert process.returncode == 0, f"{output}\n{errors}"
    summary = json.loads(output.splitlines()[-1])
    delays = summary.pop("undock_to_lock_ms")
    assert summary.pop("produced") == summary.pop("delivered") > 50
    assert summary.pop("duplicates_dropped") >= 0
    assert summary == {
        "lost": 0,
        "unexpected": 0,
        "chains": "verified",
        "can_frames_transmitted": 0,
        "scenario": "shift",
    }
    assert 0 < delays["p50"] <= delays["max"]
    assert "\x1b" not in output
    assert "✗" not in output
    assert ("left out" in output) != dbus
    assert list(folder.iterdir()) == []
    assert left_running(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_everything_and_keeps_the_logs(folder: Path, number: signal.Signals) -> None:
    with sim(folder, "demo", "--no-dbus") as process:
        assert process.stdout is not None
        lines: list[str] = []
        while process.poll() is None and not (lines and "session open" in lines[-1]):
            lines.append(process.stdout.readline())
        assert left_running(folder) != [], lines
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert left_running(folder) == []
    (kept,) = folder.iterdir()
    assert f"logs and databases are in {kept}" in errors
    assert (kept / "depot.log").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "shft"], "no scenario 'shft'; did you mean 'shift'?"),
        (["run", "/none.toml"], "/none.toml: cannot be read"),
    ],
)
def test_a_scenario_that_cannot_be_played_is_a_usage_error(
    folder: Path, arguments: list[str], said: str
) -> None:
    with sim(folder, *arguments) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert said in errors


def test_a_folder_too_deep_for_sockets_is_said_at_once(folder: Path) -> None:
    deep = folder / ("d" * 80)
    deep.mkdir()
    with sim(deep, "demo", "--no-dbus") as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "AF_UNIX path too long" in errors


def test_the_scenarios_are_listed(folder: Path) -> None:
    with sim(folder, "list") as process:
        output, _ = process.communicate(timeout=120)
    assert output.startswith("shift")
