"""What an outside observer knows at a moment: where the tablet is, what came over its wires, who can use it.

Several invariants ask the same questions, five times a second: this answers them once. What matters rarely is
told as an event of its own: ``EvidenceGap``, ``Implausible``, ``Unseated``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CanSignal,
    DockProof,
    DockStatus,
    KeyPosition,
    Observation,
    SignalKind,
    TabletPower,
)
from simulator.invariants.leave import GrantLimits, Leave
from simulator.virtual.events import (
    Agent,
    Attempted,
    Committed,
    Event,
    Fault,
    Guard,
    Held,
    Power,
    Refused,
    Usable,
)

NEVER = BootNs(-(1 << 62))
# By their own names: to look a member up in its class is slow, and this is asked all the time.
ENGINE_SPEED, IGNITION, BATTERY = SignalKind.ENGINE_SPEED, SignalKind.IGNITION, SignalKind.BATTERY
KEY_START, KEY_ON, KEY_OFF = KeyPosition.START, KeyPosition.ON, KeyPosition.OFF
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Limits:
    """The figures of the policy that the invariants speak of, in ns, mV and percent."""

    ride_through_ns: int = 4 * SECOND
    crank_ride_through_ns: int = 10 * SECOND
    crank_fall_mv: int = 1500
    crank_max_ns: int = 60 * SECOND
    status_fresh_ns: int = 1500 * MS
    proof_fresh_ns: int = 60 * SECOND
    budget_ns: int = 60 * SECOND
    refill_after_ns: int = 300 * SECOND
    return_ns: int = 500 * MS
    wire_fresh_ns: int = 1500 * MS
    can_fresh_ns: int = 2 * SECOND
    voltage_fresh_ns: int = 3 * SECOND
    on_debounce_ns: int = 500 * MS
    settle_ns: int = 2 * SECOND
    stuck_ns: int = 600 * SECOND
    running_rpm: int = 400
    run_on_ns: int = 900 * SECOND
    drain_ns: int = 15 * SECOND
    cut_ns: int = 30 * SECOND
    filter_ns: int = 10 * SECOND
    act_mv: int = 11_500
    act_ns: int = 30 * SECOND
    warn_ns: int = 60 * SECOND
    hard_floor_percent: int = 5
    grants: GrantLimits = field(default_factory=GrantLimits)


@dataclass(frozen=True, slots=True)
class EvidenceGap(Event):
    """Good evidence came again after none had been fresh since ``begun``, which is when the last was good."""

    begun: BootNs


@dataclass(frozen=True, slots=True)
class Implausible(Event):
    """The agent took something for the paired dock's word that this dock cannot have said."""

    what: str


@dataclass(frozen=True, slots=True)
class Overgranted(Event):
    """The agent granted what nobody can have had from it."""

    what: str


@dataclass(frozen=True, slots=True)
class Unseated(Event):
    """The first authenticated word that the tablet is out of its seat, or (``out`` False) that it is back."""

    out: bool


@dataclass(slots=True)
class Said(Generic[V]):
    """What a source last said, and when it was so."""

    value: V | None = None
    at: BootNs = NEVER

    def fresh(self, now: BootNs, limit_ns: int) -> bool:
        return now < self.at + limit_ns


