"""A private system bus, a logind double on it, and the agent's side, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from agent.core.types import Basis, BootNs, Decision, Lock, Observation, Release
from agent.dbus import Bus
from agent.enforcement.base import Surroundings
from agent.login1 import Login1
from agent.login1_words import NAME
from simulator.logind import Call, LogindDouble
from simulator.private_bus import PrivateBus
from tests.system import need

T = TypeVar("T", bound=Observation)


def boot_now() -> BootNs:
    return BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


def decision(rule: str = "tether.unseated") -> Decision:
    return Decision("tether", "restricted", rule, "the dock says that the tablet was taken out", boot_now())


def lock_order(number: int) -> Lock:
    return Lock(number, decision())


def release_order(number: int) -> Release:
    return Release(number, decision("tether.proved"), Basis.PROOF)


@dataclass
class Rig:
    """``changed`` is set by every observation and every call that reaches logind."""

    address: str
    daemon: PrivateBus
    logind: LogindDouble
    bus: Bus
    folder: Path
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[Observation] = field(default_factory=list)
    powered: list[str] = field(default_factory=list)

    def observe(self, observation: Observation) -> None:
        self.seen.append(observation)
        self.changed.set()

    def called(self, _call: Call) -> None:
        self.changed.set()

    def power(self, verb: str) -> None:
        self.powered.append(verb)
        self.changed.set()

    @property
    def around(self) -> Surroundings:
        return Surroundings(self.observe, boot_now, lambda: self.bus, self.folder)

    async def until(self, holds: Callable[[], object], limit_s: float = 10.0) -> None:
        """Wait until ``holds`` is true; it is looked at whenever something happened."""
        async with asyncio.timeout(limit_s):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def connect(self) -> None:
        self.bus.start()
        await self.bus.tried()

    async def settle(self) -> None:
        """A round trip by the bus and the double: what was sent before it has arrived."""
        await Login1(self.bus).sessions()

    def of(self, kind: type[T]) -> list[T]:
        return [seen for seen in self.seen if isinstance(seen, kind)]


@contextlib.asynccontextmanager
async def logind_rig(folder: Path, *, delay_max_s: float = 5.0) -> AsyncIterator[Rig]:
    need("dbus-daemon")
    async with PrivateBus(folder) as daemon:
        logind = LogindDouble(daemon.address, inhibit_delay_max_s=delay_max_s)
        rig = Rig(daemon.address, daemon, logind, Bus(lambda: 0.1, daemon.address), folder)
        rig.bus.watch(NAME, rig.changed.set, rig.changed.set)
        logind.on_call, logind.on_power = rig.called, rig.power
        await logind.start()
        try:
            yield rig
        finally:
            await rig.bus.close()
            await logind.stop()
