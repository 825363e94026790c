"""The core's state: immutable, with the last evidence of every source and the decision that stands.

Everything that is decided is a function of this, an observation and the policy. Times are boot ns.
The wide parts have no slots, for ``evolve``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from agent.core.battery import Limits
from agent.core.policy import Policy
from agent.core.quick import quick
from agent.core.types import (
    Basis,
    BootNs,
    BusState,
    CommandOutcome,
    Decision,
    DockHint,
    DockStatus,
    DriveOutputs,
    GrantMemory,
    KeyPosition,
    Posture,
    Remembered,
    Scope,
    TabletPower,
)

BOOT = BootNs(0)
V = TypeVar("V")


@quick
@dataclass(frozen=True, slots=True)
class Reading(Generic[V]):
    """A value and the time that its age counts from."""

    value: V
    at: BootNs

    def fresh(self, now: BootNs, limit_ns: int) -> bool:
        """Younger than the limit: at the limit it is stale."""
        return now < self.at + limit_ns


# --- tether ---------------------------------------------------------------------------------------


class TetherState(enum.Enum):
    UNKNOWN = "unknown"  # no evidence since boot or resume
    TETHERED = "tethered"
    UNCERTAIN = "uncertain"  # was TETHERED, evidence lost, ride-through runs
    RESTRICTED = "restricted"
    FOREIGN = "foreign"  # the dock that answers is provably not the paired one


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to use the tablet without proof until a time; made by agent/core/grants.py."""

    name: str
    until: BootNs
    foreign: bool = True  # in a foreign dock as well

    def covers(self, state: TetherState, now: BootNs) -> bool:
        return now < self.until and (self.foreign or state is not TetherState.FOREIGN)


@dataclass(frozen=True, slots=True)
class Hint:
    """The last word of one source without a key."""

    said: DockHint
    out_since: BootNs | None = None  # since when it says, without a break, that the tablet is out
    lost: bool = False  # its link is gone, so it says nothing
    against_since: BootNs | None = None  # since when it contradicts what is proved
    reported: bool = False  # and that has its record


@dataclass(frozen=True)
class Tether:
    decision: Decision
    state: TetherState = TetherState.UNKNOWN
    since: BootNs = BOOT
    dock: str = ""  # whose proof counts
    proof_at: BootNs | None = None
    good_at: BootNs | None = None  # last authenticated STATUS, after proof, with every required bit set
    word_at: BootNs = BOOT  # last authenticated STATUS; an older one is delayed and says nothing good
    proven_since: BootNs | None = None
    unseated: bool = False  # the last authenticated word on a required bit is "not set"
    status: DockStatus | None = None  # last authenticated STATUS, for reports and the latch
    hint: DockStatus | None = None  # last STATUS without authentication
    hints: tuple[Hint, ...] = ()  # of every source without a key
    evidence_at: BootNs | None = None  # last moment of full, fresh evidence; ride-through counts from it
    reserved_ns: int = 0  # ride-through of this loss, already taken from the budget
    extension: bool = False  # a crank extension is earned and not taken yet
    budget_ns: int = 0
    barrier: BootNs = BOOT  # evidence before this does not count (resume, foreign dock)
    alarm_from: BootNs = BOOT  # end of the start allowance
    grants: tuple[Grant, ...] = ()
    spare: Reading[str] | None = None  # another dock that proved itself meanwhile, and when
    strangers: tuple[
        str, ...
    ] = ()  # other docks that were foreign while this state stood, and have their record


# --- ignition -------------------------------------------------------------------------------------


class IgnitionState(enum.Enum):
    UNKNOWN = "unknown"
    OFF = "off"
    ACCESSORY = "accessory"
    ON = "on"
    CRANKING = "cranking"
    RUNNING = "running"


IN_USE = (IgnitionState.ACCESSORY, IgnitionState.ON, IgnitionState.CRANKING, IgnitionState.RUNNING)


class Grade(enum.Enum):
    CONFIRMED = "confirmed"  # independent kinds of evidence agree
    SINGLE = "single"  # one strong kind
    INFERRED = "inferred"


