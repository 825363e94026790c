"""A tablet's serial port in memory: drives a dock session as ``drivers.ports.serial`` does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from agent.core.types import BootNs, Counters, DriveOutputs, LinkLoss, Observation
from simulator.virtual.agenda import Entry
from simulator.virtual.dockwire import DockWire
from simulator.virtual.loop import VirtualLoop

FIRST_RETRY_S, LAST_RETRY_S = 0.05, 1.0  # between tries to open the port; as drivers.ports.serial


class Session(Protocol):
    """What the port asks of a dock session: ``drivers.spec.DockSession``."""

    @property
    def name(self) -> str: ...
    def link_up(self, at: BootNs) -> list[Observation]: ...
    def link_lost(self, at: BootNs, reason: LinkLoss) -> list[Observation]: ...
    def feed(self, data: bytes, at: BootNs) -> list[Observation]: ...
    def timer(self, at: BootNs) -> list[Observation]: ...
    def next_deadline(self) -> BootNs | None: ...
    def drive(self, wanted: DriveOutputs, at: BootNs) -> None: ...
    def cut_power(self, seconds: int | None, at: BootNs) -> None: ...
    def prove(self, at: BootNs) -> None: ...
    def outgoing(self) -> bytes: ...
    def counters(self) -> Counters: ...


class MemoryPort:
    """One dock on the wire, on the loop of one run of the agent."""

    def __init__(
        self,
        loop: VirtualLoop,
        wire: DockWire,
        session: Session,
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
    ) -> None:
        self._loop = loop
        self._wire = wire
        self._session = session
        self._observe = observe
        self._now = now
        self._open = False
        self._closed = False
        self._counts: Counter[str] = Counter()
        self._timer: Entry | None = None
        self._timer_at = BootNs(0)
        self._retry: asyncio.TimerHandle | None = None
        self._retry_s = FIRST_RETRY_S

    # --- what the agent calls ---------------------------------------------------------------------------

    def start(self) -> None:
        self._try()

    def close(self) -> None:
        self._closed = True
        if self._open:
            self._wire.close(self)
            self._drop(LinkLoss.CLOSED)
        if self._timer is not None:
            self._timer.cancel()
        if self._retry is not None:
            self._retry.cancel()
        self._timer = self._retry = None

    def drive(self, outputs: DriveOutputs) -> None:
        self._session.drive(outputs, self._now())
        self._settle(())

    def cut_power(self, seconds: int | None) -> None:
        self._session.cut_power(seconds, self._now())
        self._settle(())

    def prove(self) -> None:
        self._session.prove(self._now())
        self._settle(())

    def counters(self) -> Counters:
        """What the session and the port dropped, by reason."""
        return Counters({**self._session.counters().values, **self._counts})

    # --- what the wire calls ----------------------------------------------------------------------------

    def readable(self, data: bytes) -> None:
        self._loop.enter(self._read, data)

    def lost(self) -> None:
        self._loop.enter(self._ended)

    def changed(self) -> None:
        self._loop.enter(self._poke)

    # --- within the run ---------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        if self._open:
            self._retry_s = FIRST_RETRY_S
            self._settle(self._session.feed(data, self._now()))

    def _ended(self) -> None:
        if self._open:
            self._counts["lost"] += 1
            self._drop(LinkLoss.UNPLUGGED)
            self._retry_later()

    def _poke(self) -> None:
        if not self._open and not self._closed:
            self._retry_s = FIRST_RETRY_S
            self._try()

    def _try(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._closed or self._open:
            return
        if not self._wire.open(self):
            self._counts["open_failed"] += 1
            self._retry_later()
            return
        self._open = True
        self._counts["opened"] += 1
        self._settle(self._session.link_up(self._now()))

    def _retry_later(self) -> None:
        if not self._closed:
            self._retry = self._loop.call_later(self._retry_s, self._try)
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    def _drop(self, reason: LinkLoss) -> None:
        self._open = False
        self._settle(self._session.link_lost(self._now(), reason))

    def _due(self) -> None:
        self._timer = None
        deadline, now = self._session.next_deadline(), self._now()
        if deadline is not None and deadline <= now:
            self._settle(self._session.timer(now))
        else:
            self._arm()

    def _settle(self, observations: Iterable[Observation]) -> None:
        """After every call of the session: write what it has to say, arm its timer, pass on what it saw."""
        data = self._session.outgoing()
        if data and self._open:
            self._wire.write(self, data)
        self._arm()
        for observation in observations:
            self._observe(observation)

    def _arm(self) -> None:
        """A timer that comes too early is put off then: cheaper than a new one after each call."""
        deadline = None if self._closed else self._session.next_deadline()
        if deadline is None:
            return
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.alarm(max(0, deadline - self._now()), self._due)
