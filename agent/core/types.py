"""The vocabulary that every part of the project shares: time, observations, effects, decisions.

Standard library only. Everything is frozen: an observation is a fact with a time, an effect is a wish
of the core, and neither is ever changed after it was made.

Time is ``BootNs``: nanoseconds of CLOCK_BOOTTIME, which goes on while a tablet is suspended and which
nobody can set. Wall time never enters a decision.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import ClassVar

from agent.core.basics import MINUTE as MINUTE
from agent.core.basics import MS as MS
from agent.core.basics import SECOND as SECOND
from agent.core.basics import BootNs as BootNs
from agent.core.basics import Lease as Lease
from agent.core.quick import quick
from agent.core.records import Record

# --- what is reported about the world -------------------------------------------------------------


class LinkLoss(enum.Enum):
    """Why the way to a dock ended."""

    UNPLUGGED = "unplugged"  # udev removed the device, or the descriptor gave EOF or EIO
    UNANSWERED = "unanswered"  # a command went through all its retransmissions
    CLOSED = "closed"  # we closed it (shutdown, configuration)


class ForeignReason(enum.Enum):
    """How a dock proved that it is not the paired one."""

    BAD_MAC = "bad_mac"  # three bad macs running, each to our newest challenge, no valid session
    OTHER_DOCK = "other_dock"  # a good mac over another dock serial
    OTHER_VEHICLE = "other_vehicle"  # a good mac over another vehicle id


class DockFault(enum.Flag):
    """Fault bits of a dock's STATUS; the places are those of the reference dock link."""

    NONE = 0
    SUPPLY_LOW = 1
    SUPPLY_HIGH = 2
    OVER_CURRENT = 4
    OVER_TEMPERATURE = 8
    LATCH = 16
    DEAD_MAN = 32
    LINK_ERRORS = 64


class CommandOutcome(enum.Enum):
    DONE = "done"
    REFUSED = "refused"  # the dock answered, authenticated, that it will not
    LOST = "lost"  # no answer after all tries


class PairAnswer(enum.Enum):
    """What a dock answered to a question of pairing."""

    DONE = "done"  # it did what was asked, or proved what was asked
    REFUSED = "refused"  # it will not: it is paired, and its service contact is open
    UNPAIRED = "unpaired"  # it says that it holds no key
    OTHER_KEY = "other_key"  # it answered every challenge, and never with this key for this dock and vehicle
    SILENT = "silent"  # no answer after all tries, or the wire is gone


class KeyPosition(enum.Enum):
    """The ignition switch as a CAN signal reports it."""

    OFF = "off"
    ACCESSORY = "accessory"
    ON = "on"
    START = "start"


class SignalKind(enum.Enum):
    """What a CAN signal means, and in which unit its value comes."""

    IGNITION = "ignition"  # KeyPosition
    ENGINE_SPEED = "engine_speed"  # int, rpm
    BATTERY = "battery"  # int, mV
    ALTERNATOR = "alternator"  # int, mV
    SPEED = "speed"  # int, 0.1 km/h
    READY = "ready"  # bool: an electric vehicle is ready with its DC-DC converter on


class BusState(enum.Enum):
    ACTIVE = "active"  # frames arrive
    SILENT = "silent"  # the interface is up and nothing arrives: looks the same as a cut cable
    DOWN = "down"  # no interface, bus-off, or an error from it


class HintKind(enum.StrEnum):
    """What kind of thing says something of the tablet's seat without a key."""

    LINES = "lines"  # modem control lines of a dock
    USB = "usb"  # a USB device that is there or not
    SWITCH = "switch"  # the tablet's own dock switch
    SUPPLY = "supply"  # a vehicle supply, which knows nothing of the seat


