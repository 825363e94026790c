"""The agent's one deadline timer, on the tablet's boot clock, as ``agent.boot_timer`` has it by timerfd."""

from __future__ import annotations

from collections.abc import Callable

from agent.core.types import BootNs
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.clock import Clock
from simulator.virtual.loop import VirtualLoop


class VirtualTimer:
    """A deadline that passes while the tablet sleeps is called when it wakes."""

    def __init__(self, agenda: Agenda, clock: Clock, loop: VirtualLoop, callback: Callable[[], None]) -> None:
        self._agenda = agenda
        self._clock = clock
        self._loop = loop
        self._callback = callback
        self._at: BootNs | None = None  # in the world's time
        self._entry: Entry | None = None

    def set(self, at: BootNs | None) -> None:
        self._at = None if at is None else self._clock.to_world(at)
        self._arm()

    def _arm(self) -> None:
        """An entry that comes too early is put off then: cheaper than a new one at every step."""
        if self._at is None:
            return
        if self._entry is not None:
            if self._entry.call is not None and self._entry.at <= self._at:
                return
            self._entry.cancel()
        self._entry = self._agenda.at(self._at, self._due)

    def _due(self) -> None:
        self._entry = None
        if self._loop.dead or self._at is None:
            return
        if self._at > self._agenda.now:
            self._arm()
        else:
            self._loop.enter(self._expired)

    def _expired(self) -> None:
        if self._at is not None and self._at <= self._agenda.now:
            self._at = None
            self._callback()
        else:
            self._arm()  # set anew between its expiry and this turn of the loop
