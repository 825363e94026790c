"""What dock, bus and supplies report to an agent, as observations: their wires are left out.

Event by event: what says nothing new is said only as often as keeps it fresh, and once more when its source
falls silent, so that evidence is as old as it would be. Under a fault of the line every STATUS is sent.
``DockReports`` and ``BusReports`` conform to the knobs of the wires that they stand for.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    BusState,
    CanBus,
    CanSignal,
    DockFault,
    DockForeign,
    DockIdent,
    DockLinkLost,
    DockLinkUp,
    DockProof,
    DockStatus,
    DriveOutputs,
    ForeignReason,
    KeyPosition,
    LinkLoss,
    SignalKind,
    TabletPower,
)
from simulator.docks.reference_outputs import Actuators, Inputs
from simulator.faults.knobs import Behind
from simulator.vehicle import RUNNING, Vehicle
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.decider import Decider

STATUS_NS = 200 * MS  # docs/dock-link.md: 5 Hz
STEADY_NS = 3 * STATUS_NS  # where one STATUS is as the other, two of three are left out
PROOF_NS = 30 * SECOND  # docs/dock-link.md
ANSWER_NS = 15 * MS  # ours: what a challenge and its answer take at 115200 baud
AGAIN_NS = SECOND  # docs/dock-link.md: a challenge for want of a tag comes at most once a second
LEASE_NS, LEASE_MS = 450 * MS, 5000  # drivers.docks.reference.session; evidence is as old as a lease
BAD_MACS_NS = 3 * SECOND  # docs/dock-link.md: three running, one a second
STALE_NS = 5 * SECOND  # drivers.docks.reference.session
FRAME_BYTES = 44  # a tagged STATUS on the wire
BATCH_NS = 100 * MS  # drivers.ports.can drains a light bus so often
FRESH_NS = 500 * MS  # drivers.vehicles.watch tells again so often what did not change
SILENT_NS = 2 * SECOND  # drivers.ports.can
LOOK_NS, SETTLE_NS = 30 * SECOND, SECOND // 2  # drivers.ports.power_supply
# By their own names: to look a member up in its class takes long, fifteen times a second.
NO_FAULT, ACTIVE, OFF = DockFault.NONE, BusState.ACTIVE, KeyPosition.OFF
IGNITION, ENGINE_SPEED, READY = SignalKind.IGNITION, SignalKind.ENGINE_SPEED, SignalKind.READY
DOCK, BUS = "vehicle", "powertrain"
STRANGERS = (Behind.FOREIGN, Behind.TWIN, Behind.FORGER)  # they answer challenges, with wrong macs
_BITS = (
    ("latch", 1),
    ("led", 2),
    ("buzzer", 4),
    ("power_hold", 8),
    ("supply_enable", 16),
)  # docs/dock-link.md


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a dock and a bus say what is not new, in ns; a policy's freshness must be above it."""

    status_ns: int = STEADY_NS
    signal_ns: int = FRESH_NS
    physics_ns: int = SECOND  # how often the vehicle's voltage is worked out while the tablet is on


FIELD = Pace()


