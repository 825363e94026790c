"""The tether: every cell of its table, ride-through and budget, restarts, sleep, enforcement."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from agent.core import tether_rules
from agent.core.catalogue import (
    ENFORCEMENT_CHANGED,
    FOREIGN_DOCK,
    LOCK_OUTCOME,
    TETHER_CHANGED,
    USED_WHILE_LOCKED,
)
from agent.core.machine import last_words
from agent.core.policy import DockBit, Policy, TetherPolicy, Wire
from agent.core.state import TetherState
from agent.core.tether_rules import Finding
from agent.core.types import (
    MS,
    SECOND,
    AllowSleep,
    Announce,
    Basis,
    BootNs,
    DockForeign,
    DockLinkLost,
    DockProof,
    DriveOutputs,
    Explain,
    ForeignReason,
    KeyPosition,
    Lease,
    LinkLoss,
    Lock,
    LockOrdered,
    LockOutcome,
    OverrideTaken,
    Posture,
    Prove,
    Release,
    Remember,
    Remembered,
    ShutdownSignal,
    SleepSignal,
    UsedWhileLocked,
)
from tests.core_driver import STATUS_PERIOD_MS, Core, status

UNKNOWN, TETHERED, UNCERTAIN, RESTRICTED, FOREIGN = TetherState
SHORT = Policy(tether=TetherPolicy(refill_after_s=5))

# The whole table, cell by cell; None leaves the state.
CELLS = {
    Finding.FOREIGN: (FOREIGN, FOREIGN, FOREIGN, FOREIGN, None),
    Finding.ORDERED: (RESTRICTED, RESTRICTED, RESTRICTED, None, None),
    Finding.SLEEP: (None, UNKNOWN, UNKNOWN, None, None),
    Finding.UNSEATED: (RESTRICTED, RESTRICTED, RESTRICTED, None, None),
    Finding.PROVEN: (TETHERED, None, TETHERED, TETHERED, TETHERED),
    Finding.HINTED_OUT: (RESTRICTED, RESTRICTED, RESTRICTED, None, None),
    Finding.HINTED_IN: (TETHERED, None, TETHERED, TETHERED, None),
    Finding.RETURNING: (None, None, None, None, None),
    Finding.EXPIRED: (None, RESTRICTED, RESTRICTED, None, None),
    Finding.LOST: (None, UNCERTAIN, None, None, None),
}


@pytest.mark.parametrize(("state", "finding"), list(product(TetherState, Finding)))
def test_each_cell_of_the_table(state: TetherState, finding: Finding) -> None:
    rows = [row for row in tether_rules.TABLE if state in row.frm and row.finding is finding]
    expected = CELLS[finding][list(TetherState).index(state)]
    assert [row.to for row in rows] == ([] if expected is None else [expected])


def core_in(state: TetherState) -> Core:
    """A core that came into a state the way a tablet does."""
    core = Core(SHORT)
    if state is UNKNOWN:
        core.start()
        return core
    core.tethered()
    if state is UNCERTAIN:
        core.run(2)
    elif state is RESTRICTED:
        core.see(status(core.now, seated=False))
    elif state is FOREIGN:
        core.see(DockForeign(core.now, "dock", ForeignReason.BAD_MAC, core.now))
    assert core.state.tether.state is state
    core.effects.clear()
    return core


@pytest.mark.parametrize("state", TetherState)
@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("unseated", (RESTRICTED, RESTRICTED, RESTRICTED, RESTRICTED, FOREIGN)),
        ("foreign", (FOREIGN, FOREIGN, FOREIGN, FOREIGN, FOREIGN)),
        ("sleep", (UNKNOWN, UNKNOWN, UNKNOWN, RESTRICTED, FOREIGN)),
        ("untagged unseated", tuple(TetherState)),
        ("untagged seated", tuple(TetherState)),
        ("link lost", tuple(TetherState)),
        ("proof alone", tuple(TetherState)),
        ("silence", (UNKNOWN, RESTRICTED, RESTRICTED, RESTRICTED, FOREIGN)),
        ("docked", (TETHERED, TETHERED, TETHERED, TETHERED, TETHERED)),
    ],
)
def test_each_state_meets_each_kind_of_evidence(
    state: TetherState, seen: str, expected: tuple[TetherState, ...]
) -> None:
    core = core_in(state)
    match seen:
        case "unseated":
            core.see(status(core.now, seated=False))
        case "foreign":
            core.see(DockForeign(core.now, "dock", ForeignReason.OTHER_DOCK, core.now))
        case "sleep":
            core.see(SleepSignal(core.now, starting=True))
        case "untagged unseated":
            core.see(status(core.now, authenticated=False, seated=False))
        case "untagged seated":
            core.see(status(core.now, authenticated=False))
        case "link lost":
            core.see(DockLinkLost(core.now, "dock", LinkLoss.UNPLUGGED))
        case "proof alone":
            core.proof()
        case "silence":
            core.run(10)
        case "docked":
            core.proof()
            core.dock(1)
    assert core.state.tether.state is expected[list(TetherState).index(state)]
    usable = core.state.tether.state in (TETHERED, UNCERTAIN)
    assert core.state.posture is (Posture.USABLE if usable else Posture.LOCKED)


@pytest.mark.parametrize("age_ms", [1400, 1499])
def test_a_line_that_delays_to_the_edge_of_freshness_does_not_chatter(age_ms: int) -> None:
    """Each STATUS goes stale before the next one comes: one loss, not one at each STATUS."""
    core = core_in(TETHERED)
    for n in range(300):
        if n % 50 == 0:
            core.proof()
        core.see(status(core.now, evidence_at=BootNs(core.now - age_ms * MS)))
        core.run(STATUS_PERIOD_MS / 1000)
    changes = [record.as_dict()["verdict"] for record in core.records(TETHER_CHANGED)]
    assert changes == ["uncertain", "restricted"]
    core.dock(1)
    assert core.state.tether.state is TETHERED


@pytest.mark.parametrize(("age_ms", "ends"), [(900, True), (1100, False)])
def test_only_a_status_that_counts_for_a_while_ends_an_uncertainty(age_ms: int, ends: bool) -> None:
    core = core_in(UNCERTAIN)
    core.proof()
    core.see(status(core.now, evidence_at=BootNs(core.now - age_ms * MS)))
    assert (core.state.tether.state is TETHERED) is ends
    core.see(status(core.now))
    assert core.state.tether.state is TETHERED


def test_unseated_by_authenticated_word_locks_at_once_with_one_record() -> None:
    core = core_in(TETHERED)
    number = core.state.decision
    made = core.see(status(core.now, seated=False))
    assert made[0] == Lock(number + 1, core.state.tether.decision)
    [record] = core.records(ENFORCEMENT_CHANGED)
    assert record.as_dict()["rule"] == "tether.unseated"
    assert record.as_dict()["decision"] == number + 1
    [remember] = core.made(Remember)
    assert (remember.what.tether, remember.what.decision) == ("restricted", number + 1)
    assert any(isinstance(effect, Explain) for effect in made)


def test_silence_gets_the_ride_through_and_no_more() -> None:
    core = core_in(TETHERED)
    last = core.state.tether.evidence_at
    assert last is not None
    core.until(BootNs(last + 4000 * MS - 1))
    assert core.usable()
    core.until(BootNs(last + 4000 * MS))
    assert not core.usable()
    assert core.state.tether.decision.rule == "tether.ride_through_over"


def test_evidence_that_comes_after_the_end_does_not_undo_the_lock() -> None:
    core = core_in(TETHERED)
    core.now = BootNs(core.now + 5 * SECOND)  # the process stood still; no deadline was served
    made = core.see(status(core.now))
    assert isinstance(made[0], Lock)
    assert not core.usable()


def test_a_bouncing_seat_releases_only_after_it_holds() -> None:
    core = core_in(RESTRICTED)
    core.see(status(core.now))
    core.run(0.4)
    assert not core.usable()
    core.see(status(core.now))
    core.run(0.1)
    assert core.usable()
    [release] = core.made(Release)
    assert release.basis is Basis.PROOF


def test_each_loss_draws_on_the_budget_until_nothing_is_left() -> None:
    policy = Policy(tether=TetherPolicy(refill_after_s=30, budget_ms=6000))
    core = Core(policy).tethered()
    core.run(3)
    core.dock(1)
    assert core.state.tether.state is TETHERED
    left = core.state.tether.budget_ns
    assert 2 * SECOND < left < 4 * SECOND
    core.run(3.9)
    assert not core.usable()
    core.proof()
    core.dock(1)
    core.run(1.6)
    assert not core.usable(), "no budget, no ride-through"
    core.proof()
    core.dock(31)
    assert core.state.tether.budget_ns == 6 * SECOND


def test_without_memory_there_is_no_budget() -> None:
    core = Core()
    core.start()
    core.dock(5)
    core.run(1.5)
    assert not core.usable()


def test_the_crank_extension_needs_kl15_or_start_before_the_loss_and_a_crank_window() -> None:
    core = core_in(TETHERED)
    core.key(KeyPosition.START)
    last = core.state.tether.evidence_at
    assert last is not None
    core.until(BootNs(last + 9999 * MS))
    assert core.usable()
    core.until(BootNs(last + 10_000 * MS))
    assert not core.usable()


def test_a_voltage_dip_alone_gives_no_extension() -> None:
    core = Core(SHORT).tethered(kl15=False)
    core.see(status(core.now, kl15=False, vehicle_mv=7000))
    assert core.state.ignition.crank is not None
    core.run(4.1)
    assert not core.usable()


def test_kl15_long_before_the_loss_earns_no_extension() -> None:
    core = core_in(TETHERED)
    core.dock(1.4, kl15=False)
    core.see(status(core.now, kl15=False, vehicle_mv=7000))
    core.run(4.1)
    assert not core.usable()


def test_a_dip_with_kl15_gives_the_extension() -> None:
    core = core_in(TETHERED)
    core.see(status(core.now, vehicle_mv=7000))
    core.run(9.9)
    assert core.usable()


def test_an_accessory_feed_earns_no_extension() -> None:
    policy = Policy(tether=SHORT.tether, ignition=replace(SHORT.ignition, wire=Wire.ACCESSORY))
    core = Core(policy).tethered()
    core.see(status(core.now, vehicle_mv=7000))
    core.run(4.1)
    assert not core.usable()


def test_a_restart_inherits_what_is_left_and_never_more() -> None:
    core = core_in(TETHERED)
    words = last_words(core.state, core.now)
    last = core.state.tether.evidence_at
    assert last is not None
    core.run(1)
    made = core.restart(words)
    assert core.state.tether.state is UNCERTAIN
    assert not any(isinstance(effect, Lock | Release) for effect in made)
    assert core.remembered is not None
    assert core.remembered.budget_ns == 56 * SECOND
    core.run(1)
    core.restart(core.remembered)
    assert core.usable()
    core.until(BootNs(last + 4000 * MS))
    assert not core.usable()


@pytest.mark.parametrize("seconds", [5, 6.2], ids=["no budget", "a refill that was never committed"])
def test_a_restart_within_the_lease_locks_nothing_and_lends_nothing(seconds: float) -> None:
    """What is remembered is from before the refill: a kill came between it and its commit."""
    core = Core(SHORT)
    core.start()
    core.dock(1)
    words = core.remembered
    assert words is not None
    assert words.budget_ns == 0
    core.dock(seconds - 1)
    until, evidence_at = core.state.lease_until, core.state.tether.evidence_at
    assert until is not None
    assert evidence_at is not None
    core.run(0.3)
    assert core.now < until
    made = core.restart(words, lease=Lease(words.decision, until, evidence_at))
    assert not any(isinstance(effect, Lock | Release) for effect in made)
    assert core.state.tether.state is UNCERTAIN
    assert core.state.tether.budget_ns == 0
    core.until(BootNs(until - 1))
    assert core.usable()
    core.until(until)
    assert not core.usable()


def test_a_lease_on_a_permit_is_none_on_evidence() -> None:
    core = core_in(TETHERED)
    words = last_words(core.state, core.now)
    last = core.state.tether.evidence_at
    assert last is not None
    core.restart(words, lease=Lease(words.decision, BootNs(last + 60 * SECOND), last))
    core.until(BootNs(last + 4000 * MS))
    assert not core.usable()


def test_a_restart_after_the_ride_through_locks_without_alarm_at_once() -> None:
    core = core_in(TETHERED)
    words = last_words(core.state, core.now)
    core.now = BootNs(core.now + 5 * SECOND)
    made = core.restart(words)
    assert isinstance(made[0], Lock)
    assert core.state.tether.state is UNKNOWN
    assert not core.state.outputs.led
    core.run(31)
    assert core.state.outputs.led


@pytest.mark.parametrize("state", [RESTRICTED, FOREIGN])
def test_restriction_survives_restart_and_power_off(state: TetherState) -> None:
    core = core_in(state)
    words = last_words(core.state, core.now)
    number = core.state.decision
    made = core.restart(words, "another boot")
    assert core.state.tether.state is state
    assert Lock(number, core.state.tether.decision) in made, "asked for again, under the same number"
    assert core.records(ENFORCEMENT_CHANGED) == []
    assert core.state.outputs.led


@pytest.mark.parametrize("memory", [None, Remembered(), Remembered(boot_id="boot", tether="nonsense")])
def test_a_start_without_usable_memory_is_locked(memory: Remembered | None) -> None:
    core = Core()
    made = core.start(memory)
    assert any(isinstance(effect, Lock) for effect in made)
    assert not core.usable()


def test_evidence_from_another_boot_counts_for_nothing() -> None:
    core = core_in(TETHERED)
    words = last_words(core.state, core.now)
    core.restart(words, "another boot")
    assert core.state.tether.state is UNKNOWN
    assert not core.usable()
    assert core.state.tether.budget_ns == 56 * SECOND, "it was lent for the ride-through, to the last"


def test_evidence_from_the_future_of_the_same_boot_is_damage() -> None:
    core = Core()
    core.start(Remembered("boot", "tethered", core.now + SECOND, 60 * SECOND))
    assert not core.usable()


def test_a_foreign_dock_locks_and_raises_its_own_alarm_once() -> None:
    core = core_in(TETHERED)
    for _ in range(3):
        core.see(DockForeign(core.now, "dock", ForeignReason.OTHER_VEHICLE, core.now))
    [record] = core.records(FOREIGN_DOCK)
    assert record.as_dict() == {"dock": "dock", "reason": "other_vehicle"}
    core.dock(5)
    assert core.state.tether.state is FOREIGN, "status under the old session does not count any more"


def test_a_foreign_dock_beside_the_one_that_the_tablet_is_in_is_an_alarm_and_no_lock() -> None:
    core = core_in(TETHERED)
    core.proof()
    for _ in range(5):
        core.see(DockForeign(core.now, "side", ForeignReason.BAD_MAC, core.now))
        core.dock(1)
    assert core.usable()
    [record] = core.records(FOREIGN_DOCK)
    assert record.as_dict() == {"dock": "side", "reason": "bad_mac"}
    # Once the tablet is out of its own dock, the foreign one counts.
    core.dock(0.2, seated=False)
    core.see(DockForeign(core.now, "side", ForeignReason.BAD_MAC, core.now))
    assert core.state.tether.state is FOREIGN
    assert len(core.records(FOREIGN_DOCK)) == 2


def test_of_two_docks_that_prove_themselves_the_first_stays_until_it_is_lost() -> None:
    core = core_in(TETHERED)
    core.proof()
    for _ in range(3):
        core.proof("side")
        core.dock(1)
        core.see(status(core.now, dock="side"))
    assert core.state.tether.dock == "dock"
    assert core.records(TETHER_CHANGED) == []
    # Its word that the tablet is out counts, whatever the other says; then the other may hold it.
    core.dock(0.2, seated=False)
    assert not core.usable()
    for _ in range(20):
        core.see(status(core.now, dock="side"))
        core.run(0.2)
    assert core.usable()
    assert core.state.tether.dock == "side"


def test_in_a_pool_the_next_dock_is_believed_at_once_though_the_last_is_hardly_gone() -> None:
    """The second dock proves itself, once, while the status of the first is still fresh."""
    core = core_in(TETHERED)
    core.proof()
    core.dock(0.2)
    core.proof("side")
    for _ in range(20):
        core.see(status(core.now, dock="side"))
        core.run(0.2)
    assert core.state.tether.state is TETHERED
    assert core.state.tether.dock == "side"
    assert core.usable()
    assert core.records(ENFORCEMENT_CHANGED) == []


def test_a_proof_that_stands_by_grows_old_too() -> None:
    core = core_in(TETHERED)
    core.proof()
    core.proof("side")
    core.dock(61)
    core.run(10)
    for _ in range(40):
        core.see(status(core.now, dock="side"))
        core.run(0.2)
    assert core.state.tether.state is RESTRICTED


def test_word_of_another_paired_dock_neither_holds_nor_restricts() -> None:
    core = core_in(TETHERED)
    core.proof()
    core.dock(0.2)
    core.proof("side")
    core.see(status(core.now, dock="side", seated=False))
    core.dock(1)
    assert core.usable()
    core.run(2)
    core.see(status(core.now, dock="side", seated=False))
    assert core.state.tether.state is UNCERTAIN
    core.run(4)
    core.see(status(core.now, dock="side", seated=False))
    assert core.state.tether.state is RESTRICTED


def test_the_start_allowance_delays_the_alarm_and_not_the_lock() -> None:
    core = Core()
    core.start()
    assert not core.usable()
    core.run(29.9)
    assert not core.state.outputs.buzzer
    core.run(0.1)
    assert core.state.outputs.buzzer


def test_the_alarm_holds_the_latch_except_over_an_empty_dock() -> None:
    core = core_in(UNCERTAIN)
    core.run(10)
    assert core.made(DriveOutputs)[-1] == DriveOutputs(True, True, True, True, True)
    core.proof()
    core.see(status(core.now, seated=False))
    assert core.state.outputs.latch is False
    core.dock(1)
    assert core.state.outputs == DriveOutputs(False, False, False, True, True)


def test_each_proof_repeats_the_outputs_for_a_dock_that_was_reset() -> None:
    core = core_in(TETHERED)
    assert core.state.outputs in core.proof()


def test_before_sleep_it_locks_and_then_lets_sleep() -> None:
    core = core_in(TETHERED)
    made = core.see(SleepSignal(core.now, starting=True))
    assert isinstance(made[0], Lock)
    assert [type(effect) for effect in made].index(AllowSleep) > 0
    assert Announce("sleeping") in made
    assert not core.usable()


def test_after_resume_only_proof_asked_for_since_counts() -> None:
    core = core_in(TETHERED)
    core.see(SleepSignal(core.now, starting=True))
    core.proof()
    core.dock(1)
    assert not core.usable(), "nothing counts on the way to sleep"
    before = core.now
    core.run(0.5)
    assert Announce("online") in core.see(SleepSignal(core.now, starting=False))
    core.see(DockProof(core.now, "dock", before))
    core.dock(0.8)
    assert not core.usable(), "a proof from before the resume proves nothing after it"
    core.proof()
    core.dock(0.8, evidence_at=before)
    assert not core.usable(), "nothing from before the resume counts after it"
    core.proof()
    core.dock(1)
    assert core.usable()


def test_status_before_the_new_proof_does_not_count_for_it() -> None:
    core = core_in(TETHERED)
    core.proof()
    for _ in range(60 * 5):
        core.see(status(core.now))
        core.run(0.2)
    core.run(0.1)
    assert core.state.tether.state is UNCERTAIN
    core.proof()
    assert core.state.tether.state is UNCERTAIN
    core.see(status(core.now))
    assert core.state.tether.state is TETHERED


def test_what_is_taken_from_the_budget_is_remembered_before_it_is_used() -> None:
    core = core_in(TETHERED)
    core.run(2)
    assert core.remembered is not None
    assert (core.remembered.budget_ns, core.remembered.reserved_ns) == (56 * SECOND, 4 * SECOND)
    core.see(status(core.now, seated=None, vehicle_mv=12_600))
    core.see(status(core.now, seated=None, vehicle_mv=7000))
    assert (core.remembered.budget_ns, core.remembered.reserved_ns) == (50 * SECOND, 10 * SECOND)


def test_a_start_after_the_loss_earns_nothing() -> None:
    core = Core(SHORT).tethered(kl15=False)
    core.run(2)
    core.key(KeyPosition.START)
    core.see(status(core.now, seated=None))
    assert core.state.tether.reserved_ns == 4 * SECOND


def test_a_refill_is_remembered() -> None:
    core = Core(SHORT)
    core.start()
    core.dock(5)
    assert core.remembered is not None
    assert core.remembered.budget_ns == 0
    core.dock(1)
    assert core.remembered.budget_ns == 60 * SECOND


def test_a_sleep_signal_that_was_missed_is_made_up_for_on_resume() -> None:
    core = core_in(TETHERED)
    made = core.see(SleepSignal(core.now, starting=False))
    assert isinstance(made[0], Lock)
    assert not core.usable()


def test_a_woken_tablet_asks_its_docks_for_fresh_proof_at_once() -> None:
    core = core_in(TETHERED)
    core.see(SleepSignal(core.now, starting=True))
    assert Prove() in core.see(SleepSignal(core.now, starting=False))


def test_a_resume_signal_that_never_comes_is_waited_for_with_a_limit() -> None:
    core = core_in(TETHERED)
    core.see(SleepSignal(core.now, starting=True))
    core.run(61)
    core.proof()
    core.dock(1)
    assert core.usable()


def test_a_locked_tablet_is_locked_again_before_sleep() -> None:
    core = core_in(RESTRICTED)
    number = core.state.decision
    made = core.see(SleepSignal(core.now, starting=True))
    assert Lock(number, core.state.tether.decision) in made
    assert core.records(ENFORCEMENT_CHANGED) == []


def test_before_shutdown_it_announces_and_lets_go() -> None:
    core = core_in(TETHERED)
    made = core.see(ShutdownSignal(core.now, starting=True))
    assert made[-2:] == (Announce("shutting_down"), AllowSleep())


def test_use_while_locked_locks_again_under_the_same_decision() -> None:
    core = core_in(RESTRICTED)
    number = core.state.decision
    made = core.see(UsedWhileLocked(core.now, "session 2 unlocked"))
    assert made[0] == Lock(number, core.state.tether.decision)
    assert len(core.records(USED_WHILE_LOCKED)) == 1
    assert core.state.defied == 1
    assert core_in(TETHERED).see(UsedWhileLocked(core.now, "late")) == ()


def test_the_outcome_of_a_lock_is_recorded() -> None:
    core = core_in(RESTRICTED)
    core.see(LockOutcome(core.now, 7, "logind", ok=False, took_ns=2_500_000, detail="not locked"))
    [record] = core.records(LOCK_OUTCOME)
    assert record.as_dict() == {
        "decision": 7, "action": "logind", "ok": False, "took_us": 2500, "detail": "not locked",
    }  # fmt: skip


@pytest.mark.parametrize("bit", DockBit)
@pytest.mark.parametrize("value", [False, None])
def test_every_required_bit_must_be_known_and_set(bit: DockBit, value: bool | None) -> None:
    core = Core(Policy(tether=TetherPolicy(required=tuple(DockBit))))
    core.start()
    core.dock(3, **{bit.value: value})
    assert not core.usable()
    core.dock(3)
    assert core.usable()


def test_an_unknown_bit_is_no_word_and_ages_the_evidence() -> None:
    core = core_in(TETHERED)
    core.dock(1.0, seated=None)
    assert core.state.tether.state is TETHERED
    core.dock(1.0, seated=None)
    assert core.state.tether.state is UNCERTAIN


def test_a_delayed_status_says_nothing_good() -> None:
    core = core_in(TETHERED)
    before = core.now
    core.run(0.2)
    core.see(status(core.now, seated=False))
    core.see(status(core.now, evidence_at=before))
    core.run(1)
    assert not core.usable()


def test_the_status_of_another_dock_counts_for_nothing() -> None:
    core = core_in(TETHERED)
    core.see(status(core.now, dock="other", seated=False))
    assert core.state.tether.state is TETHERED
    core.dock(2, dock="other")
    assert core.state.tether.state is UNCERTAIN


def test_proof_without_renewal_ends_after_its_time() -> None:
    core = core_in(TETHERED)
    for _ in range(70 * 5):
        core.see(status(core.now))
        core.run(0.2)
    assert core.state.tether.state is RESTRICTED


# --- a signed command to lock -----------------------------------------------------------------------


@pytest.mark.parametrize("state", TetherState)
def test_an_order_to_lock_ends_use_in_every_state_and_locks_open_sessions_again(state: TetherState) -> None:
    core = core_in(state)
    core.effects.clear()
    core.see(LockOrdered(core.now))
    assert core.state.tether.state is (FOREIGN if state is FOREIGN else RESTRICTED)
    assert not core.usable()
    assert len(core.made(Lock)) == 1


def test_after_an_order_to_lock_only_proof_from_after_it_opens_the_tablet() -> None:
    core = core_in(TETHERED)
    before = core.now
    core.see(LockOrdered(core.now))
    core.see(DockProof(core.now, "dock", BootNs(before - 1)))
    core.see(status(core.now))
    core.run(2)
    assert not core.usable()
    core.proof()
    core.dock(2)
    assert core.usable()


def test_an_order_to_lock_ends_what_was_granted() -> None:
    core = core_in(RESTRICTED)
    core.see(OverrideTaken(core.now, 1000))
    assert core.usable()
    core.effects.clear()
    core.see(LockOrdered(core.now))
    assert not core.usable()
    [record] = core.records(ENFORCEMENT_CHANGED)
    assert record.as_dict()["rule"] == "grant.revoked"
