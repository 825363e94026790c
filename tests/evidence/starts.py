"""Starts of the agent beside a rig, for the programs that time them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from simulator.compose_bench import Options, Rig
from simulator.processes import Child
from tests.evidence import weight

COMMAND = str(Path(sys.executable).with_name("ivma-agent"))
READY_S = 20.0


@dataclass(frozen=True, slots=True)
class Start:
    """An agent that was just executed at ``began`` (CLOCK_MONOTONIC, ns)."""

    rig: Rig
    notify: socket.socket
    began: int

    async def ready(self) -> None:
        """Wait for READY=1."""
        while await asyncio.get_running_loop().sock_recv(self.notify, 4096) != b"READY=1":
            pass

    async def audit_head(self) -> int:
        """Sequence number of the newest audit record that is durable, by the agent's own word."""
        reader, writer = await asyncio.open_unix_connection(self.rig.layout.control)
        try:
            writer.write(b'{"id": 1, "verb": "queue"}\n')
            head: int = json.loads(await reader.readline())["result"]["audit"]["head"]
            return head
        finally:
            writer.close()


async def measure(
    folder: Path, number: int, until: Callable[[Start], Awaitable[None]], *, dbus: bool
) -> list[float]:
    """Times in ms from the exec to the end of ``until``, each of a start on a store with records in it.

    ``folder`` exists. The agent has the weight that its systemd unit asks for, if permitted (weight.py).
    A first start, which is not counted, leaves Python's compiled files behind, as an installation does.
    """
    async with Rig(folder, Options(dbus=dbus)) as rig, _notify_socket(folder / "notify") as notify:
        await rig.until_seen(READY_S, tether="tethered")
        await rig.agent.stop()
        agent = Child(
            "measured",
            [COMMAND, "run", "--config", str(rig.layout.config)],
            folder / "measured.log",
            env={
                **rig.system.environment,
                "PYTHONDONTWRITEBYTECODE": "",
                "NOTIFY_SOCKET": str(folder / "notify"),
            },
            on_line=rig.system.line,
        )
        took = []
        try:
            for _ in range(1 + number):
                start = Start(rig, notify, time.monotonic_ns())
                await agent.start()
                weight.give(agent.pid)
                async with asyncio.timeout(READY_S):
                    await until(start)
                took.append((time.monotonic_ns() - start.began) / 1e6)
                await agent.stop()
        finally:
            await agent.kill()
        return took[1:]


@contextlib.asynccontextmanager
async def _notify_socket(path: Path) -> AsyncIterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify:
        notify.bind(os.fspath(path))
        yield notify
