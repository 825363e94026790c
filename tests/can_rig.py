"""Helpers for tests of CAN: a port on a real simcan bus, and waiting for what it reports."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from agent.core.types import BootNs, Observation
from drivers.ports.can import CanPort, opener
from drivers.vehicles.codec import Profile
from drivers.vehicles.watch import CompiledProfile
from simulator.can_hub import CanHub

LOOK_AGAIN_S = 0.001
TIMEOUT_S = 10  # of a wait that is expected to end at once


class Clock:
    """Boot time that a test sets."""

    def __init__(self) -> None:
        self.at = BootNs(1_000_000_000)

    def __call__(self) -> BootNs:
        return self.at

    def forward(self, ns: int) -> BootNs:
        self.at = BootNs(self.at + ns)
        return self.at


class Seen:
    """What a port reported, and a way to wait for more."""

    def __init__(self) -> None:
        self.all: list[Observation] = []
        self._more = asyncio.Event()

    def __call__(self, observation: Observation) -> None:
        self.all.append(observation)
        self._more.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        """Wait until ``enough``, looked at after each observation."""
        async with asyncio.timeout(TIMEOUT_S):
            while not enough():
                self._more.clear()
                await self._more.wait()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds, for what nothing reports."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            turned = asyncio.Event()
            loop.call_later(LOOK_AGAIN_S, turned.set)
            await turned.wait()


@contextmanager
def member(path: Path) -> Iterator[socket.socket]:
    """A member of a simcan bus, as another process would join it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(path))
        yield sock


@asynccontextmanager
async def port_on_hub(
    path: Path, profile: Profile, *, drain_ms: int = 0, silent_s: float = 2.0, bus: str = "powertrain"
) -> AsyncIterator[tuple[CanHub, CanPort, Seen, Clock]]:
    """A hub, and a port listening on it that reads at once."""
    clock, seen = Clock(), Seen()
    compiled = CompiledProfile(profile, bus)
    async with CanHub(path) as hub:
        port = CanPort(
            bus,
            opener("simcan", str(path), compiled),
            compiled,
            seen,
            clock,
            drain_ms=drain_ms,
            silent_s=silent_s,
        )
        port.start()
        try:
            await until(lambda: bool(hub.members))
            yield hub, port, seen, clock
        finally:
            port.close()