class PowerVerb(enum.Enum):
    SUSPEND = "suspend"
    POWER_OFF = "power_off"
    REBOOT = "reboot"  # by a command only; no rule of the core asks for it


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that was seen at ``at``, timestamped where it came in and nowhere else."""

    at: BootNs


class Scope(enum.Enum):
    """Which restriction a permit lifts."""

    UNDOCKED = "undocked"  # all but a foreign dock
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Permit:
    """A permit in use, as it is remembered. Time is taken from ``left_ns`` before it is used.

    ``until`` is the end of the slice that was taken last, on the clock of the boot that took it.
    """

    id: str  # empty for a short code
    number: int  # orders the documents of the authority; 0 for a short code
    scope: Scope
    left_ns: int
    until: int = 0
    boots: int = 0


@dataclass(frozen=True, slots=True)
class UsedDocument:
    number: int
    id: str


@dataclass(frozen=True, slots=True)
class GrantMemory:
    """What of the grants outlives a restart.

    ``used`` are documents that must not be used again, and so is each whose number is not above ``floor``.
    ``overrides``: how many are left; None: all. ``override_until`` and ``code_free_at`` mean something only
    within the boot that wrote them.
    """

    permit: Permit | None = None
    used: tuple[UsedDocument, ...] = ()
    floor: int = 0
    overrides: int | None = None
    override_until: int = 0
    void: bool = False  # no grant until proof or a word of the depot
    tries: int = 0  # wrong answers since the last right one
    code_free_at: int = 0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What of the state outlives a restart, as last committed. A restart grants nothing new.

    ``evidence_at`` is the boot time of the last fresh authenticated evidence; it means something only
    within the boot that ``boot_id`` names. ``budget_ns`` is what is left of the ride-through budget.
    ``decision`` numbers changes of enforcement and never goes back. ``reserved_ns`` is ride-through already
    taken from the budget, counted from ``evidence_at``, so that a crash gives none of it twice.
    """

    boot_id: str = ""
    tether: str = "unknown"
    evidence_at: int = 0
    budget_ns: int | None = None
    reserved_ns: int = 0
    decision: int = 0
    run_on_since: int | None = None
    cut_from: int | None = None
    shutdown_requested: bool = False
    spent_uj: int = 0  # energy since ``run_on_since``, what of it is a model's, and until when it is counted
    modelled_uj: int = 0
    counted_at: int = 0
    grants: GrantMemory = field(default_factory=GrantMemory)


@dataclass(frozen=True, slots=True)
class Started(Observation):
    """The first observation of each run of the agent.

    ``emergency_spent``: an override was taken in this boot that no store could record. ``locked``: what is
    remembered is older than a lock that was found at the start.
    """

    boot_id: str
    remembered: Remembered | None  # None: nothing readable, which is treated as nothing granted
    lease: Lease | None = None  # that an earlier run gave, and which still runs
    emergency_spent: bool = False
    locked: bool = False


@dataclass(frozen=True, slots=True)
class GuardState(Observation):
    """Whether the guard is there and listens."""

    present: bool
    detail: str


@dataclass(frozen=True, slots=True)
class GuardLocked(Observation):
    """The guard locked because the lease of ``decision`` ran out."""

    decision: int
    rule: str


@quick
@dataclass(frozen=True, slots=True)
class DeadlineReached(Observation):
    """The time that ``next_deadline`` named has come."""


@dataclass(frozen=True, slots=True)
class DockLinkUp(Observation):
    dock: str


@dataclass(frozen=True, slots=True)
class DockLinkLost(Observation):
    dock: str
    reason: LinkLoss


@dataclass(frozen=True, slots=True)
class DockIdent(Observation):
    """What the dock says of itself. A hint: nothing in it is proved."""

    dock: str
    serial: str
    vehicle_id: str
    model: str
    firmware: tuple[int, int]
    reset_cause: int


@quick
@dataclass(frozen=True, slots=True)
class DockProof(Observation):
    """The paired dock answered our newest challenge; the evidence is as old as the question."""

    dock: str
    evidence_at: BootNs


@dataclass(frozen=True, slots=True)
class DockForeign(Observation):
    dock: str
    reason: ForeignReason
    evidence_at: BootNs


@dataclass(frozen=True, slots=True)
class DockVersion(Observation):
    """Frames of another version of the link came, and were dropped. Reported once an hour at most."""

    dock: str


@quick
@dataclass(frozen=True, slots=True)
class DockStatus(Observation):
    """One STATUS. ``None`` is "not known" or "not available", never "no".

    ``evidence_at`` is what its age counts from; without authentication it is a hint.
    """

    dock: str
    evidence_at: BootNs
    authenticated: bool
    seated: bool | None
    mated: bool | None
    locked: bool | None
    kl15: bool | None
    vehicle_mv: int | None
    dock_mv: int | None
    tablet_ma: int | None
    temperature_dc: int | None  # 0.1 degrees Celsius
    faults: DockFault


@dataclass(frozen=True, slots=True)
class DockHint(Observation):
    """What a dock without a key, or another source of hints, says. Anybody can fake it.

    It stands until the next one of the same ``dock``, or until that one's link is lost. ``None`` is "not
    known" or "has no such sense", never "no".
    """

    dock: str
    kind: HintKind
    seated: bool | None = None
    mated: bool | None = None
    locked: bool | None = None
    kl15: bool | None = None
    supply_ok: bool | None = None
    vehicle_mv: int | None = None
    dock_mv: int | None = None
    detail: str = ""  # what else was seen, for people


@dataclass(frozen=True, slots=True)
class DockCommandDone(Observation):
    dock: str
    command: str  # "outputs", "power_cut_in"
    outcome: CommandOutcome
    newest: bool = True  # False: a newer command of its kind is under way or waits