@dataclass(frozen=True, slots=True)
class Crank:
    """A crank episode; the window is open while evidence is recent and the episode not too long."""

    opened_at: BootNs
    evidence_at: BootNs


@dataclass(frozen=True, slots=True)
class Bus:
    name: str
    state: BusState
    since: BootNs


@dataclass(frozen=True)
class Ignition:
    decision: Decision
    state: IgnitionState = IgnitionState.UNKNOWN
    since: BootNs = BOOT
    conflict: str = ""
    grade: Grade = Grade.INFERRED
    wire: Reading[bool] | None = None  # by authenticated STATUS, or by a hint where none is fresh
    key: Reading[KeyPosition] | None = None
    rpm: Reading[int] | None = None
    ready: Reading[bool] | None = None
    dock_mv: Reading[int] | None = None
    battery_mv: Reading[int] | None = None
    alternator_mv: Reading[int] | None = None
    wire_hinted: bool = False  # the wire, or the supply voltage, is that of a source without a key
    mv_hinted: bool = False
    buses: tuple[Bus, ...] = ()
    kl15_at: BootNs | None = None  # last authenticated KL15, and last start signal: they earn the crank
    start_at: BootNs | None = None  # extension of the ride-through
    crank: Crank | None = None
    stuck_since: BootNs | None = None  # wire ON, CAN OFF, nothing turns or charges
    pending: tuple[IgnitionState, str] | None = None  # verdict and conflict that wait for their delay
    pending_since: BootNs = BOOT
    pending_ns: int = 0


# --- power ----------------------------------------------------------------------------------------


class PowerMode(enum.Enum):
    AWAKE = "awake"
    RUN_ON = "run_on"  # ignition off, or unknown for long
    SUSPENDING = "suspending"  # announced, draining
    SLEEPING = "sleeping"  # suspend requested
    SHUTTING_DOWN = "shutting_down"  # announced, draining; ignition still cancels it
    POWERING_OFF = "powering_off"  # past the point of no return


@dataclass(frozen=True)
class Power:
    decision: Decision
    mode: PowerMode = PowerMode.AWAKE
    since: BootNs = BOOT
    run_on_since: BootNs | None = None
    cut_from: BootNs | None = None  # the supply's hard cut counts from here at the earliest
    unknown_since: BootNs | None = None  # ignition unknown without charging or any word of ON
    not_before: BootNs = BOOT  # neither suspend nor power-off before this
    until: BootNs | None = None  # end of the drain, or of waiting for what was requested
    drained: bool = False
    failed: bool = False
    resumed: bool = False
    forced: bool = False  # by the tablet's hard floor: ignition does not cancel it
    announced: str = "online"
    filtered_uv: int | None = None  # low-passed vehicle supply
    sampled_at: BootNs = BOOT
    limits: Limits | None = None  # thresholds in force
    spent_uj: int = 0  # taken from the vehicle since the run-on began, and what of it no dock measured
    modelled_uj: int = 0
    counted_at: BootNs = BOOT
    hot_since: BootNs | None = None  # the tablet's battery
    hot: bool = False  # and sheds for it
    cold_since: BootNs | None = None
    cold: bool = False  # and is not charged for it
    below_warn_since: BootNs | None = None
    below_act_since: BootNs | None = None
    restored_since: BootNs | None = None
    unrested_at: BootNs = BOOT  # the vehicle's battery was last charged or used
    charge_percent: int | None = None  # of it, by its voltage at rest
    low_charge_since: BootNs | None = None
    shedding: bool = False
    dock: DockStatus | None = None  # last authenticated STATUS
    tablet: TabletPower | None = None
    floor_since: BootNs | None = None
    hard_floor_since: BootNs | None = None
    wake_at: BootNs | None = None  # the alarm of a sleep
    locked_since: BootNs | None = None  # locked since, as this run knows; None: usable
    by_lock: bool = False  # it ends because the tablet was locked for long: use cancels it
    recorded_at: BootNs | None = None  # last power sample


# --- grants ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the screen shows to an officer who asks for a short code."""

    text: str
    scope: Scope
    minutes: int
    until: BootNs


