"""Each invariant lets the healthy case pass and catches a violation of its own, planted in the events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from agent.core.catalogue import (
    AGENT_STARTED,
    ENFORCEMENT_CHANGED,
    IGNITION_CHANGED,
    OVERRIDE_TAKEN,
    POWER_SAMPLE,
    QUEUE_SHED,
    TETHER_CHANGED,
)
from agent.core.records import Record, Stream
from agent.core.types import (
    MINUTE,
    SECOND,
    Basis,
    BootNs,
    CanSignal,
    Decision,
    DockFault,
    DockProof,
    DockStatus,
    KeyPosition,
    Lock,
    Observation,
    PowerVerb,
    Release,
    RequestPower,
    SignalKind,
    TabletPower,
)
from simulator.invariants.base import Invariant, Violation
from simulator.invariants.facts import Limits
from simulator.invariants.ignition import BoundedChatter, StaleIsUnknown
from simulator.invariants.power import BatterySpared, NoShutdownWhileOn
from simulator.invariants.records import Bounded, OneRecordEach, QueueKeeps
from simulator.invariants.registry import Inspector, registry
from simulator.invariants.rest import Converges, WallClockIgnored
from simulator.invariants.use import BudgetHolds, RestrictedInTime, UsableOnlyByProof
from simulator.invariants.wires import ListenOnly, OnlyItsDockLoosens
from simulator.virtual import events as ev

LIMITS = Limits()
EPOCH = bytes(8)


@dataclass(frozen=True)
class Row:
    at: int
    kind: str
    fields: dict[str, object]

    @classmethod
    def of(cls, record: Record) -> Row:
        return cls(record.at, record.kind.name, dict(record.as_dict()))


@dataclass
class Stage:
    """A world that is nothing but what is said of it; ``s`` are its seconds."""

    kind: type[Invariant]
    s: float = 0.0
    events: ev.Events = field(default_factory=ev.Events)

    def __post_init__(self) -> None:
        self.inspector = Inspector(self.events, LIMITS, [self.kind])

    @property
    def now(self) -> BootNs:
        return BootNs(round(self.s * SECOND))

    def emit(self, kind: type[ev.Event], *given: object) -> None:
        self.events.emit(kind(self.now, *given))

    def see(self, observation: Observation) -> None:
        self.emit(ev.Observed, observation, None)

    def violations(self) -> list[Violation]:
        self.inspector.finish(self.now)
        return self.inspector.violations

    # what a world does

    def begin(self) -> None:
        """A tablet in its dock, switched on, with an agent, proved, and in use."""
        self.emit(ev.Held, True, True)
        self.emit(ev.Power, "on")
        self.emit(ev.Agent, "started", 1)
        self.prove()
        self.status()
        self.emit(ev.Usable, True)

    def prove(self, age_s: float = 0.0) -> None:
        self.see(DockProof(self.now, "vehicle", BootNs(self.now - round(age_s * SECOND))))

    def status(
        self, seated: bool | None = True, kl15: bool | None = None, age_s: float = 0.0, mv: int = 12_600
    ) -> None:
        at = BootNs(self.now - round(age_s * SECOND))
        self.see(
            DockStatus(
                self.now, "vehicle", at, authenticated=True, seated=seated, mated=True, locked=None,
                kl15=kl15, vehicle_mv=mv, dock_mv=None, tablet_ma=None, temperature_dc=None,
                faults=DockFault.NONE,
            )
        )  # fmt: skip

    def key(self, position: KeyPosition) -> None:
        self.see(CanSignal(self.now, "powertrain", SignalKind.IGNITION, position))

    def held_for(self, seconds: float, **status: bool) -> None:
        """Proof and status as a dock gives them."""
        until = self.s + seconds
        proved = self.s
        while self.s < until:
            self.s += 0.2
            if self.s - proved >= 30:
                self.prove()
                proved = self.s
            self.status(**status)

    def run(self, effect: Lock | Release | RequestPower) -> None:
        self.emit(ev.Effected, effect)

    def attempt(self, ticket: int, *records: Record) -> None:
        self.emit(ev.Attempted, ticket, records)

    def commit(self, ticket: int, stream: Stream, first: int, last: int | None = None) -> None:
        self.emit(ev.Committed, ticket, ((stream, first, last or first),))

    def deliver(self, stream: Stream, first: int, *records: Record) -> None:
        rows = tuple((seq, Row.of(record)) for seq, record in enumerate(records, first))
        self.emit(ev.Delivered, stream, EPOCH, first, first + len(records) - 1, rows)


def words(violations: Sequence[Violation]) -> str:
    return " | ".join(violation.words for violation in violations)


def cause(rule: str) -> Decision:
    return Decision("tether", "x", rule, "for a test", BootNs(0))


def changed(decision: int, at: int = 0) -> Record:
    return ENFORCEMENT_CHANGED.make(
        at, decision=decision, posture="usable", basis="proof", verdict="tethered", before="unknown",
        rule="tether.proven", because="", evidence="",
    )  # fmt: skip


def sample(at: int) -> Record:
    return POWER_SAMPLE.make(at, vehicle_mv=12_600)


def started(at: int) -> Record:
    return AGENT_STARTED.make(at, version="1", config="x", boot_id="b")


def ignition(verdict: str) -> Record:
    return IGNITION_CHANGED.make(
        0, verdict=verdict, before="on", rule="ignition.test", because="", evidence="", grade="single",
        conflicts="",
    )  # fmt: skip


def test_every_invariant_of_the_design_is_in_the_registry() -> None:
    assert [kind.number for kind in registry()] == list(range(1, 15))
    assert all(kind.statement for kind in registry())


# --- 1, 2, 14: use ----------------------------------------------------------------------------------


def test_1_a_session_that_somebody_opens_is_locked_again() -> None:
    stage = Stage(UsableOnlyByProof)
    stage.begin()
    stage.emit(ev.Held, False, False)
    stage.s = 5.0
    stage.emit(ev.Usable, False)
    stage.s = 60.0
    stage.emit(ev.Usable, True)
    stage.s = 60.2
    stage.emit(ev.Usable, False)
    stage.s = 300.0
    assert stage.violations() == []


def test_1_catches_use_that_nothing_entitles_to() -> None:
    stage = Stage(UsableOnlyByProof)
    stage.begin()
    stage.emit(ev.Held, False, False)
    stage.s = 5.0
    stage.emit(ev.Usable, False)
    stage.s = 60.0
    stage.emit(ev.Usable, True)
    stage.s = 70.0
    assert "used for 10.000 s after somebody opened the session" in words(stage.violations())


def test_1_time_without_an_agent_does_not_count_and_what_follows_does() -> None:
    stage = Stage(UsableOnlyByProof)
    stage.emit(ev.Power, "on")
    stage.s = 12.0
    stage.emit(ev.Usable, True)
    stage.s = 20.0
    stage.emit(ev.Agent, "started", 1)
    stage.s = 22.0
    assert stage.violations() == []
    stage.s = 23.0
    assert len(stage.violations()) == 1


def test_2_use_may_last_for_the_ride_through() -> None:
    stage = Stage(RestrictedInTime)
    stage.begin()
    stage.held_for(30)
    stage.s += 4.9
    stage.emit(ev.Usable, False)
    assert stage.violations() == []


@pytest.mark.parametrize(("locks_after_s", "late"), [(1.9, False), (2.2, True)])
def test_2_a_guard_that_starts_beside_a_stopped_agent_waits_for_it_first(
    locks_after_s: float, late: bool
) -> None:
    stage = Stage(RestrictedInTime)
    stage.begin()
    stage.emit(ev.Guard, "started")
    stage.held_for(30)
    stage.emit(ev.Guard, "killed")
    stage.emit(ev.Fault, "agent-stopped", True)
    stage.s += 10
    stage.emit(ev.Guard, "started")
    stage.s += locks_after_s
    stage.emit(ev.Usable, False)
    assert bool(stage.violations()) is late


@pytest.mark.parametrize("evidence_returns", [True, False])
def test_2_catches_use_beyond_the_ride_through(evidence_returns: bool) -> None:
    stage = Stage(RestrictedInTime)
    stage.begin()
    stage.held_for(30)
    stage.s += 5.2
    if evidence_returns:
        stage.status()
    assert "still usable 1.200 s after the evidence and its ride-through ended" in words(stage.violations())


def test_2_a_starter_at_work_earns_a_longer_one() -> None:
    stage = Stage(RestrictedInTime)
    stage.begin()
    stage.held_for(30)
    stage.key(KeyPosition.START)
    stage.s += 9.9
    stage.status()
    assert stage.violations() == []


def test_2_catches_use_after_an_authenticated_unseated() -> None:
    stage = Stage(RestrictedInTime)
    stage.begin()
    stage.held_for(30)
    stage.status(seated=False)
    stage.s += 1.5
    assert "unseated" in words(stage.violations())


def test_14_each_loss_is_short_and_their_sum_is_not() -> None:
    stage = Stage(BudgetHolds)
    stage.begin()
    for _ in range(25):  # each uses 4 s - 1.5 s
        stage.held_for(10)
        stage.s += 4.0
        stage.prove()
    assert "the budget is 60.000 s" in words(stage.violations())


def test_14_a_long_time_in_the_dock_refills_the_budget() -> None:
    stage = Stage(BudgetHolds)
    stage.begin()
    for _ in range(4):
        for _ in range(15):
            stage.held_for(10)
            stage.s += 4.0
            stage.prove()
        stage.held_for(301)
    assert stage.violations() == []


# --- 3, 12: wires -----------------------------------------------------------------------------------


def test_3_a_release_follows_the_word_of_the_dock() -> None:
    stage = Stage(OnlyItsDockLoosens)
    stage.begin()
    stage.run(Release(1, cause("tether.proven"), Basis.PROOF))
    assert stage.violations() == []


def test_3_catches_a_release_without_the_dock() -> None:
    stage = Stage(OnlyItsDockLoosens)
    stage.begin()
    stage.emit(ev.Held, False, True)
    stage.s = 10.0
    stage.run(Release(1, cause("tether.proven"), Basis.PROOF))
    assert "not in its own dock" in words(stage.violations())


def test_3_leave_to_use_it_releases_too_and_only_while_it_lasts() -> None:
    stage = Stage(OnlyItsDockLoosens)
    stage.emit(ev.Power, "on")
    stage.attempt(1, OVERRIDE_TAKEN.make(0, uid=1000, length_s=900, left=1))
    stage.run(Release(1, cause("grant.override"), Basis.OVERRIDE))
    stage.s = 899.0
    stage.run(Release(2, cause("grant.override"), Basis.OVERRIDE))
    assert stage.violations() == []
    stage.s = 901.0
    stage.run(Release(3, cause("grant.override"), Basis.OVERRIDE))
    assert "not in its own dock" in words(stage.violations())


def test_3_catches_an_override_more_than_there_are() -> None:
    stage = Stage(OnlyItsDockLoosens)
    for ticket in (1, 2, 3):
        stage.attempt(ticket, OVERRIDE_TAKEN.make(0, uid=1000, length_s=900, left=0))
        stage.commit(ticket, Stream.ALARM, ticket)
    assert words(stage.violations()) == "the agent granted override number 3 since the last refill"


def test_3_catches_a_replayed_status_that_was_taken_for_fresh() -> None:
    stage = Stage(OnlyItsDockLoosens)
    stage.begin()
    stage.emit(ev.Held, False, False)
    stage.s = 10.0
    stage.status()
    assert "STATUS" in words(stage.violations())


def test_3_a_delayed_status_that_is_known_to_be_old_is_none() -> None:
    stage = Stage(OnlyItsDockLoosens)
    stage.begin()
    stage.s = 9.0
    stage.emit(ev.Held, False, False)
    stage.s = 10.0
    stage.status(age_s=1.2)
    stage.prove(age_s=1.2)
    assert stage.violations() == []


def test_12_catches_a_frame_on_the_vehicles_bus() -> None:
    stage = Stage(ListenOnly)
    stage.emit(ev.CanSent, "the agent")
    assert words(stage.violations()) == "the agent put a frame on the vehicle's bus"


# --- 4, 13: power -----------------------------------------------------------------------------------


def over(rule: str, verb: PowerVerb = PowerVerb.SUSPEND) -> RequestPower:
    return RequestPower(verb, cause(rule))


def test_4_a_run_on_that_was_over_suspends() -> None:
    stage = Stage(NoShutdownWhileOn)
    stage.begin()
    stage.held_for(60, kl15=True)
    stage.held_for(910, kl15=False)
    stage.run(over("power.run_on_over"))
    assert stage.violations() == []


def test_4_catches_a_shutdown_while_the_ignition_is_on() -> None:
    stage = Stage(NoShutdownWhileOn)
    stage.begin()
    stage.held_for(60, kl15=True)
    stage.run(over("power.max_time", PowerVerb.POWER_OFF))
    assert "while the dock's KL15 says ON" in words(stage.violations())


def test_4_catches_a_run_on_timer_that_survived_ignition_on() -> None:
    stage = Stage(NoShutdownWhileOn)
    stage.begin()
    stage.held_for(800, kl15=False)
    stage.held_for(20, kl15=True)
    stage.held_for(100, kl15=False)
    stage.run(over("power.run_on_over"))
    assert "after the ignition was last on" in words(stage.violations())


def test_4_a_source_that_says_on_once_and_again_later_has_not_said_it_all_the_while() -> None:
    stage = Stage(NoShutdownWhileOn)
    stage.begin()
    stage.held_for(880, kl15=False)
    for _ in range(2):
        stage.see(CanSignal(stage.now, "powertrain", SignalKind.ENGINE_SPEED, 1870))
        stage.held_for(5, kl15=False)
    stage.held_for(100, kl15=False)
    stage.run(over("power.run_on_over"))
    assert stage.violations() == []


@pytest.mark.parametrize(("percent", "caught"), [(3, False), (60, True)])
def test_4_the_tablets_hard_floor_overrides_and_must_be_real(percent: int, caught: bool) -> None:
    stage = Stage(NoShutdownWhileOn)
    stage.begin()
    stage.held_for(60, kl15=True)
    stage.see(TabletPower(stage.now, False, percent, -1000, 7000, None))
    stage.run(over("power.hard_floor", PowerVerb.POWER_OFF))
    assert bool(stage.violations()) is caught


@pytest.mark.parametrize(("tablet_ma", "caught"), [(1500, True), (20, False)])
def test_13_catches_a_tablet_that_goes_on_taking_from_a_weak_battery(tablet_ma: int, caught: bool) -> None:
    stage = Stage(BatterySpared)
    stage.begin()
    for _ in range(300):
        stage.s += 1
        stage.status(mv=11_300)
        stage.emit(ev.Supply, 11_300, tablet_ma)
    assert bool(stage.violations()) is caught


# --- 5, 6: ignition ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_s", "verdict", "caught"), [(0.2, "off", False), (3, "off", True), (3, "unknown", False)]
)
def test_5_catches_off_without_a_fresh_word_of_it(age_s: float, verdict: str, caught: bool) -> None:
    stage = Stage(StaleIsUnknown)
    stage.begin()
    stage.status(kl15=False)
    stage.s = age_s
    stage.attempt(1, ignition(verdict))
    assert bool(stage.violations()) is caught


@pytest.mark.parametrize(("every_s", "caught"), [(1.0, False), (0.05, True)])
def test_6_catches_changes_without_a_debounce(every_s: float, caught: bool) -> None:
    stage = Stage(BoundedChatter)
    for number in range(60):
        stage.s += every_s
        stage.attempt(number, ignition("on" if number % 2 else "off"))
    assert bool(stage.violations()) is caught


@pytest.mark.parametrize(("every_s", "caught"), [(0.225, False), (0.15, True)])
def test_6_evidence_may_be_lost_and_found_as_often_as_it_can_be_renewed(every_s: float, caught: bool) -> None:
    stage = Stage(BoundedChatter)
    for number in range(120):
        stage.s += every_s
        before, after = ("tethered", "uncertain")[:: 1 if number % 2 else -1]
        record = TETHER_CHANGED.make(
            int(stage.s * SECOND), before=before, verdict=after, rule="rule", because="because", evidence="[]"
        )
        stage.attempt(number, record)
    assert bool(stage.violations()) is caught


# --- 7, 8, 11: records ------------------------------------------------------------------------------


def test_7_a_release_after_its_commit_has_one_record() -> None:
    stage = Stage(OneRecordEach)
    stage.attempt(1, changed(1))
    stage.commit(1, Stream.ALARM, 1)
    stage.run(Release(1, cause("tether.proven"), Basis.PROOF))
    stage.deliver(Stream.ALARM, 1, changed(1))
    stage.emit(ev.Awaited, "in use")
    assert stage.violations() == []


def test_7_catches_a_loosening_before_its_commit() -> None:
    stage = Stage(OneRecordEach)
    stage.attempt(1, changed(1))
    stage.run(Release(1, cause("tether.proven"), Basis.PROOF))
    assert "before its record was durable" in words(stage.violations())


@pytest.mark.parametrize("basis", [Basis.PROOF, Basis.OVERRIDE])
def test_7_a_proof_waits_no_longer_than_a_second_and_a_grant_for_ever(basis: Basis) -> None:
    stage = Stage(OneRecordEach)
    stage.attempt(1, changed(1))
    stage.s = 1.0
    stage.run(Release(1, cause("tether.proven"), basis))
    assert stage.violations() == []
    stage.attempt(2, changed(2))
    stage.s = 3.0
    stage.run(Release(2, cause("grant"), Basis.GRANT))
    assert "by a grant" in words(stage.violations())


def test_7_catches_a_change_that_is_recorded_twice() -> None:
    stage = Stage(OneRecordEach)
    for ticket in (1, 2):
        stage.attempt(ticket, changed(1))
        stage.commit(ticket, Stream.ALARM, ticket)
    assert "a second durable record" in words(stage.violations())


def test_7_a_ticket_of_a_run_that_was_killed_is_none_of_the_next() -> None:
    stage = Stage(OneRecordEach)
    stage.attempt(1, changed(4))
    stage.commit(1, Stream.ALARM, 1)
    stage.attempt(2, changed(5))
    stage.emit(ev.Agent, "killed", 1)
    stage.emit(ev.Agent, "started", 2)
    stage.attempt(1, changed(5))
    stage.commit(1, Stream.ALARM, 2)
    stage.attempt(2, sample(1))
    stage.commit(2, Stream.TELEMETRY, 1)
    assert stage.violations() == []


def test_7_two_changes_in_one_step_are_durable_with_one_commit() -> None:
    stage = Stage(OneRecordEach)
    stage.run(Lock(1, cause("grant.sleep")))
    stage.attempt(1, changed(1), changed(2))
    stage.commit(1, Stream.ALARM, 1, 2)
    stage.run(Release(2, cause("grant.override"), Basis.OVERRIDE))
    stage.emit(ev.Awaited, "in use")
    assert stage.violations() == []


def test_7_catches_a_lock_that_is_never_recorded() -> None:
    stage = Stage(OneRecordEach)
    stage.run(Lock(1, cause("tether.unseated")))
    stage.emit(ev.Awaited, "in use")
    assert "changes [1] of enforcement took effect" in words(stage.violations())


@pytest.mark.parametrize(("fault", "caught"), [("disk-errors", False), ("bus-off", True)])
def test_7_a_disk_that_refuses_until_the_power_goes_keeps_no_record(fault: str, caught: bool) -> None:
    stage = Stage(OneRecordEach)
    stage.emit(ev.Fault, fault, True)
    stage.attempt(1, changed(1))
    stage.run(Lock(1, cause("tether.unseated")))
    stage.s = 10.0
    stage.emit(ev.Refused, 1, "the store is closed")
    stage.emit(ev.Power, "off")
    stage.emit(ev.Awaited, "in use")
    assert bool(stage.violations()) is caught


def test_8_what_was_promised_arrives() -> None:
    stage = Stage(QueueKeeps)
    stage.attempt(1, sample(1), sample(2))
    stage.commit(1, Stream.TELEMETRY, 1, 2)
    stage.deliver(Stream.TELEMETRY, 1, sample(1), sample(2))
    stage.emit(ev.Acknowledged, Stream.TELEMETRY, 2)
    stage.emit(ev.Awaited, "in use")
    assert stage.violations() == []
    account = stage.inspector.the(QueueKeeps).oracle.account()
    assert str(account) == "attempted 2, acknowledged 2, delivered 2, lost 0, unexpected 0, duplicated 0"


def test_8_catches_a_promise_that_was_not_kept() -> None:
    stage = Stage(QueueKeeps)
    stage.attempt(1, sample(1))
    stage.commit(1, Stream.TELEMETRY, 1)
    stage.emit(ev.Awaited, "in use")
    assert "1 of telemetry were promised" in words(stage.violations())
    assert stage.inspector.the(QueueKeeps).oracle.account().lost == 1


def test_8_catches_a_sequence_number_that_is_given_away_again() -> None:
    stage = Stage(QueueKeeps)
    for ticket in (1, 2):
        stage.attempt(ticket, sample(ticket))
        stage.commit(ticket, Stream.TELEMETRY, 1)
    assert "telemetry 1 was given away again" in words(stage.violations())


def test_8_catches_a_record_that_nobody_handed_in() -> None:
    stage = Stage(QueueKeeps)
    stage.deliver(Stream.TELEMETRY, 1, sample(1))
    assert "nobody had handed it in" in words(stage.violations())


def test_8_catches_a_record_that_comes_twice_under_two_numbers() -> None:
    stage = Stage(QueueKeeps)
    stage.attempt(1, sample(1))
    stage.commit(1, Stream.TELEMETRY, 1)
    stage.deliver(Stream.TELEMETRY, 1, sample(1))
    stage.deliver(Stream.TELEMETRY, 2, sample(1))
    assert "came twice" in words(stage.violations())


def test_8_a_depot_from_a_backup_may_ask_again_for_the_same() -> None:
    stage = Stage(QueueKeeps)
    stage.attempt(1, sample(1))
    stage.commit(1, Stream.TELEMETRY, 1)
    for _ in range(2):
        stage.deliver(Stream.TELEMETRY, 1, sample(1))
    assert stage.violations() == []
    stage.deliver(Stream.TELEMETRY, 1, sample(9))
    assert "came again as another record" in words(stage.violations())


def test_8_catches_a_hole_in_the_sequence() -> None:
    stage = Stage(QueueKeeps)
    stage.attempt(1, sample(1), sample(2))
    stage.commit(1, Stream.TELEMETRY, 1, 2)
    stage.deliver(Stream.TELEMETRY, 2, sample(2))
    assert "2 came after 0" in words(stage.violations())


def test_8_catches_rows_that_are_let_go_before_the_depot_has_them() -> None:
    stage = Stage(QueueKeeps)
    stage.emit(ev.Acknowledged, Stream.ALARM, 3)
    assert "the depot never had more than 0" in words(stage.violations())


@pytest.mark.parametrize(
    ("record", "age_s", "caught"),
    [(sample(1), 4, False), (sample(1), 7, True), (started(1), 0.5, False), (started(1), 3, True)],
)
def test_8_a_kill_loses_no_more_than_the_stated_window(record: Record, age_s: float, caught: bool) -> None:
    stage = Stage(QueueKeeps)
    stage.attempt(1, record)
    stage.s = age_s
    stage.emit(ev.Agent, "killed", 1)
    assert bool(stage.violations()) is caught


def test_8_a_disk_that_takes_nothing_excuses_the_queue() -> None:
    stage = Stage(QueueKeeps)
    stage.emit(ev.Fault, "disk-full", True)
    stage.attempt(1, started(1))
    stage.s = 60.0
    stage.emit(ev.Agent, "killed", 1)
    assert stage.violations() == []


def test_8_what_was_written_and_not_answered_before_a_kill_may_arrive() -> None:
    stage = Stage(QueueKeeps)
    stage.attempt(1, sample(1))
    stage.s = 0.1
    stage.emit(ev.Agent, "killed", 1)
    stage.deliver(Stream.TELEMETRY, 1, sample(1))
    assert stage.violations() == []


def test_11_catches_a_queue_without_a_bound() -> None:
    stage = Stage(Bounded)
    stage.emit(ev.DiskUse, 1 << 30)
    assert "1073741824 bytes" in words(stage.violations())


@pytest.mark.parametrize("told", [True, False])
def test_11_catches_an_eviction_without_a_record(told: bool) -> None:
    stage = Stage(Bounded)
    stage.emit(ev.Delivered, Stream.TELEMETRY, EPOCH, 1, 7, None)
    if told:
        shed = QUEUE_SHED.make(1, stream="telemetry", first_seq=1, last_seq=7, reason="quota")
        stage.deliver(Stream.ALARM, 1, shed)
    stage.emit(ev.Awaited, "in use")
    assert bool(stage.violations()) is not told


# --- 9, 10: the whole -------------------------------------------------------------------------------


def test_9_catches_a_run_that_decides_otherwise_without_the_jumps() -> None:
    runs = [Stage(WallClockIgnored) for _ in range(3)]
    for stage, decision in zip(runs, (1, 1, 2), strict=True):
        stage.s = 5.0
        stage.run(Lock(decision, cause("tether.unseated")))
    one, same, other = (stage.inspector.the(WallClockIgnored) for stage in runs)
    assert one.compared(BootNs(0), same) is None
    assert one.compared(BootNs(0), other) is not None


@pytest.mark.parametrize("usable", [True, False])
def test_10_catches_a_tablet_that_stays_locked(usable: bool) -> None:
    stage = Stage(Converges)
    stage.begin()
    stage.emit(ev.Usable, usable)
    stage.s = 600.0
    stage.emit(ev.Awaited, "in use")
    assert bool(stage.violations()) is not usable


@pytest.mark.parametrize(("power", "caught"), [("suspended", False), ("on", True)])
def test_10_catches_a_tablet_that_never_sleeps(power: str, caught: bool) -> None:
    stage = Stage(Converges)
    stage.begin()
    stage.emit(ev.Power, power)
    stage.s = 2 * MINUTE / SECOND
    stage.emit(ev.Awaited, "asleep")
    assert bool(stage.violations()) is caught
