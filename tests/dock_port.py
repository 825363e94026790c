"""A real SerialLink on a pty with the simulated dock behind it, and observations that can be waited for."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agent.core.types import BootNs, Observation
from drivers.docks.reference.session import ReferenceSession
from drivers.ports.serial import SerialLink
from drivers.spec import DockSession, DockSettings
from simulator.docks.reference import Identity, ReferenceDock
from simulator.docks.serial_device import PtyPlug, SerialDevice
from tests.dock_rig import KEY, SERIAL, VEHICLE_ID

PATIENCE_S = 90.0  # a failing test waits so long; a passing one does not wait

Kind = TypeVar("Kind", bound=Observation)


def boot_now() -> BootNs:
    return BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class Seen:
    """Observations in order, with a wait for the next that fits."""

    def __init__(self) -> None:
        self.all: list[Observation] = []
        self._changed = asyncio.Event()
        self._read = 0

    def observe(self, observation: Observation) -> None:
        self.all.append(observation)
        self._changed.set()

    async def next(self, kind: type[Kind], fits: Callable[[Kind], bool] = lambda _: True) -> Kind:
        """The next observation of a kind that fits, among those not yet looked at."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                while self._read < len(self.all):
                    self._read += 1
                    found = self.all[self._read - 1]
                    if isinstance(found, kind) and fits(found):
                        return found
                self._changed.clear()
                await self._changed.wait()

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [each for each in self.all if isinstance(each, kind)]


class Bench:
    """A tablet's link on ``port``; docks are plugged in there. Use as an async context manager."""

    def __init__(self, folder: Path, session: DockSession | None = None) -> None:
        self.port = folder / "ttyDock"
        self.seen = Seen()
        settings = DockSettings("dock", SERIAL, VEHICLE_ID, KEY)
        self.session = session or ReferenceSession(settings, os.urandom)
        self.plug = PtyPlug(self.port)
        self.devices: list[SerialDevice[ReferenceDock]] = []

    async def __aenter__(self) -> Bench:
        self.link = SerialLink(self.session, lambda: str(self.port), self.seen.observe, boot_now)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.link.close()
        self.plug.pull()
        for device in self.devices:
            device.close()

    def dock(self, *, serial: str = SERIAL, key: bytes = KEY) -> SerialDevice[ReferenceDock]:
        """A dock that lives on the desk, not plugged in yet."""
        model = ReferenceDock(Identity.of(serial, VEHICLE_ID, key), os.urandom, boot_now())
        device = SerialDevice(model, boot_now)
        self.devices.append(device)
        return device
