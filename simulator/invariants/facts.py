"""What an outside observer knows at a moment: where the tablet is, what came over its wires, who can use it.

Several invariants ask the same questions, five times a second: this answers them once. What matters rarely is
told as an event of its own: ``EvidenceGap``, ``Implausible``, ``Unseated``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

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
from simulator.virtual.events import Agent, Event, Fault, Held, Observed, Power, Usable

NEVER = BootNs(-(1 << 62))


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


@dataclass(frozen=True, slots=True)
class EvidenceGap(Event):
    """Good evidence came again after none had been fresh since ``begun``, which is when the last was good."""

    begun: BootNs


@dataclass(frozen=True, slots=True)
class Implausible(Event):
    """The agent took something for the paired dock's word that this dock cannot have said."""

    what: str


@dataclass(frozen=True, slots=True)
class Unseated(Event):
    """The first authenticated word that the tablet is out of its seat."""


@dataclass(slots=True)
class Said:
    """What a source last said, and when it was so."""

    value: object = None
    at: BootNs = NEVER

    def fresh(self, now: BootNs, limit_ns: int) -> bool:
        return now < self.at + limit_ns


class Facts:
    """Told of every event of ``kinds``, before anybody else."""

    kinds: ClassVar[tuple[type[Event], ...]] = (Observed, Held, Power, Usable, Agent, Fault)

    def __init__(self, limits: Limits, tell: Callable[[Event], None] = lambda event: None) -> None:
        self.limits = limits
        self.held = self.linked = False
        self.power = "off"
        self.usable = False
        self.usable_since = NEVER
        self.agent_since: BootNs | None = None  # None: it does not run
        self.faults: dict[str, int] = {}  # those that are on, by name, with how many times
        self.faulty_until = dict[str, BootNs]()  # when one of a name last ended
        self.evidence_at = NEVER  # when the tablet was last proved to be in its seat
        self.evidence_since = NEVER  # since when that has been so without a gap
        self.proof_at = NEVER
        self.crank_at = NEVER  # last sign of a starter at work
        self.wire = Said()  # KL15, authenticated
        self.key = Said()
        self.rpm = Said()
        self.voltage = Said()
        self.tablet = Said()  # TabletPower
        self.on_since: BootNs | None = None  # a source has said ON without a break
        self.on_until = NEVER  # when one last said so, for longer than the debounce
        self.contradicted_since: BootNs | None = None  # the wire says ON, CAN says OFF, and nothing turns
        self._held_until = self._linked_until = NEVER
        self._unseated = False
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
        """How long the tablet may be used without better evidence than there has been."""
        limits = self.limits
        cranks = self.crank_at >= self.evidence_at - limits.crank_max_ns
        return BootNs(self.evidence_at + (limits.crank_ride_through_ns if cranks else limits.ride_through_ns))

    def stuck(self, now: BootNs) -> bool:
        """The wire has said ON for so long against all else that it counts as stuck."""
        since = self.contradicted_since
        return since is not None and now - since >= self.limits.stuck_ns

    def says_on(self, now: BootNs) -> str:
        """Which fresh source says that the ignition is on; empty if none does."""
        limits = self.limits
        if self.wire.value is True and self.wire.fresh(now, limits.wire_fresh_ns) and not self.stuck(now):
            return "the dock's KL15"
        if self.key.value in (KeyPosition.ON, KeyPosition.START) and self.key.fresh(now, limits.can_fresh_ns):
            return "CAN"
        if (
            isinstance(self.rpm.value, int)
            and self.rpm.value > 0
            and self.rpm.fresh(now, limits.can_fresh_ns)
        ):
            return "the engine"
        return ""

    def says_off(self, now: BootNs) -> bool:
        """Whether any fresh source says OFF, or ACCESSORY."""
        limits = self.limits
        off = self.key.value in (KeyPosition.OFF, KeyPosition.ACCESSORY)
        return (self.wire.value is False and self.wire.fresh(now, limits.wire_fresh_ns)) or (
            off and self.key.fresh(now, limits.can_fresh_ns)
        )

    def lately(self, fault: str, now: BootNs, within_ns: int) -> bool:
        """Whether a fault of that name is on, or was on within the time."""
        return fault in self.faults or now - self.faulty_until.get(fault, NEVER) < within_ns

    # --- taking in ------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        match event:
            case Observed():
                self._observed(event.at, event.observation)
            case Held():
                if self.held and not event.held:
                    self._held_until = event.at
                if self.linked and not event.linked:
                    self._linked_until = event.at
                self.held, self.linked = event.held, event.linked
            case Power():
                self.power = event.state
            case Usable():
                self.usable = event.usable
                if event.usable:
                    self.usable_since = event.at
            case Agent():
                self.agent_since = event.at if event.what == "started" else None
                if event.what == "started":
                    self._forget()
            case Fault():
                count = self.faults.pop(event.name, 0) + (1 if event.on else -1)
                if count > 0:
                    self.faults[event.name] = count
                self.faulty_until[event.name] = event.at
            case _:
                pass

    def _forget(self) -> None:
        """A new run of the agent has heard nothing yet."""
        self.wire, self.key, self.rpm, self.voltage = Said(), Said(), Said(), Said()
        self.on_since = self.contradicted_since = None
        self.proof_at = NEVER

    def _observed(self, now: BootNs, observation: Observation) -> None:
        if isinstance(observation, DockStatus):
            if observation.authenticated:
                self._status(now, observation)
        elif isinstance(observation, CanSignal):
            self._signal(now, observation)
        elif isinstance(observation, DockProof):
            at = BootNs(now - observation.at + observation.evidence_at)
            self.proof_at = at
            if not self.linked_within(at):
                self._tell(Implausible(now, f"a proof that is {_s(now - at)} old"))
        elif isinstance(observation, TabletPower):
            self.tablet = Said(observation, now)

    def _status(self, now: BootNs, status: DockStatus) -> None:
        at = BootNs(now - status.at + status.evidence_at)
        if status.kl15 is not None:
            self.wire = Said(status.kl15, at)
            self._follow_on(now)
        if status.vehicle_mv is not None:
            before, self.voltage = self.voltage, Said(status.vehicle_mv, now)
            if isinstance(before.value, int) and before.value - status.vehicle_mv > self.limits.crank_fall_mv:
                self.crank_at = now
        if status.seated is False:
            if not self._unseated:
                self._unseated = True
                self._tell(Unseated(now))
            return
        if status.seated is None:
            return
        if not self.held_within(at):
            self._tell(
                Implausible(now, f"an authenticated STATUS with seated set that is {_s(now - at)} old")
            )
            return
        self._unseated = False
        if now - self.proof_at >= self.limits.proof_fresh_ns or at < self.evidence_at:
            return
        if at - self.evidence_at >= self.limits.status_fresh_ns:
            self._tell(EvidenceGap(now, self.evidence_at))
            self.evidence_since = at
        self.evidence_at = at

    def _signal(self, now: BootNs, signal: CanSignal) -> None:
        if signal.kind is SignalKind.IGNITION:
            self.key = Said(signal.value, now)
            if signal.value is KeyPosition.START:
                self.crank_at = now
        elif signal.kind is SignalKind.ENGINE_SPEED:
            self.rpm = Said(signal.value, now)
            if isinstance(signal.value, int) and 0 < signal.value < self.limits.running_rpm:
                self.crank_at = now
        elif signal.kind is SignalKind.BATTERY:
            self.voltage = Said(signal.value, now)
            return
        else:
            return
        self._follow_on(now)

    def _follow_on(self, now: BootNs) -> None:
        wire_on = self.wire.value is True and self.wire.fresh(now, self.limits.wire_fresh_ns)
        if wire_on and self.key.value is KeyPosition.OFF and not self.rpm.value:
            if self.contradicted_since is None:
                self.contradicted_since = now
        else:
            self.contradicted_since = None
        if not self.says_on(now):
            self.on_since = None
        elif self.on_since is None:
            self.on_since = now
        elif now - self.on_since >= self.limits.on_debounce_ns + SECOND:
            self.on_until = now


def _s(ns: int) -> str:
    return f"{ns / SECOND:.3f} s"
