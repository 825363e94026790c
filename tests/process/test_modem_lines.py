"""Control lines of a port that has some: TIOCMIWAIT, TIOCGICOUNT and TIOCMGET by a preloaded shim."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drivers.docks.control_lines.session import ControlLinesSession
from drivers.ports.modem_lines import ModemLines, open_lines
from drivers.spec import DockSettings
from tests import modem_shim
from tests.dock_port import Seen, boot_now
from tests.system import need

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("gcc")
    return modem_shim.build(tmp_path_factory.mktemp("shim"))


def play(scene: str, library: Path, folder: Path) -> dict[str, Any]:
    state = folder / "lines"
    state.write_bytes(bytes(40))
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "tests.process.modem_lines_program", scene, str(folder)],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(library), "IVMA_MODEM_SHIM": str(state)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_edges_are_waited_for_and_waiting_costs_next_to_nothing(library: Path, tmp_path: Path) -> None:
    result = play("edges", library, tmp_path)
    assert result["first"] == [True, True, False, None]
    assert result["median_ms"] < 300, "a look of its own comes only once a second"
    assert result["looks_a_second"] < 3
    assert result["cpu_share"] < 0.05
    assert (result["counters"]["waits"], result["counters"]["counts"]) == (1, 1)


def test_a_pulse_between_two_looks_is_told_of_and_changes_nothing(library: Path, tmp_path: Path) -> None:
    assert play("pulse", library, tmp_path) == {"detail": "a pulse on DSR", "seated": 0, "pulses": 1}


def test_outputs_are_set_with_their_polarity_while_the_port_waits(library: Path, tmp_path: Path) -> None:
    assert play("outputs", library, tmp_path) == {
        "before": ["rts"],  # the LED is on an inverted line
        "done": ["outputs", True],
        "alarm": ["dtr"],
        "after": ["rts"],
    }


def test_a_port_that_is_pulled_while_it_waits_is_lost_at_once_and_found_again(
    library: Path, tmp_path: Path
) -> None:
    result = play("replug", library, tmp_path)
    assert result.pop("lost_ms") < 500
    assert result == {"lost": True, "seated": False, "outputs": ["dtr", "rts"], "threads": 1}


def test_the_waiting_thread_ends_when_it_is_told_and_the_loop_never_waits_for_it(
    library: Path, tmp_path: Path
) -> None:
    result = play("closing", library, tmp_path)
    assert result["lost"]
    assert result["longest_ms"] < 100


def test_a_driver_without_either_call_is_polled(library: Path, tmp_path: Path) -> None:
    result = play("polled", library, tmp_path)
    assert result["hint"] == [False, True]
    assert 3 < result["looks_a_second"] < 15
    assert (result["counters"]["waits"], result["counters"]["counts"]) == (0, 0)


def test_chatter_neither_floods_nor_changes_the_seat(library: Path, tmp_path: Path) -> None:
    result = play("chatter", library, tmp_path)
    assert result["moves"] > 50
    assert result["looks_a_second"] < 250
    assert set(result["hints"]) <= {True}, "said again, and never changed"


def test_a_port_without_control_lines_is_refused_in_words() -> None:
    master, slave = os.openpty()
    try:
        with pytest.raises(OSError, match="it has no control lines"):
            open_lines(os.ttyname(slave))
        with pytest.raises(OSError, match="not a serial port"):
            open_lines("/dev/null")
    finally:
        os.close(master)
        os.close(slave)


def test_such_a_port_is_tried_again_and_counted(tmp_path: Path) -> None:
    async def scene() -> dict[str, int]:
        master, slave = os.openpty()
        seen = Seen()
        session = ControlLinesSession(DockSettings("cradle", options={"seated": "dsr"}), os.urandom)
        link = ModemLines(session, lambda: os.ttyname(slave), seen.observe, boot_now)
        link.start()
        try:
            assert not link.is_open
            assert seen.all == []
            return link.counters().values
        finally:
            link.close()
            os.close(master)
            os.close(slave)

    assert asyncio.run(scene())["open_failed"] == 1
