"""The hardware clock's alarm, as ``agent.wake_alarm`` has it from the kernel; it ends with its process."""

from __future__ import annotations

from collections.abc import Callable

from agent.core.types import BootNs
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.clock import Clock
from simulator.virtual.loop import VirtualLoop


class VirtualAlarm:
    """``wake`` is called when it rings; a tablet that is awake takes no note."""

    def __init__(self, agenda: Agenda, clock: Clock, loop: VirtualLoop, wake: Callable[[], None]) -> None:
        self._agenda = agenda
        self._clock = clock
        self._loop = loop
        self._wake = wake
        self._entry: Entry | None = None

    def set(self, at: BootNs | None) -> None:
        self.close()
        if at is not None:
            self._entry = self._agenda.at(self._clock.to_world(at), self._ring)

    def status(self) -> dict[str, object]:
        return {}

    def close(self) -> None:
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def _ring(self) -> None:
        self._entry = None
        if not self._loop.dead:
            self._wake()
