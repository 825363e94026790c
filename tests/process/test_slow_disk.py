"""A disk that takes writes and does not answer a sync: the daemon goes on, says so, and records it later."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_rig import Agent, bare, ivmactl
from tests.aio import looped
from tests.disk_shim import Shim, Stall

WAIT_S = 60


@pytest.fixture
def stall(tmp_path: Path) -> Iterator[Stall]:
    (tmp_path / "fifo").mkdir()
    stall = Stall(tmp_path / "fifo")
    yield stall
    stall.close()


def agent_on(folder: Path, shim: Shim, stall: Stall) -> Agent:
    """Its state is on that disk, and systemd wants a sign of life every 9 s."""
    disk = Shim(shim.library, folder / "state")
    (folder / "state").mkdir(mode=0o700)
    environment = {**disk.environment(stall=stall.path), "WATCHDOG_USEC": "9000000"}
    agent = Agent(folder, environment=environment)
    agent.configure(bare(folder))
    return agent


async def until_store(agent: Agent, *, ok: bool) -> str:
    """Ask until the status says so; the daemon answers all the while."""
    async with asyncio.timeout(WAIT_S):
        while True:
            _, status = await agent.ask("status")
            if status["store"]["ok"] is ok:
                return str(status["store"]["detail"])


@looped
async def test_a_disk_that_hangs_is_told_at_once_and_recorded_when_it_answers(
    tmp_path: Path, shim: Shim, stall: Stall, capfd: pytest.CaptureFixture[str]
) -> None:
    agent = agent_on(tmp_path, shim, stall)
    async with agent.running() as process:
        await until_store(agent, ok=True)
        stall.begin()
        process.send_signal(signal.SIGHUP)  # which is recorded
        await asyncio.to_thread(stall.wait)
        assert "has not answered" in await until_store(agent, ok=False)
        code, _ = await ivmactl(agent.control, "queue", as_json=False)
        assert code != 0
        assert "the disk has not answered" in capfd.readouterr().err
        for _ in range(2):
            await agent.says("WATCHDOG=1")
        assert "queue.stalled" not in await agent.kinds()
        stall.end()
        await until_store(agent, ok=True)
        async with asyncio.timeout(WAIT_S):
            while "queue.stalled" not in await agent.kinds():
                pass
        code, _ = await agent.ask("queue")
        assert code == 0


@looped
async def test_the_start_does_not_wait_for_a_disk_that_hangs(
    tmp_path: Path, shim: Shim, stall: Stall
) -> None:
    agent = agent_on(tmp_path, shim, stall)
    stall.begin()
    async with agent.running():
        assert "has not answered" in await until_store(agent, ok=False)
        stall.end()
        await until_store(agent, ok=True)
        code, _ = await agent.ask("queue")
        assert code == 0
