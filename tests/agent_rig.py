"""The agent as a process of its own, without a rig around it, and ivmactl asking it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator.agent_config import document
from simulator.compose_bench import Rig

WAIT_S = 90.0
BUDGET_MS = 60_000  # of ride-through, by the policy's default
ROOT = Path(__file__).parents[1]


def bare(folder: Path, **over: Any) -> dict[str, Any]:
    """A configuration without hardware and without a fleet; ``over`` replaces whole tables."""
    return {
        "device": {"fleet": "test", "name": "tablet-1"},
        "paths": {"state_dir": folder / "state", "runtime_dir": folder / "run"},
        "enforcement": {"actions": ["console"], "power": "console"},
        "guard": {"enabled": False},
        **over,
    }


@dataclass
class Agent:
    """One agent on ``folder/agent.toml``; ``told`` is what it said on NOTIFY_SOCKET."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    log: Path | None = None  # where what it writes goes
    file_bytes: int | None = None  # the most that a file of it may have; 0 is a full disk

    def __post_init__(self) -> None:
        self.config = self.folder / "agent.toml"
        self.control = self.folder / "run" / "control.sock"

    def configure(self, tables: Mapping[str, Any]) -> None:
        self.config.write_text(document(tables))

    async def ends(self) -> tuple[int, str]:
        """Run it until it ends by itself: (exit status, what it wrote on standard error)."""
        process = await self._run()
        async with asyncio.timeout(WAIT_S):
            _, text = await process.communicate()
        assert process.returncode is not None
        return process.returncode, text.decode()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """It is ready within the block, and killed at its end if it still runs."""
        path = self.folder / "notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify:
            notify.bind(os.fspath(path))
            process = await self._run(NOTIFY_SOCKET=os.fspath(path))
            try:
                self._notify = notify
                await self.says("READY=1")
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.communicate()

    async def says(self, state: str) -> None:
        """Wait for a state on NOTIFY_SOCKET."""
        async with asyncio.timeout(WAIT_S):
            while True:
                said = (await asyncio.get_running_loop().sock_recv(self._notify, 4096)).decode()
                self.told.append(said)
                if said.startswith(state):
                    return

    async def ask(self, *arguments: str) -> tuple[int, Any]:
        """`ivmactl ... --json`: (exit status, answer)."""
        return await ivmactl(self.control, *arguments)

    async def kinds(self) -> list[str]:
        """Kinds of the newest records."""
        _, answer = await self.ask("events")
        return [event["kind"] for event in answer["events"]]

    async def _run(self, **environment: str) -> asyncio.subprocess.Process:
        with contextlib.ExitStack() as stack:
            to: Any = (
                asyncio.subprocess.PIPE if self.log is None else stack.enter_context(self.log.open("ab"))
            )
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent", "run", "--config", str(self.config),
                cwd=ROOT, env={**os.environ, **self.environment, **environment},
                stdout=to, stderr=to, preexec_fn=self._limit,
            )  # fmt: skip

    def _limit(self) -> None:
        if self.file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_bytes, self.file_bytes))


async def stop(process: asyncio.subprocess.Process, within_s: float = WAIT_S) -> int:
    """SIGTERM; the exit status."""
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(within_s):
        return await process.wait()


async def until_status(rig: Rig, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the agent of a rig says of itself that it is so."""
    async with asyncio.timeout(WAIT_S):
        while not holds(await rig.control.ask("status")):
            await rig.change()


async def docked(rig: Rig) -> None:
    """Wait until the tablet may be used and the ride-through is full; the officer logs in."""
    await rig.until_seen(WAIT_S, tether="tethered", posture="usable")
    # Published before the commit that it waits for: until then a session that is used is locked again.
    await until_status(rig, lambda status: not status["enforcement"]["locked"])
    await until_status(rig, lambda status: status["tether"]["budget_ms"] >= BUDGET_MS)
    rig.system.unlock()


async def ivmactl(control: Path, *arguments: str, as_json: bool = True) -> tuple[int, Any]:
    """Ask a live agent: (exit status, its answer; the text without ``as_json``)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent.cli", "--socket", str(control), *arguments,
        *(["--json"] if as_json else []),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(WAIT_S):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out) if as_json else out.decode()