@dataclass(frozen=True, slots=True)
class Ask:
    """What waits for its commit before it counts. ``before`` is what stands again if it cannot be kept."""

    number: int  # of its ``KeepGrant``
    what: str  # "permit", "code", "slice", "override", "try"
    before: GrantMemory
    patience: BootNs  # when waiting for the store is over
    until: BootNs = BOOT  # of the override that is asked for


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the last request, for whoever made it."""

    what: str  # "permit", "code", "override", "challenge", "revoke", "refill"
    given: bool
    rule: str
    because: str


@dataclass(frozen=True)
class Grants:
    decision: Decision
    memory: GrantMemory = field(default_factory=GrantMemory)
    slice_until: BootNs = BOOT  # end of what is durably taken from the permit
    slice_scope: Scope = Scope.UNDOCKED
    override_until: BootNs = BOOT
    challenge: Challenge | None = None
    ask: Ask | None = None
    asked: int = 0  # number of the last ``KeepGrant``
    answer: Answer | None = None  # None: nothing was asked, or it waits for its commit
    store_ok: bool = True
    emergency_spent: bool = False  # the override that needs no store was taken in this boot
    refused_at: BootNs | None = None  # last record of a refusal
    unsaid: int = 0  # refusals since, that left no record of their own
    challenged_at: BootNs | None = None  # the same of challenges
    unshown: int = 0


NO_GRANTS = Grants(decision=Decision("grant", "none", "grant.none", "nothing was granted", BOOT))


# --- the whole ------------------------------------------------------------------------------------

RELEASED = DriveOutputs(latch=False, led=False, buzzer=False, power_hold=True, supply_enable=True)


NEVER = BootNs(1 << 63)  # past every boot time: 292 years


@quick
@dataclass(frozen=True, slots=True)
class Calm:
    """What the last settling left: until ``until`` it would find the same, unless evidence stirs something.

    ``standing`` is the earliest deadline that no evidence moves; without one it is ``NEVER``.
    """

    policy: Policy  # that it was settled by, and no other
    until: BootNs
    standing: int


@dataclass(frozen=True)
class State:
    tether: Tether
    ignition: Ignition
    power: Power
    now: BootNs = BOOT  # never goes back
    boot_id: str = ""
    started: bool = False
    posture: Posture = Posture.LOCKED
    basis: Basis | None = None  # what usable rests on
    decision: int = 0  # number of the last change of enforcement
    defied: int = 0  # times a session was used while locked
    slept_at: BootNs | None = None  # the sleep that was begun last, until its end is heard of
    asleep_until: BootNs | None = (
        None  # between logind's two sleep signals; the time bounds a lost second one
    )
    outputs: DriveOutputs = RELEASED
    outputs_asked: BootNs | None = None  # since when latch, light and buzzer are wanted so; None: as at start
    outputs_told: tuple[tuple[str, CommandOutcome], ...] = ()  # docks and answers recorded since then
    lease_until: BootNs | None = None  # as last given; BOOT is "ended", None "nothing said in this run"
    unguarded_since: BootNs | None = None  # the guard is known to be gone
    grants: Grants = NO_GRANTS
    remembered: Remembered = field(default_factory=Remembered)  # as last handed out
    # These follow from the rest. A copy by ``dataclasses.replace`` is without them, and settled in full.
    calm: Calm | None = field(default=None, init=False, compare=False, repr=False)
    due: int = field(default=NEVER, init=False, compare=False, repr=False)  # next deadline, if calm
    # Full evidence since then may renew the lease, if calm.
    renew_from: int = field(default=NEVER, init=False, compare=False, repr=False)


def initial(policy: Policy) -> State:
    """The state before ``Started``: locked, no evidence, no ride-through budget."""
    return State(
        tether=Tether(
            decision=Decision("tether", "unknown", "tether.no_evidence", "no evidence in this boot", BOOT),
            alarm_from=BootNs(policy.tether.start_allowance_s * 1_000_000_000),
        ),
        ignition=Ignition(
            decision=Decision("ignition", "unknown", "ignition.no_evidence", "no evidence in this boot", BOOT)
        ),
        power=Power(decision=Decision("power", "awake", "power.start", "the agent has just started", BOOT)),
    )
