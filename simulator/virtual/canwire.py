"""The vehicle's bus as a tablet receives it, in memory: frames in batches, and nothing the other way.

``CanWire`` conforms to ``simulator.faults.knobs.CanWireKnobs``. ``MemoryCan`` is the tablet's port on it and
does what ``drivers.ports.can`` does: it tells signals and the bus's state. It has no way to send.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from agent.core.types import MS, BootNs, BusState, CanBus, CanSignal, Counters, Observation
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.loop import VirtualLoop

BATCH_NS = 100 * MS  # drivers.ports.can drains a light bus so often
SILENT_S = 2.0  # as drivers.ports.can
REOPEN_FIRST_S, REOPEN_MAX_S = 0.25, 8.0  # as drivers.ports.can
ID_BYTES = 4  # of a struct can_frame
DATA_BYTES = 8
ACTIVE = BusState.ACTIVE  # by its own name: to look a member up in its class is slow


class Source(Protocol):
    """The vehicle's control units."""

    def frames(self) -> Sequence[bytes]:
        """Frames that are due now, each a struct can_frame; none while the bus sleeps."""

    def awake(self) -> bool: ...


class Listener(Protocol):
    def take(self, frames: Sequence[bytes]) -> None: ...
    def down(self) -> None: ...


class CanWire:
    """One bus. Frames are sent while somebody listens. ``heads``: the first half of a frame of each id."""

    def __init__(self, agenda: Agenda, rng: random.Random, source: Source, heads: Sequence[bytes]) -> None:
        self.silent = self.frozen = False
        self.foreign_period_ns = 0
        self.carried = 0  # frames
        self._bus_off = False
        self._agenda = agenda
        self._rng = rng
        self._source = source
        self._heads = heads
        self._listener: Listener | None = None
        self._entry: Entry | None = None
        self._last: Sequence[bytes] = ()  # frames, for the frozen knob
        self._foreign_at = BootNs(0)

    @property
    def bus_off(self) -> bool:
        return self._bus_off

    @bus_off.setter
    def bus_off(self, off: bool) -> None:
        self._bus_off = off
        listener = self._listener
        if off and listener is not None:
            self._listener = None
            listener.down()

    def open(self, listener: Listener) -> bool:
        """Listen; False while the interface is down."""
        if self._bus_off:
            return False
        self._listener = listener
        self.kick()
        return True

    def close(self, listener: Listener) -> None:
        if self._listener is listener:
            self._listener = None

    def kick(self) -> None:
        """The bus may have woken up."""
        if self._entry is None and self._listener is not None and self._alive():
            self._entry = self._agenda.after(BATCH_NS, self._batch)

    def _alive(self) -> bool:
        return self._source.awake() or self.foreign_period_ns > 0

    def _batch(self) -> None:
        self._entry = None
        frames = sent = self._source.frames()
        if self.frozen:
            last = {frame[:ID_BYTES]: frame for frame in self._last}
            frames = [last.get(frame[:ID_BYTES], frame) for frame in frames]
        elif len(frames) >= len(self._last):  # all of them, not only the quick ones
            self._last = frames
        if self.foreign_period_ns:
            frames = [*frames, *self._foreign()]
        if frames and self._listener is not None and not self.silent:
            self.carried += len(frames)
            self._listener.take(frames)
        if sent and self._entry is None and self._listener is not None:  # who sends is awake
            self._entry = self._agenda.after(BATCH_NS, self._batch)
        else:
            self.kick()

    def _foreign(self) -> Iterable[bytes]:
        """Ids collide across makes: the profile's, with anything as data."""
        self._foreign_at = max(self._foreign_at, BootNs(self._agenda.now - BATCH_NS))
        while self._foreign_at <= self._agenda.now:
            self._foreign_at = BootNs(self._foreign_at + self.foreign_period_ns)
            head = self._rng.choice(self._heads)
            yield head + self._rng.randbytes(DATA_BYTES)


class Profile(Protocol):
    """What the port asks of a compiled profile: ``drivers.vehicles.watch.CompiledProfile``."""

    @property
    def counters(self) -> Counters: ...
    def feed(self, frames: Iterable[bytes], at: BootNs) -> list[CanSignal]: ...


class MemoryCan:
    """The tablet's port, on the loop of one run of the agent."""

    def __init__(
        self,
        loop: VirtualLoop,
        wire: CanWire,
        bus: str,
        profile: Profile,
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
    ) -> None:
        self.state: BusState | None = None
        self._loop = loop
        self._wire = wire
        self._bus = bus
        self._profile = profile
        self._observe = observe
        self._now = now
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0  # loop time
        self._reopen_s = REOPEN_FIRST_S

    @property
    def counters(self) -> Counters:
        return self._profile.counters

    def start(self) -> None:
        if self._wire.open(self):
            self._wait(SILENT_S, self._quiet)
        else:
            self._is_down()

    def close(self) -> None:
        self._wire.close(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take(self, frames: Sequence[bytes]) -> None:
        if not self._loop.frozen:
            self._loop.enter(self._taken, frames)

    def down(self) -> None:
        self._loop.enter(self._is_down)

    def _taken(self, frames: Sequence[bytes]) -> None:
        self._heard_at = self._loop.time()
        self._reopen_s = REOPEN_FIRST_S
        if self.state is not ACTIVE:
            self._turn(ACTIVE)
        for signal in self._profile.feed(frames, self._now()):
            self._observe(signal)

    def _quiet(self) -> None:
        left_s = self._heard_at + SILENT_S - self._loop.time()
        if left_s > 0:
            self._wait(left_s, self._quiet)
        else:
            self._turn(BusState.SILENT)

    def _is_down(self) -> None:
        self._turn(BusState.DOWN)
        self._wait(self._reopen_s, self.start)
        self._reopen_s = min(2 * self._reopen_s, REOPEN_MAX_S)

    def _turn(self, state: BusState) -> None:
        if state is self.state:
            return
        self.state = state
        if state is ACTIVE:
            self._wait(SILENT_S, self._quiet)
        self._observe(CanBus(self._now(), self._bus, state))

    def _wait(self, delay_s: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, then)
