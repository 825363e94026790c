"""Helpers for tests of CAN: a port on a real simcan bus, and waiting for what it reports."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from agent.core.types import BootNs, Observation
from drivers.ports.can import CanPort, opener
from drivers.ports.socketcan import RawBus
from drivers.vehicles.codec import Profile
from drivers.vehicles.watch import CompiledProfile
from simulator.can_hub import CanHub

LOOK_AGAIN_S = 0.001
TIMEOUT_S = 90  # of a wait that is expected to end at once


class Clock:
    """Boot time that a test sets."""

    def __init__(self) -> None:
        self.at = BootNs(1_000_000_000)

    def __call__(self) -> BootNs:
        return self.at

    def forward(self, ns: int) -> BootNs:
        self.at = BootNs(self.at + ns)
        return self.at


class PacedLoop(asyncio.SelectorEventLoop):
    """A loop with real descriptors whose time is what a test sets; it never waits."""

    def __init__(self) -> None:
        self.paced_s = 0.0
        super().__init__()

    def time(self) -> float:
        return self.paced_s


class Paced:
    """A port on a socket, fed frame by frame at a recording's own times: its timers run when they are due."""

    TICK_S = 0.02  # the port's waits are longer

    def __init__(
        self,
        loop: PacedLoop,
        profile: Profile,
        observe: Callable[[Observation], None],
        start: BootNs,
        bus: str = "powertrain",
    ) -> None:
        self._loop = loop
        self._start = start
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        compiled = CompiledProfile(profile, bus)
        self.port = CanPort(bus, lambda: RawBus(theirs), compiled, observe, self.now)
        self.port.start()

    def now(self) -> BootNs:
        return BootNs(self._start + round(self._loop.paced_s * 1e9))

    async def until(self, at_s: float) -> None:
        """Let time pass until ``at_s``, from the start."""
        while self._loop.paced_s < at_s:
            self._loop.paced_s = min(at_s, self._loop.paced_s + self.TICK_S)
            await self._turn()

    async def put(self, frame: bytes) -> None:
        """A frame comes."""
        self._ours.send(frame)
        await self._turn()

    async def _turn(self) -> None:
        for _ in range(2):  # the descriptor is looked at, then its callback runs
            await asyncio.sleep(0)

    def close(self) -> None:
        self.port.close()
        self._ours.close()


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
