"""The daemon with a dock that has control lines only: by policy it holds the tablet, or it only tells."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.control_client import ControlClient
from simulator.docks.control_lines import ControlLinesDock
from tests import modem_shim
from tests.agent_rig import WAIT_S, Agent, bare, stop
from tests.modem_shim import ShimLines
from tests.system import need

LINES = {"seated": "dsr", "mated": "cts", "latch": "dtr", "led": "rts"}
SHORT = {"refill_after_s": 1, "ride_through_ms": 3000, "start_allowance_s": 0}


class Tablet:
    """An agent under the shim, on a pty with lines and the cradle at their other end."""

    def __init__(self, folder: Path, hint_lines: str) -> None:
        dock = ControlLinesDock({"dsr": "seated", "cts": "mated"}, switches={"seated": True, "mated": True})
        self.lines = ShimLines(folder / "lines", dock)
        self._ends = os.openpty()
        port = folder / "ttyLINES"
        port.symlink_to(os.ttyname(self._ends[1]))
        self.agent = Agent(folder, self.lines.environment(modem_shim.build(folder)))
        cradle = {"name": "cradle", "model": "control-lines", "port": port, "lines": LINES}
        policy = {"tether": {**SHORT, "hint_lines": hint_lines}}
        self.agent.configure(bare(folder, dock=[cradle], policy=policy))
        self.client = ControlClient(self.agent.control, self._heard)
        self._here = asyncio.Event()

    def _heard(self, event: dict[str, Any]) -> None:
        if event["event"] == "here":
            self._here.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """The agent runs and can be asked."""
        async with self.agent.running() as process, asyncio.timeout(4 * WAIT_S):
            self.client.start()
            await self._here.wait()
            try:
                yield process
            finally:
                await self.client.stop()

    def close(self) -> None:
        for end in self._ends:
            os.close(end)

    async def until(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status that fits."""
        while True:
            status: dict[str, Any] = await self.client.ask("status")
            if fits(status):
                return status
            await asyncio.sleep(0.02)

    async def says(self, word: str) -> dict[str, Any]:
        """The first status in which the cradle's hint says so."""
        return await self.until(lambda status: word in status["hints"].get("cradle", {}).get("value", ""))


def play(folder: Path, hint_lines: str, scene: Callable[[Tablet], Awaitable[None]]) -> None:
    need("gcc")

    async def whole() -> None:
        tablet = Tablet(folder, hint_lines)
        try:
            await scene(tablet)
        finally:
            tablet.close()

    asyncio.run(whole())


@pytest.mark.slow
def test_lines_that_policy_lets_stand_for_proof_hold_and_lose_the_tablet(tmp_path: Path) -> None:
    async def scene(tablet: Tablet) -> None:
        async with tablet.running() as process:
            status = await tablet.until(lambda status: status["tether"]["posture"] == "usable")
            assert status["tether"]["authenticated"]["value"] is False
            assert status["tether"]["seated"]["value"] is True
            assert "seated yes" in status["hints"]["cradle"]["value"]
            assert status["docks"]["cradle"]["waits"] == 1
            await tablet.until(lambda status: status["tether"]["budget_ms"] > 0)
            tablet.lines.put(seated=False)
            await tablet.until(lambda status: status["tether"]["state"] == "uncertain")
            await tablet.until(lambda status: status["tether"]["posture"] == "locked")
            await tablet.until(lambda _: tablet.lines.outputs == {"dtr", "rts"})  # latch and LED
            answer = await tablet.client.ask("why", topic="tether")
            assert answer["rule"] == "tether.ride_through_over"
            assert any(each["source"] == "control lines cradle" for each in answer["evidence"])
            tablet.lines.put(seated=True)  # or its lines were bridged: nobody can tell
            await tablet.until(lambda status: status["tether"]["posture"] == "usable")
            assert await stop(process) == 0, "a thread that waits for edges holds up no stop"

    play(tmp_path, "allow", scene)


@pytest.mark.slow
def test_lines_that_only_report_open_nothing(tmp_path: Path) -> None:
    async def scene(tablet: Tablet) -> None:
        async with tablet.running() as process:
            for seated, word in ((False, "seated no"), (True, "seated yes")):
                tablet.lines.put(seated=seated)
                status = await tablet.says(word)
                assert status["tether"]["posture"] == "locked"
            assert await stop(process) == 0

    play(tmp_path, "report", scene)