class Facts:
    """Told of every event of ``kinds``, and of what the agent observed, before anybody else."""

    kinds: ClassVar[tuple[type[Event], ...]] = (
        Held,
        Power,
        Usable,
        Agent,
        Guard,
        Fault,
        Attempted,
        Committed,
        Refused,
    )

    def __init__(self, limits: Limits, tell: Callable[[Event], None] = lambda event: None) -> None:
        self.limits = limits
        self.held = self.linked = False
        self.power = "off"
        self.usable = False
        self.usable_since = NEVER
        self.agent_since: BootNs | None = None  # None: it does not run
        self.guard_since: BootNs | None = None  # the same of the guard
        self.faults: dict[str, int] = {}  # those that are on, by name, with how many times
        self.faulty_until = dict[str, BootNs]()  # when one of a name last ended
        self.evidence_at = NEVER  # when the tablet was last proved to be in its seat
        self.evidence_since = NEVER  # since when that has been so without a gap
        self.proof_at = NEVER
        self.crank_at = NEVER  # last sign of a starter at work
        self.tablet: Said[TabletPower] = Said()
        self.on_since: BootNs | None = None  # a source has said ON without a break
        self._on_until = NEVER  # when one last had, for longer than the debounce
        self._on_at = NEVER  # when one last said ON
        self._forget()
        self._held_until = self._linked_until = NEVER
        self._unseated = False
        self.leave = Leave(limits.grants)
        self._tell = tell

    # --- questions ------------------------------------------------------------------------------------

    def held_within(self, since: BootNs) -> bool:
        """Whether the tablet was in its own dock at any time from ``since`` on."""
        return self.held or self._held_until >= since

    def linked_within(self, since: BootNs) -> bool:
        """The same, seated or not: its own dock was at the other end of its wire."""
        return self.linked or self._linked_until >= since

    @property
    def entitled_until(self) -> BootNs:
        """How long the tablet may be used without better evidence than there has been, or by a grant."""
        limits = self.limits
        cranks = self.crank_at >= self.evidence_at - limits.crank_max_ns
        ride_ns = limits.crank_ride_through_ns if cranks else limits.ride_through_ns
        return BootNs(max(self.evidence_at + ride_ns, self.leave.until))

    def stuck(self, now: BootNs) -> bool:
        """The wire has said ON for so long against all else that it counts as stuck."""
        since = self._contradicted_since
        return since is not None and now - since >= self.limits.stuck_ns

    def says_on(self, now: BootNs) -> str:
        """Which fresh source says that the ignition is on; empty if none does."""
        limits = self.limits
        if self.wire.value is True and self.wire.fresh(now, limits.wire_fresh_ns) and not self.stuck(now):
            return "the dock's KL15"
        if self.key.value in (KEY_ON, KEY_START) and self.key.fresh(now, limits.can_fresh_ns):
            return "CAN"
        if self.engine.value and self.engine.fresh(now, limits.can_fresh_ns):
            return "the engine"
        return ""

    @property
    def on_until(self) -> BootNs:
        """When a source that is not stuck last said ON, after it had been said for longer than any delay."""
        began, at = self.on_since, self._on_at
        if self._contradicted_since is not None:
            at = BootNs(min(at, self._contradicted_since + self.limits.stuck_ns))
        # Contradicted for almost the settling time, and then no more, it is debounced from there on.
        if began is not None and at - began >= self.limits.settle_ns + self.limits.on_debounce_ns + SECOND:
            return at
        return self._on_until

    def says_off(self, now: BootNs) -> bool:
        """Whether any fresh source says OFF, or ACCESSORY, or did until this moment."""
        limits = self.limits
        if now == self._off_until:
            return True  # what is due is decided before what comes at the same moment is taken in
        off = self.key.value in (KEY_OFF, KeyPosition.ACCESSORY)
        return (self.wire.value is False and self.wire.fresh(now, limits.wire_fresh_ns)) or (
            off and self.key.fresh(now, limits.can_fresh_ns)
        )

    def lately(self, fault: str, now: BootNs, within_ns: int) -> bool:
        """Whether a fault of that name is on, or was on within the time."""
        return fault in self.faults or now - self.faulty_until.get(fault, NEVER) < within_ns

    # --- taking in ------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        match event:
            case Held():
                if self.held and not event.held:
                    self._held_until = event.at
                if self.linked and not event.linked:
                    self._linked_until = event.at
                self.held, self.linked = event.held, event.linked
            case Power():
                self.power = event.state
                self.leave.power(event.at, event.state)
            case Attempted():
                for record in event.records:
                    self._granted(event.at, self.leave.recorded(event.at, event.ticket, record))
            case Committed():
                self._granted(event.at, self.leave.committed(event.at, event.ticket))
            case Refused():
                self._granted(event.at, self.leave.refused(event.ticket))
            case Usable():
                self.usable = event.usable
                if event.usable:
                    self.usable_since = event.at
            case Agent():
                self.agent_since = event.at if event.what == "started" else None
                if event.what == "started":
                    self._forget()
                    self.leave.run_ended()
            case Guard():
                self.guard_since = event.at if event.what == "started" else None
            case Fault():
                count = self.faults.pop(event.name, 0) + (1 if event.on else -1)
                if count > 0:
                    self.faults[event.name] = count
                self.faulty_until[event.name] = event.at
            case _:
                pass

    def _granted(self, at: BootNs, too_much: str) -> None:
        if too_much:
            self._tell(Overgranted(at, too_much))

    def _forget(self) -> None:
        """A new run of the agent has heard nothing yet."""
        self.wire: Said[bool] = Said()  # KL15, authenticated
        self.key: Said[int | bool | KeyPosition] = Said()
        self.engine: Said[bool] = Said()  # whether it turns
        self.voltage: Said[int] = Said()
        self._contradicted_since: BootNs | None = None  # the wire says ON, CAN OFF, and nothing turns
        self.on_since = None
        self._off_until = NEVER
        self.proof_at = NEVER

    def observed(self, now: BootNs, observation: Observation, _state: object) -> None:
        """Fifteen times a second: the parts of an ``Observed``."""
        if isinstance(observation, CanSignal):
            self._signal(now, observation)
        elif isinstance(observation, DockStatus):
            if observation.authenticated:
                self._status(now, observation)
        elif isinstance(observation, DockProof):
            at = BootNs(now - observation.at + observation.evidence_at)
            self.proof_at = at
            if not self.linked_within(at):
                self._tell(Implausible(now, f"a proof that is {_s(now - at)} old"))
        elif isinstance(observation, TabletPower):
            self.tablet.value, self.tablet.at = observation, now
        else:
            self.leave.observed(now, observation)

    def _status(self, now: BootNs, status: DockStatus) -> None:
        at = BootNs(now - status.at + status.evidence_at)
        limits = self.limits
        # What a relay held back and lets go behind newer words is no newer for it.
        if status.kl15 is not None and at >= self.wire.at:
            self._says(self.wire, status.kl15, at, now, limits.wire_fresh_ns, on=status.kl15)
        mv = status.vehicle_mv
        if mv is not None:
            before = self.voltage.value
            if before is not None and before - mv > limits.crank_fall_mv:
                self.crank_at = now
            self.voltage.value, self.voltage.at = mv, now
        if not status.seated:
            if status.seated is False and not self._unseated:
                self._unseated = True
                self._tell(Unseated(now, True))
            return
        if not self.held and self._held_until < at:
            self._tell(
                Implausible(now, f"an authenticated STATUS with seated set that is {_s(now - at)} old")
            )
            return
        if self._unseated:
            self._unseated = False
            self._tell(Unseated(now, False))
        if now - self.proof_at >= limits.proof_fresh_ns or at < self.evidence_at:
            return
        if at - self.evidence_at >= limits.status_fresh_ns:
            self._tell(EvidenceGap(now, self.evidence_at))
            self.evidence_since = at
        self.evidence_at = at
        if at - self.evidence_since >= limits.grants.refill_ns:
            self.leave.refilled()

    def _signal(self, now: BootNs, signal: CanSignal) -> None:
        kind, value = signal.kind, signal.value
        if kind is ENGINE_SPEED and isinstance(value, int):
            if 0 < value < self.limits.running_rpm:
                self.crank_at = now
            turns = value > 0
            # Of the engine only whether it turns: its speed is never the same twice.
            self._says(self.engine, turns, now, now, self.limits.can_fresh_ns, on=turns)
        elif kind is IGNITION:
            if value is KEY_START:
                self.crank_at = now
            on = value is KEY_ON or value is KEY_START
            self._says(self.key, value, now, now, self.limits.can_fresh_ns, on=on)
        elif kind is BATTERY and isinstance(value, int):
            self.voltage.value, self.voltage.at = value, now

    def _says(self, source: Said[V], value: V, at: BootNs, now: BootNs, fresh_ns: int, *, on: bool) -> None:
        """A source of the ignition says something; most say what they said before."""
        if at - source.at >= fresh_ns:
            self._compare(now)  # it had said nothing for a while; perhaps nobody had
            self._contradicted_since = None
        elif value == source.value:
            source.at = at
            if on and at > self._on_at:
                self._on_at = at
            return
        if on and at > self._on_at:
            self._on_at = at
        if self.says_off(now):
            self._off_until = now
        source.value, source.at = value, at
        self._compare(now)

    def _compare(self, now: BootNs) -> None:
        """What the sources say together, after one of them said something else."""
        if self.stuck(now):
            self._on_until, self.on_since = self.on_until, None
        if self.wire.value and self.key.value is KEY_OFF and not self.engine.value:
            if self._contradicted_since is None:
                self._contradicted_since = now
        else:
            self._contradicted_since = None
        if self.says_on(now):
            if self.on_since is None:
                self.on_since = now
        elif self.on_since is not None:
            self._on_until, self.on_since = self.on_until, None


def _s(ns: int) -> str:
    return f"{ns / SECOND:.3f} s"