@quick
@dataclass(frozen=True, slots=True)
class CanSignal(Observation):
    """A decoded signal that passed its profile's checks. Sent on change, and to keep it fresh."""

    bus: str
    kind: SignalKind
    value: int | bool | KeyPosition


@dataclass(frozen=True, slots=True)
class CanBus(Observation):
    bus: str
    state: BusState


@dataclass(frozen=True, slots=True)
class TabletPower(Observation):
    """The tablet's own supplies. ``None`` is an attribute that the driver does not have."""

    external: bool | None
    percent: int | None  # 0 to 100
    battery_ma: int | None  # positive charges the battery
    battery_mv: int | None
    temperature_dc: int | None  # 0.1 degrees Celsius


@dataclass(frozen=True, slots=True)
class LockOutcome(Observation):
    """What came of an ``Enforce``: verified by reading back, not by the call's return."""

    decision: int
    action: str
    ok: bool
    took_ns: int
    detail: str


@dataclass(frozen=True, slots=True)
class UsedWhileLocked(Observation):
    """A session came unlocked while the tablet is to be locked."""

    detail: str


@dataclass(frozen=True, slots=True)
class SleepSignal(Observation):
    """logind's PrepareForSleep: ``starting`` before the sleep (within our inhibitor), else after it.

    ``reason``: after it, why the machine woke up, where the kernel says.
    """

    starting: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ShutdownSignal(Observation):
    """logind's PrepareForShutdown."""

    starting: bool


@dataclass(frozen=True, slots=True)
class PowerOutcome(Observation):
    verb: PowerVerb
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Drained(Observation):
    """The answer to ``Drain``: how many records the depot has not acknowledged yet."""

    pending: int


@dataclass(frozen=True, slots=True)
class StoreHealth(Observation):
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class StoreRenewed(Observation):
    """The store's file was damaged, salvaged or restored: what it remembered may be gone, or old."""

    detail: str


@dataclass(frozen=True, slots=True)
class MemoryFound(Observation):
    """The store works, and has what an earlier run remembered; at the start it could not be read."""

    remembered: Remembered


@dataclass(frozen=True, slots=True)
class DepotContact(Observation):
    """The depot said something under its own key."""


# What is asked of the grants. Signatures, codes and sessions were checked outside; no secret is in here.


@dataclass(frozen=True, slots=True)
class PermitPresented(Observation):
    """A permit for this tablet with a good signature. Whether it was used before is for the core to say."""

    id: str
    number: int
    scope: Scope
    minutes: int


@dataclass(frozen=True, slots=True)
class DocumentRefused(Observation):
    """A document that is damaged, altered, for another tablet or by another key."""

    reason: str  # stable word
    detail: str


@dataclass(frozen=True, slots=True)
class CodeRequested(Observation):
    """A challenge was made for an officer who asks for a short code."""

    challenge: str
    scope: Scope
    minutes: int


@dataclass(frozen=True, slots=True)
class CodeAnswered(Observation):
    """An answer to the challenge was typed; ``right`` is the verdict of the comparison."""

    right: bool


@dataclass(frozen=True, slots=True)
class OverrideTaken(Observation):
    """The officer, logged in at the tablet, takes the safety override."""

    uid: int


@dataclass(frozen=True, slots=True)
class GrantsRevoked(Observation):
    """Permits are over: by root (``upto`` None: with the override), or signed, up to a number."""

    by: str  # "root", "document", "command"
    upto: int | None


@dataclass(frozen=True, slots=True)
class LockOrdered(Observation):
    """The control room, by a signed command, ends use as it is now: only evidence after this counts."""


@dataclass(frozen=True, slots=True)
class OverrideRefilled(Observation):
    """A signed word gives the full number of overrides again."""

    id: str
    number: int


@dataclass(frozen=True, slots=True)
class GrantKept(Observation):
    """What came of a ``KeepGrant``."""

    number: int
    kept: bool


# --- what the core decides ------------------------------------------------------------------------


class Posture(enum.Enum):
    LOCKED = "locked"
    USABLE = "usable"


class Basis(enum.Enum):
    """What a loosening rests on: proof and the override may pass a failed store, nothing else may."""

    PROOF = "proof"
    HINT = "hint"  # a dock without a key, which policy explicitly lets stand for proof
    GRANT = "grant"
    OVERRIDE = "override"  # was kept before it counts, or once a boot could not be: passes like proof


