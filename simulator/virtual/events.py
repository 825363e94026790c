"""What can be seen of the world from outside, as events. ``at`` is always the world's time.

The world's time begins at 0 and never stops. A tablet's own boot clock begins at 0 with each boot, so the
times *within* an observation or an effect are the tablet's; ``World.clock.booted_at`` lies between them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from agent.core.quick import quick
from agent.core.records import Record, Stream
from agent.core.types import BootNs, Effect, Observation


@dataclass(frozen=True, slots=True)
class Event:
    at: BootNs


@dataclass(frozen=True, slots=True)
class Act(Event):
    """Somebody did something to the world: turned the key, took the tablet out, pressed the button."""

    what: str


@dataclass(frozen=True, slots=True)
class Fault(Event):
    name: str
    on: bool


@quick
@dataclass(frozen=True, slots=True)
class Observed(Event):
    """The agent took an observation in. ``state`` is its ``agent.core.state.State`` after it."""

    observation: Observation
    state: object


@quick
@dataclass(frozen=True, slots=True)
class Effected(Event):
    """The agent ran an effect."""

    effect: Effect


@dataclass(frozen=True, slots=True)
class Agent(Event):
    """A run of the agent began or ended."""

    what: str  # "started", "stopped", "killed", or "cut" off with all power
    run: int  # counts from 1


@dataclass(frozen=True, slots=True)
class Guard(Event):
    """A run of the guard began or ended."""

    what: str  # "started", "killed", or "cut" off with all power


@dataclass(frozen=True, slots=True)
class Power(Event):
    """The tablet as a machine: "on", "suspended" or "off"."""

    state: str


@dataclass(frozen=True, slots=True)
class LockState(Event):
    """The session's lock screen came up (True), or its owner opened it (False)."""

    locked: bool


@dataclass(frozen=True, slots=True)
class Usable(Event):
    """Whether a person can use the tablet now: it is on and its session is not locked."""

    usable: bool


@dataclass(frozen=True, slots=True)
class Held(Event):
    """``linked``: its own dock has power and is behind the tablet's wire. ``held``: it is seated too."""

    held: bool
    linked: bool


@quick
@dataclass(frozen=True, slots=True)
class Supply(Event):
    """The vehicle's battery, and what the dock takes of it for itself and the tablet."""

    vehicle_mv: int
    tablet_ma: int


@dataclass(frozen=True, slots=True)
class CanSent(Event):
    """Somebody other than the vehicle put a frame on its bus."""

    by: str


@dataclass(frozen=True, slots=True)
class DiskUse(Event):
    """Bytes in the queue's folder, looked at now and then."""

    size: int


@dataclass(frozen=True, slots=True)
class Awaited(Event):
    """The faults stopped long ago, and by now it should be so: ``what`` is "in use" or "asleep"."""

    what: str


@dataclass(frozen=True, slots=True)
class DockBytes(Event):
    """Bytes that were put on the dock's wire."""

    to_tablet: bool
    size: int


@dataclass(frozen=True, slots=True)
class Attempted(Event):
    """A producer handed records to the queue; ``ticket`` names the call."""

    ticket: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Committed(Event):
    """The queue told a producer that its records are durable: (first, last) sequence number by stream."""

    ticket: int
    seqs: tuple[tuple[Stream, int, int], ...]


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """The queue told a producer that it does not keep its records."""

    ticket: int
    why: str


@dataclass(frozen=True, slots=True)
class Acknowledged(Event):
    """The tablet's queue took the depot's word for a stream."""

    stream: Stream
    upto: int


class Row(Protocol):
    """A record as the depot reads it back."""

    @property
    def at(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def fields(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class Delivered(Event):
    """The depot committed blocks of a stream. ``rows``: (seq, row) of each record, or None for a gap."""

    stream: Stream
    epoch: bytes
    first: int
    last: int
    rows: tuple[tuple[int, Row], ...] | None


E = TypeVar("E", bound=Event)
Watch = Callable[[Event], None]
StepWatch = Callable[[BootNs, Observation, object], None]


class Events:
    """Hands events to whoever asked for their kind, in the order of asking. Costs nothing when nobody did.

    Observations come fifteen times a second: who wants no more than their parts takes them by
    ``subscribe_steps``, and if nobody else wants them no event is made.
    """

    def __init__(self) -> None:
        self._watches: defaultdict[type[Event], list[Callable[[Event], None]]] = defaultdict(list)
        self._for_all: list[Watch] = []
        self._steps: list[StepWatch] = []
        self._queue: deque[Event] = deque()
        self._telling = False

    def subscribe(self, watch: Watch, *kinds: type[Event]) -> None:
        """Call ``watch`` for events of these kinds; without kinds for every event."""
        if not kinds:
            self._for_all.append(watch)
        for kind in kinds:
            self._watches[kind].append(watch)

    def subscribe_steps(self, watch: StepWatch) -> None:
        """Call ``watch`` with the parts of every ``Observed``, before those that take it whole."""
        self._steps.append(watch)

    def wanted(self, kind: type[Event]) -> bool:
        """Whether anybody would be told: what nobody wants need not be made."""
        return bool(self._for_all) or kind in self._watches

    def observed(self, at: BootNs, observation: Observation, state: object) -> None:
        """Tell of an observation that the agent took in: the same to all as ``emit`` of an ``Observed``."""
        if self._telling or self._for_all or Observed in self._watches:
            self.emit(Observed(at, observation, state))
            return
        self._telling = True
        try:
            for watch in self._steps:
                watch(at, observation, state)
            if self._queue:
                self._tell_the_rest()
        finally:
            self._telling = False

    def emit(self, event: Event) -> None:
        """Tell of an event. What a watch emits is told after it, so that all see the same order."""
        if self._telling:
            self._queue.append(event)
            return
        self._telling = True
        try:
            self._tell(event)
            if self._queue:
                self._tell_the_rest()
        finally:
            self._telling = False

    def _tell_the_rest(self) -> None:
        try:
            while self._queue:
                self._tell(self._queue.popleft())
        finally:
            self._queue.clear()

    def _tell(self, event: Event) -> None:
        if isinstance(event, Observed):
            for step in self._steps:
                step(event.at, event.observation, event.state)
        for watch in self._watches.get(type(event), ()):
            watch(event)
        for watch in self._for_all:
            watch(event)