class DockReports:
    """A dock at the end of a line, or what has come in its place; ``changed``: it may switch the supply."""

    def __init__(
        self,
        agenda: Agenda,
        rng: random.Random,
        tablet: Decider,
        changed: Callable[[], None],
        steady_ns: int = STEADY_NS,
    ) -> None:
        self.lose_permille = self.flip_permille = self.split_bytes = 0
        self.merge_ns = self.delay_ns = 0
        self.duplicate_permille = self.replay_permille = self.change_permille = 0
        self.bystander = False  # of it nothing comes while the paired dock is in session
        self.version: int | None = None  # a frame of another one is lost
        self.inputs = Inputs()
        self.actuators = Actuators(agenda.now)
        self.plugged: Callable[[], None] = lambda: None  # called when something else is there
        self._agenda = agenda
        self._rng = rng
        self._tablet = tablet
        self._changed = changed
        self._steady_ns = steady_ns
        self.life: Behind | None = None  # what its life has there; None is its own dock
        self._fault: Behind | None = None
        self._dark = False
        self._up = False  # the path is open
        self._proved = False
        self._proof_at = BootNs(0)  # the next one
        self._arrives_at = BootNs(0)  # the latest STATUS, if it is on its way
        self._told: DockStatus | None = None  # the latest STATUS of this session
        self._told_at = BootNs(0)
        self._entry: Entry | None = None

    # --- what is there --------------------------------------------------------------------------------

    def plug(self, behind: Behind | None, after_bytes: int = 0) -> None:
        self._put(self.life, behind)

    def dock(self, behind: Behind | None) -> None:
        """The life's layer."""
        self._put(behind, self._fault)

    def brown_out(self, dark: bool) -> None:
        """The dock is without power, or comes back and has forgotten its session."""
        if dark is not self._dark:
            self._catch_up()
            self._dark, self._proved = dark, False
            if not dark:
                self.actuators.start_dead_man(self._agenda.now)
                self._proof_at = BootNs(self._agenda.now + AGAIN_NS)
            self.plugged()

    @property
    def behind(self) -> Behind | None:
        return self.life if self._fault is None else self._fault

    @property
    def linked(self) -> bool:
        return self.behind is None and not self._dark

    def _put(self, life: Behind | None, fault: Behind | None) -> None:
        before = self.behind
        self._catch_up()
        self.life, self._fault = life, fault
        if self.behind is not before:
            self._link_lost(LinkLoss.UNPLUGGED)
            self.plugged()
            self.begin()

    def begin(self) -> None:
        """Somebody opens the path; again after a sleep, in which nothing was heard."""
        if not self._tablet.hears or self.behind is Behind.NOTHING:
            return
        at = self._tablet.boot_time()
        if not self._up:
            self._up, self._proved = True, False
            self._tablet.take(DockLinkUp(at, DOCK))
        self._proof_at = BootNs(self._agenda.now + ANSWER_NS)
        if self.behind in STRANGERS:
            self._agenda.after(BAD_MACS_NS, self._foreign)
        self._tick_at(self._proof_at)

    def ended(self) -> None:
        """The agent is gone: so is what it had open."""
        self._up = self._proved = False

    def _link_lost(self, why: LinkLoss) -> None:
        if self._up:
            self._up = self._proved = False
            self._tablet.take(DockLinkLost(self._tablet.boot_time(), DOCK, why))

    def _foreign(self) -> None:
        if self.behind in STRANGERS and self._up:
            at = self._tablet.boot_time()
            asked = BootNs(at - ANSWER_NS)
            self._tablet.take(DockForeign(at, DOCK, ForeignReason.BAD_MAC, asked))

    # --- what it says ---------------------------------------------------------------------------------

    def kick(self) -> None:
        """Something that STATUS shows changed."""
        if self._up and self._proved:
            self._tick_at(self._agenda.now)

    def _tick_at(self, at: BootNs) -> None:
        if self._entry is not None:
            self._entry.cancel()
        self._entry = self._agenda.at(at, self._tick)

    def _tick(self) -> None:
        self._entry = None
        if not self._up or not self._tablet.hears:
            return
        now = self._agenda.now
        if self.life is None and self._fault is None and not self._dark:  # linked
            if now >= self._proof_at and self._survives():
                self._prove(now)
            if self._proved and self._survives():
                self.actuators.lease(LEASE_MS, now)
                self._report(now)
        self._tick_at(BootNs(now + (STATUS_NS if self._troubled() else self._steady_ns)))

    def _troubled(self) -> bool:
        """Whether anything is between the dock and its agent that a single STATUS can fall to."""
        return bool(
            self.lose_permille or self.flip_permille or self.change_permille
            or self.delay_ns or self.version is not None or not self._proved
        )  # fmt: skip

    def _catch_up(self) -> None:
        """Say what was left out last, before nothing is said any more."""
        now, told = self._agenda.now, self._told
        left_out = (now - self._told_at) // STATUS_NS
        if told is None or not left_out or not (self._up and self._proved and self.linked):
            return
        if self._troubled():  # nothing was left out: what did not come was lost
            return
        ago = now - self._told_at - left_out * STATUS_NS
        at = BootNs(self._tablet.boot_time() - ago)
        self._tablet.take(replace(told, at=at, evidence_at=self._asked(at, BootNs(now - ago))))

    def _asked(self, at: BootNs, now: BootNs) -> BootNs:
        """When the lease was asked for that a STATUS of ``now`` answers to."""
        return BootNs(max(at - now % LEASE_NS - self.delay_ns, 0))

    def _prove(self, now: BootNs) -> None:
        at = self._tablet.boot_time()
        if not self._proved:
            self._told = None
            ident = DockIdent(at, DOCK, "DK-000007", "WV1ZZZ7HZNH000007", "model", (1, 0), 0)
            self._tablet.take(ident)
        self._proved = True
        self._proof_at = BootNs(now + PROOF_NS)
        self._tablet.take(DockProof(at, DOCK, BootNs(at - min(ANSWER_NS, at))))

    def _report(self, now: BootNs) -> None:
        """STATUS, as old as the last lease that was answered before it."""
        inputs, at = self.inputs, self._tablet.boot_time()
        status = DockStatus(
            at, DOCK, self._asked(at, now), True, inputs.seated, inputs.mated, False, inputs.kl15,
            inputs.vehicle_mv, inputs.dock_mv, inputs.tablet_ma, inputs.temperature_dc, NO_FAULT,
        )  # fmt: skip
        if self.delay_ns >= STALE_NS:
            return
        self._told, self._told_at = status, now
        wait_ns = max(self.delay_ns, self._arrives_at - now)  # nothing overtakes on a line
        if wait_ns <= 0:
            self._tablet.take(status)
        else:
            self._arrives_at = BootNs(now + wait_ns)
            late = replace(status, at=BootNs(at + wait_ns))
            self._tablet.soon(wait_ns, partial(self._tablet.take, late))

    def _survives(self) -> bool:
        """Whether a frame gets through bytes that are lost or flipped."""
        if self.version is not None:
            return False
        if self.change_permille and self._rng.randrange(1000) < self.change_permille:
            return False
        if not (self.lose_permille or self.flip_permille):
            return True
        bad = self.lose_permille + self.flip_permille
        return self._rng.random() < (max(0, 1000 - bad) / 1000) ** FRAME_BYTES

    # --- what the agent asks for ----------------------------------------------------------------------

    def drive(self, outputs: DriveOutputs) -> None:
        if self.linked and self._proved:
            for name, bit in _BITS:
                value = getattr(outputs, name)
                if value is not None:
                    self.actuators.set(bit, bit if value else 0)
            self._agenda.after(0, self._changed)

    def cut_in(self, seconds: int | None) -> None:
        if self.linked and self._proved:
            self.actuators.plan_cut(None if seconds is None else BootNs(self._agenda.now + seconds * SECOND))
            self._agenda.after(0, self._changed)

    def prove(self) -> None:
        if self._up:
            self._proof_at = BootNs(self._agenda.now + ANSWER_NS)
            self._tick_at(self._proof_at)