@dataclass(frozen=True, slots=True)
class Evidence:
    """One source as a decision saw it. ``value`` is text for people; ``weight`` 0 took no part."""

    source: str
    value: str
    age_ns: int | None
    fresh: bool
    weight: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Why something is as it is: the rule that decided, in words, and the evidence it looked at."""

    topic: str  # "tether", "ignition", "power"
    verdict: str
    rule: str  # stable identifier, such as "tether.ride_through_over"
    because: str  # one sentence for a person
    at: BootNs
    evidence: tuple[Evidence, ...] = ()
    conflicts: tuple[str, ...] = ()


class Order(enum.Enum):
    """When the runtime runs an effect, relative to the commit of the same step's records."""

    TIGHTENS = "tightens"  # before and independently of the commit: a full disk never stops a lock
    FREE = "free"  # at once, in order; carries no authority
    AFTER_COMMIT = "after_commit"


@dataclass(frozen=True, slots=True)
class Effect:
    order: ClassVar[Order] = Order.FREE


@dataclass(frozen=True, slots=True)
class Lock(Effect):
    """Lock every session and keep it locked. ``decision`` numbers the change of enforcement."""

    order: ClassVar[Order] = Order.TIGHTENS
    decision: int
    cause: Decision


@dataclass(frozen=True, slots=True)
class Release(Effect):
    """End the prohibition. The agent never unlocks a session: the officer authenticates."""

    order: ClassVar[Order] = Order.AFTER_COMMIT
    decision: int
    cause: Decision
    basis: Basis


@dataclass(frozen=True, slots=True)
class BeginLease(Effect):
    """Lend use to the tablet, or lend it for longer than its evidence alone would: a loosening."""

    order: ClassVar[Order] = Order.AFTER_COMMIT
    lease: Lease
    basis: Basis


@dataclass(frozen=True, slots=True)
class RenewLease(Effect):
    """The lease that was begun for the same decision runs until another time."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class EndLease(Effect):
    """Nothing is lent any more. ``decision`` is the change of enforcement that locks."""

    order: ClassVar[Order] = Order.TIGHTENS
    decision: int
    cause: Decision


@dataclass(frozen=True, slots=True)
class DriveOutputs(Effect):
    """Dock outputs; ``None`` leaves one as it is. ``latch`` True is held closed."""

    latch: bool | None = None
    led: bool | None = None
    buzzer: bool | None = None
    power_hold: bool | None = None
    supply_enable: bool | None = None


@dataclass(frozen=True, slots=True)
class Prove(Effect):
    """Ask every dock for fresh proof now, rather than when it is due."""


@dataclass(frozen=True, slots=True)
class CutPowerIn(Effect):
    """Ask the dock to cut the tablet's supply after ``seconds``; ``None`` takes that back."""

    order: ClassVar[Order] = Order.AFTER_COMMIT
    seconds: int | None


@quick
@dataclass(frozen=True, slots=True)
class Write(Effect):
    """Commit a record of the catalogue."""

    record: Record


@dataclass(frozen=True, slots=True)
class Remember(Effect):
    """Commit what outlives a restart, in the same transaction as the step's records."""

    what: Remembered


@dataclass(frozen=True, slots=True)
class KeepGrant(Effect):
    """Say, by ``GrantKept``, when this step's records and memory are durable. No grant counts before.

    ``hurried``: a store that is slow or fails must be told of too. ``kept`` is filled in by the runtime.
    """

    order: ClassVar[Order] = Order.AFTER_COMMIT
    number: int
    hurried: bool
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Shed(Effect):
    """Save power (True: slower polling, no bulk upload), or go back to normal."""

    on: bool


@dataclass(frozen=True, slots=True)
class Announce(Effect):
    """Tell the fleet what is planned: "sleeping", "shutting_down" or "online"."""

    what: str


@dataclass(frozen=True, slots=True)
class Drain(Effect):
    """Send what the time until ``until`` allows, then answer with ``Drained``."""

    until: BootNs


@dataclass(frozen=True, slots=True)
class RequestPower(Effect):
    """Ask logind to suspend or power off."""

    order: ClassVar[Order] = Order.AFTER_COMMIT
    verb: PowerVerb
    cause: Decision


@dataclass(frozen=True, slots=True)
class WakeAt(Effect):
    """Have the machine woken from a sleep at that time; ``None``: not, what was set is taken back."""

    at: BootNs | None


@dataclass(frozen=True, slots=True)
class AllowSleep(Effect):
    """Release the delay inhibitor: the lock was asked for and everything is committed."""

    order: ClassVar[Order] = Order.AFTER_COMMIT


@dataclass(frozen=True, slots=True)
class Explain(Effect):
    """Publish a decision to ``ivmactl why`` and to subscribers."""

    decision: Decision


Effects = tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts that a port or a session keeps of what it dropped, by reason. Shown, never decided on."""

    values: dict[str, int] = field(default_factory=dict)