class BusReports:
    """The vehicle's bus: decoded signals when key or engine change, and as often as keeps them fresh."""

    def __init__(
        self,
        agenda: Agenda,
        tablet: Decider,
        vehicle: Vehicle,
        alive: Callable[[], bool],
        again_ns: int = FRESH_NS,
    ) -> None:
        self.silent = self.frozen = False
        self.foreign_period_ns = 0  # frames of another make do not count: nothing comes of them
        self._bus_off = False
        self._agenda = agenda
        self._tablet = tablet
        self._vehicle = vehicle
        self._alive = alive
        self._again_ns = again_ns
        self._state: BusState | None = None
        self._entry: Entry | None = None
        self._heard_at = BootNs(0)
        self._says: tuple[object, ...] = ()

    @property
    def bus_off(self) -> bool:
        return self._bus_off

    @bus_off.setter
    def bus_off(self, off: bool) -> None:
        self._bus_off = off
        if off:
            self._turn(BusState.DOWN)
        else:
            self.begin()

    def begin(self) -> None:
        """An agent listens anew."""
        self._state = None
        self._heard_at = self._agenda.now
        self.kick()

    def kick(self) -> None:
        """The bus may have woken up, or have something new to say."""
        if not self._tablet.hears or self._bus_off:
            return
        says = (self._vehicle.key, self._vehicle.key_in, self._vehicle.engine)
        if self._entry is not None:
            if says == self._says:
                return
            self._entry.cancel()
        self._says = says
        self._entry = self._agenda.after(BATCH_NS, self._listen)

    def _listen(self) -> None:
        self._entry = None
        if not self._tablet.hears or self._bus_off:
            return
        now = self._agenda.now
        if self._alive() and not self.silent:
            self._heard_at = now
            if self._state is not ACTIVE:
                self._turn(ACTIVE)
            if not self.frozen:
                self._signals(now)
        elif now - self._heard_at >= SILENT_NS:
            self._turn(BusState.SILENT)
            if not self._alive():
                return
        # A silent bus is looked at as often as a port does.
        self._entry = self._agenda.after(self._again_ns if self._alive() else FRESH_NS, self._listen)

    def _signals(self, now: BootNs) -> None:
        vehicle, take = self._vehicle, self._tablet.take
        key = vehicle.key
        if key is OFF and vehicle.key_in:
            key = KeyPosition.ACCESSORY  # KL_S without KL15
        at = self._tablet.boot_time()
        take(CanSignal(at, BUS, IGNITION, key))
        if vehicle.spec.electric:
            take(CanSignal(at, BUS, READY, vehicle.engine is RUNNING))
        else:
            take(CanSignal(at, BUS, ENGINE_SPEED, vehicle.rpm_at(now)))

    def _turn(self, state: BusState) -> None:
        if state is not self._state:
            self._state = state
            self._tablet.take(CanBus(self._tablet.boot_time(), BUS, state))


class SupplyReports:
    """The tablet's own supplies, looked at now and then, and soon after one came or went."""

    def __init__(self, agenda: Agenda, tablet: Decider) -> None:
        self._agenda = agenda
        self._tablet = tablet
        self._last: TabletPower | None = None
        self._entry: Entry | None = None

    def begin(self) -> None:
        self._last = None
        self._look()

    def changed(self) -> None:
        self._look_in(SETTLE_NS)

    def _look_in(self, delay_ns: int) -> None:
        if self._entry is not None:
            self._entry.cancel()
        self._entry = self._agenda.after(delay_ns, self._look)

    def _look(self) -> None:
        self._entry = None
        if not self._tablet.hears:
            return
        body = self._tablet.body
        seen = TabletPower(
            self._tablet.boot_time(), body.supply_mv > 0, body.percent,
            body.battery_mw * 1000 // body.battery_mv, body.battery_mv, body.temperature_dc,
        )  # fmt: skip
        if self._last is None or replace(self._last, at=seen.at) != seen:
            self._last = seen
            self._tablet.take(seen)
        self._look_in(LOOK_NS)
