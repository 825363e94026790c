"""Permits, short codes and the safety override, as the core decides them."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core import explain
from agent.core.catalogue import (
    CODE_REQUESTED,
    ENFORCEMENT_CHANGED,
    GRANT_CHANGED,
    GRANT_REFUSED,
    OVERRIDE_TAKEN,
)
from agent.core.grants import NOTHING_KNOWN
from agent.core.machine import last_words
from agent.core.policy import Policy
from agent.core.state import Answer, TetherState
from agent.core.types import (
    SECOND,
    Basis,
    BootNs,
    CodeAnswered,
    CodeRequested,
    DepotContact,
    DockForeign,
    DocumentRefused,
    Effects,
    ForeignReason,
    GrantKept,
    GrantMemory,
    GrantsRevoked,
    KeepGrant,
    Lock,
    MemoryFound,
    OverrideRefilled,
    OverrideTaken,
    PermitPresented,
    Release,
    Remember,
    Remembered,
    Scope,
    SleepSignal,
    StoreHealth,
    StoreRenewed,
)
from tests.core_driver import Core, status

POLICY = Policy()
G = POLICY.grants
FULL = Remembered("boot", "restricted", 0, 60 * SECOND)


def undocked(memory: GrantMemory | None = None, boot_id: str = "boot") -> Core:
    """A tablet without its dock, restricted, that knows what it remembers."""
    core = Core(POLICY)
    core.start(Remembered("boot", "restricted", 0, 60 * SECOND, grants=memory or GrantMemory()), boot_id)
    core.effects.clear()
    return core


def permit(
    core: Core, minutes: int = 45, id_: str = "a", number: int = 1, scope: Scope = Scope.UNDOCKED
) -> Effects:
    return core.see(PermitPresented(core.now, id_, number, scope, minutes))


def challenge(core: Core, minutes: int = 30, scope: Scope = Scope.UNDOCKED) -> None:
    core.see(CodeRequested(core.now, "7K2MQ9TD", scope, minutes))


def code(core: Core, right: bool = True) -> str:
    core.see(CodeAnswered(core.now, right))
    return rule(core)


def override(core: Core) -> str:
    core.see(OverrideTaken(core.now, 1000))
    return rule(core)


def answer(core: Core) -> Answer:
    assert core.state.grants.answer is not None
    return core.state.grants.answer


def rule(core: Core) -> str:
    return answer(core).rule


def reboot(core: Core, boot_id: str) -> Core:
    """The next boot of the same tablet, with what its store kept; its clock begins at 0."""
    fresh = Core(POLICY, at_s=5)
    fresh.start(core.kept, boot_id)
    if fresh.kept is None:
        fresh.kept = core.kept
    return fresh


def changes(core: Core) -> list[tuple[Any, ...]]:
    return [(r["verdict"], r["rule"]) for r in (x.as_dict() for x in core.records(GRANT_CHANGED))]


# --- permits --------------------------------------------------------------------------------------


def test_a_permit_makes_the_tablet_usable_for_its_time_and_no_longer() -> None:
    core = undocked()
    assert not core.usable()
    permit(core, minutes=45)
    assert core.usable()
    assert answer(core).given
    core.run(45 * 60 - 0.1)
    assert core.usable()
    core.run(0.1)
    assert not core.usable()
    assert changes(core) == [("permit", "grant.permit"), ("none", "grant.used_up")]
    lock = core.made(Lock)[-1]
    assert lock.cause.rule == "grant.used_up"


def test_a_permit_is_used_only_after_its_slice_is_durable() -> None:
    core = undocked()
    core.store = "hangs"
    made = permit(core)
    assert not core.usable()
    assert not [effect for effect in made if isinstance(effect, Release)]
    asked = next(effect for effect in made if isinstance(effect, KeepGrant))
    remembered = next(effect.what for effect in made if isinstance(effect, Remember))
    assert remembered.grants.permit is not None
    assert remembered.grants.permit.left_ns == 44 * 60 * SECOND
    core.store = "works"
    made = core.see(GrantKept(core.now, asked.number, kept=True))
    [release] = [effect for effect in made if isinstance(effect, Release)]
    assert release.basis is Basis.GRANT
    assert release.cause.rule == "grant.permit"


def test_every_slice_is_durable_before_it_begins() -> None:
    core = undocked()
    permit(core, minutes=5)
    for slice_ in range(1, 5):
        core.until(BootNs(10 * SECOND + slice_ * 60 * SECOND - 1))
        assert core.state.grants.slice_until == 10 * SECOND + (slice_ + 1) * 60 * SECOND
    core.store = "hangs"
    assert core.usable()


def test_a_slice_that_is_not_kept_is_not_used_and_is_taken_again_later() -> None:
    core = undocked()
    permit(core, minutes=5)
    core.run(30)
    core.store = "hangs"
    core.run(29.9)
    assert core.usable()
    core.run(0.1)
    assert not core.usable(), "the second minute was never recorded"
    assert changes(core)[-1] == ("none", "grant.slice_over")
    core.run(600)
    assert not core.usable()
    core.store = "works"
    core.see(GrantKept(core.now, core.state.grants.asked, kept=True))
    assert core.usable(), "the store works again: four minutes are left"
    core.run(4 * 60 - 1)
    assert core.usable()
    core.run(1)
    assert not core.usable()


def test_a_failed_store_refuses_permits() -> None:
    core = undocked()
    core.see(StoreHealth(core.now, ok=False, detail="disk full"))
    permit(core)
    assert rule(core) == "grant.not_kept"
    core.see(StoreHealth(core.now, ok=True, detail=""))
    permit(core)
    assert core.usable(), "it was not used up by being refused"


@pytest.mark.parametrize("how", ["it says so", "it is silent"])
def test_a_store_that_fails_while_a_permit_is_recorded_refuses_it(how: str) -> None:
    core = undocked()
    core.store = "hangs"
    permit(core)
    assert core.state.grants.answer is None, "nobody is told before it is known"
    if how == "it says so":
        core.see(StoreHealth(core.now, ok=False, detail="disk full"))
    else:
        core.run(5)
    assert rule(core) == "grant.not_kept"
    assert core.remembered is not None
    assert core.remembered.grants == GrantMemory()


def test_a_permit_is_used_once() -> None:
    core = undocked()
    permit(core, minutes=1)
    core.run(61)
    permit(core, minutes=1)
    assert rule(core) == "grant.used"
    assert not core.usable()
    again = reboot(core, "boot 2")
    permit(again, minutes=1)
    assert rule(again) == "grant.used"


def test_what_is_too_old_to_be_remembered_counts_as_used() -> None:
    core = undocked()
    for number in range(10, 60):
        permit(core, minutes=1, id_=f"id {number}", number=number)
        core.run(61)
    assert len(core.state.grants.memory.used) == 32
    permit(core, minutes=1, id_="id 10", number=10)
    assert rule(core) == "grant.superseded"
    permit(core, minutes=1, id_="never seen", number=20)
    assert rule(core) == "grant.superseded"
    permit(core, minutes=1, id_="id 59", number=59)
    assert rule(core) == "grant.used"


def test_a_boot_costs_the_open_slice_and_ten_minutes() -> None:
    core = undocked()
    permit(core, minutes=45)
    core.run(5)
    again = reboot(core, "boot 2")
    assert again.usable()
    again.run(60 * (45 - 1 - 10) - 1)
    assert again.usable()
    again.run(1)
    assert not again.usable()


def test_a_permit_ends_at_its_third_boot() -> None:
    core = undocked()
    permit(core, minutes=120)
    first = reboot(core, "boot 2")
    second = reboot(first, "boot 3")
    assert second.usable()
    third = reboot(second, "boot 4")
    assert not third.usable()
    assert changes(third) == [("none", "grant.boots")]
    assert reboot(third, "boot 5").state.grants.memory.permit is None


def test_a_reboot_loop_uses_a_permit_up() -> None:
    core = undocked()
    permit(core, minutes=15)
    again = reboot(core, "boot 2")
    again.run(60)
    last = reboot(again, "boot 3")
    assert not last.usable()
    assert changes(last) == [("none", "grant.used_up")]


def test_a_boot_is_recorded_before_what_is_left_is_used() -> None:
    core = undocked()
    permit(core)
    again = Core(POLICY, at_s=5)
    again.store = "hangs"
    made = again.start(core.kept, "boot 2")
    assert not again.usable()
    remembered = next(effect.what for effect in made if isinstance(effect, Remember))
    assert remembered.boot_id == "boot 2"
    assert remembered.grants.permit is not None
    assert remembered.grants.permit.boots == 1


def test_a_restart_of_the_agent_goes_on_in_the_open_slice_and_costs_nothing() -> None:
    core = undocked()
    permit(core, minutes=45)
    core.run(30)
    core.effects.clear()
    made = core.restart(core.kept)
    assert core.usable()
    assert not [effect for effect in made if isinstance(effect, Lock)], "no lock for a mere restart"
    core.until(BootNs(10 * SECOND + 45 * 60 * SECOND - 1))
    assert core.usable()
    core.run(1)
    assert not core.usable()


def test_a_permit_ends_when_the_tablet_is_docked_again() -> None:
    core = undocked()
    permit(core, minutes=120)
    core.dock(3)
    assert core.state.tether.state is TetherState.TETHERED
    assert ("none", "grant.docked") in changes(core)
    core.dock(1, seated=False)
    assert not core.usable()


def test_a_pothole_does_not_end_a_permit_that_was_loaded_in_the_dock() -> None:
    core = Core(POLICY).tethered()
    permit(core, minutes=120)
    core.run(3)
    assert core.state.tether.state is TetherState.UNCERTAIN
    core.dock(3)
    core.dock(1, seated=False)
    assert core.usable()


def test_scope_undocked_does_not_lift_a_foreign_dock() -> None:
    for scope, usable in ((Scope.UNDOCKED, False), (Scope.ANY, True)):
        core = undocked()
        permit(core, scope=scope)
        core.see(DockForeign(core.now, "dock", ForeignReason.OTHER_DOCK, core.now))
        assert core.state.tether.state is TetherState.FOREIGN
        assert core.usable() is usable


def test_a_longer_permit_takes_over_and_a_shorter_one_is_kept_for_later() -> None:
    core = undocked()
    permit(core, minutes=30)
    core.run(10)
    permit(core, minutes=20, id_="b", number=2)
    assert rule(core) == "grant.longer_runs"
    permit(core, minutes=60, id_="c", number=3)
    assert rule(core) == "grant.permit"
    core.run(60 * 60 - 1)
    assert core.usable()
    core.run(1)
    assert not core.usable()
    permit(core, minutes=20, id_="b", number=2)
    assert core.usable(), "it was not used by being refused"


def test_a_permit_is_bounded_by_policy() -> None:
    core = undocked()
    permit(core, minutes=G.permit_max_min + 1)
    assert rule(core) == "grant.too_long"


def test_alarm_and_outputs_are_off_while_a_grant_holds_and_on_after_it() -> None:
    core = undocked()
    core.run(1)
    buzzes = [core.state.outputs.buzzer]
    permit(core, minutes=1)
    buzzes.append(core.state.outputs.buzzer)
    assert not core.state.outputs.led
    core.run(60)
    assert [*buzzes, core.state.outputs.buzzer] == [True, False, True]


def test_every_change_of_enforcement_by_a_grant_has_one_record_with_the_grants_reason() -> None:
    core = undocked()
    permit(core, minutes=1)
    core.run(61)
    records = [record.as_dict() for record in core.records(ENFORCEMENT_CHANGED)]
    assert [(r["posture"], r["basis"], r["rule"]) for r in records] == [
        ("usable", "grant", "grant.permit"),
        ("locked", "", "grant.used_up"),
    ]


def test_a_sleep_suspends_a_permit_and_takes_none_of_it() -> None:
    core = undocked()
    permit(core, minutes=10)
    core.run(5)
    made = core.see(SleepSignal(core.now, starting=True))
    assert not core.usable()
    [lock] = [effect for effect in made if isinstance(effect, Lock)]
    assert lock.cause.rule == "grant.sleep"
    core.now = BootNs(core.now + 3600 * SECOND)
    core.see(SleepSignal(core.now, starting=False))
    assert core.usable()
    core.run(9 * 60 - 1)
    assert core.usable()
    core.run(1)
    assert not core.usable()


def test_a_sleep_that_outlasts_its_time_out_is_one_lock_and_one_release() -> None:
    core = undocked()
    core.see(OverrideTaken(core.now, 1000))
    core.see(SleepSignal(core.now, starting=True))
    core.effects.clear()
    core.now = BootNs(core.now + 600 * SECOND)
    core.see(SleepSignal(core.now, starting=False))
    assert [record.as_dict()["posture"] for record in core.records(ENFORCEMENT_CHANGED)] == ["usable"]
    assert core.made(Lock) == []


# --- revocation -----------------------------------------------------------------------------------


def test_root_revokes_all() -> None:
    core = undocked()
    permit(core)
    override(core)
    challenge(core)
    core.see(GrantsRevoked(core.now, "root", None))
    assert not core.usable()
    assert core.state.grants.challenge is None
    assert answer(core).given


def test_a_signed_revocation_ends_and_refuses_permits_up_to_its_number() -> None:
    core = undocked()
    permit(core, number=7)
    core.see(GrantsRevoked(core.now, "document", 6))
    assert core.usable()
    core.see(GrantsRevoked(core.now, "document", 7))
    assert not core.usable()
    permit(core, id_="never used", number=7)
    assert rule(core) == "grant.superseded"
    core.see(GrantsRevoked(core.now, "document", 3))
    permit(core, id_="never used either", number=5)
    assert rule(core) == "grant.superseded", "an older revocation takes nothing back"
    permit(core, id_="new", number=8)
    assert core.usable()


def test_what_is_revoked_while_it_is_recorded_never_begins() -> None:
    core = undocked()
    core.store = "hangs"
    permit(core)
    number = core.state.grants.asked
    core.see(GrantsRevoked(core.now, "root", None))
    core.see(GrantKept(core.now, number, kept=True))
    assert not core.usable()


# --- short codes ----------------------------------------------------------------------------------


def test_the_right_answer_grants_what_was_asked_for() -> None:
    core = undocked()
    challenge(core, minutes=30)
    assert core.records(CODE_REQUESTED)[0].as_dict()["minutes"] == 30
    assert code(core) == "grant.code"
    core.run(30 * 60 - 1)
    assert core.usable()
    core.run(1)
    assert not core.usable()


def test_a_challenge_is_answered_once() -> None:
    core = undocked()
    challenge(core, minutes=1)
    code(core)
    core.run(61)
    assert code(core) == "grant.no_challenge"
    assert not core.usable()


def test_a_challenge_does_not_outlive_its_time_or_a_restart() -> None:
    core = undocked()
    challenge(core)
    core.run(G.challenge_s)
    assert code(core) == "grant.no_challenge"
    challenge(core)
    core.restart(core.kept)
    assert code(core) == "grant.no_challenge"


def test_after_five_wrong_answers_the_wait_grows_and_comes_before_the_verdict() -> None:
    core = undocked()
    challenge(core)
    for _ in range(5):
        assert code(core, right=False) == "grant.code_wrong"
    for wait_s in (60, 120, 240):
        core.run(wait_s - 1)
        assert code(core, right=True) == "grant.code_wait", "even the right one"
        core.run(1)
        challenge(core)
        assert code(core, right=False) == "grant.code_wrong"
    core.run(480)
    challenge(core)
    assert code(core) == "grant.code"
    core.see(GrantsRevoked(core.now, "root", None))
    challenge(core)
    assert code(core, right=False) == "grant.code_wrong"
    assert code(core) == "grant.code", "a right answer gives five tries again"


def test_the_wait_has_an_end() -> None:
    core = undocked(GrantMemory(tries=5000))
    challenge(core)
    code(core, right=False)
    core.run(G.delay_max_s)
    challenge(core)
    assert code(core) == "grant.code"


def test_no_challenge_is_shown_while_one_has_to_wait() -> None:
    core = undocked(GrantMemory(tries=5), boot_id="boot 2")
    challenge(core)
    assert rule(core) == "grant.code_wait"
    core.run(60)
    challenge(core)
    assert rule(core) == "grant.challenge"


def test_a_reboot_begins_the_wait_anew_and_gives_no_try_back() -> None:
    core = undocked()
    challenge(core)
    for _ in range(6):
        code(core, right=False)
        core.run(60)
    core.run(60)
    assert core.kept is not None
    again = reboot(core, "boot 2")
    challenge(again)
    assert rule(again) == "grant.code_wait"
    again.run(119)
    challenge(again)
    assert rule(again) == "grant.code_wait"
    again.run(1)
    challenge(again)
    assert code(again, right=False) == "grant.code_wrong"
    assert again.state.grants.memory.tries == 7


def test_nobody_learns_that_an_answer_was_wrong_before_the_try_is_recorded() -> None:
    core = undocked()
    challenge(core)
    core.store = "hangs"
    core.see(CodeAnswered(core.now, right=False))
    assert core.state.grants.answer is None
    assert core.remembered is not None
    assert core.remembered.grants.tries == 1
    core.see(GrantKept(core.now, core.state.grants.asked, kept=True))
    assert rule(core) == "grant.code_wrong"


def test_a_flood_of_challenges_is_counted() -> None:
    core = undocked()
    for _ in range(50):
        challenge(core)
    core.run(10)
    challenge(core)
    assert [record.as_dict()["before"] for record in core.records(CODE_REQUESTED)] == [0, 49]
    assert code(core) == "grant.code"


# --- the safety override --------------------------------------------------------------------------


def test_an_override_is_time_boxed_and_an_alarm_record_at_once() -> None:
    core = undocked()
    assert override(core) == "grant.override"
    assert core.usable()
    assert core.records(OVERRIDE_TAKEN)[0].as_dict() == {"uid": 1000, "length_s": 900, "left": 1}
    [release] = core.made(Release)
    assert release.basis is Basis.OVERRIDE
    core.run(899)
    assert core.usable()
    core.run(1)
    assert not core.usable()
    assert core.made(Lock)[-1].cause.rule == "grant.over"


def test_two_overrides_and_no_more() -> None:
    core = undocked()
    for _ in range(2):
        assert override(core) == "grant.override"
        core.run(900)
    assert override(core) == "grant.no_override"
    again = reboot(core, "boot 2")
    assert override(again) == "grant.no_override"


def test_a_second_tap_takes_no_second_override() -> None:
    core = undocked()
    core.store = "slow"
    core.see(OverrideTaken(core.now, 1000))
    core.see(OverrideTaken(core.now, 1000))
    core.store = "works"
    core.see(GrantKept(core.now, core.state.grants.asked, kept=True))
    assert override(core) == "grant.override"
    assert core.state.grants.memory.overrides == 1
    assert len(core.records(OVERRIDE_TAKEN)) == 1


def test_an_override_ends_with_the_boot_and_outlives_a_restart_of_the_agent() -> None:
    core = undocked()
    override(core)
    core.run(60)
    core.restart(core.kept)
    assert core.usable()
    core.until(BootNs(910 * SECOND - 1))
    assert core.usable()
    core.run(1)
    assert not core.usable()
    override(core)
    assert not reboot(core, "boot 2").usable()


def test_an_hour_tethered_refills_the_overrides_and_a_broken_one_does_not() -> None:
    core = undocked(GrantMemory(overrides=0))
    core.dock(1800)
    core.run(3)
    core.dock(3598)
    assert core.state.grants.memory.overrides == 0
    core.dock(10)
    assert core.state.grants.memory.overrides is None


def test_a_signed_refill_works_once() -> None:
    core = undocked(GrantMemory(overrides=0))
    core.see(OverrideRefilled(core.now, "r", 5))
    assert rule(core) == "grant.refilled"
    assert override(core) == "grant.override"
    core.see(OverrideRefilled(core.now, "r", 5))
    assert rule(core) == "grant.used"


def test_an_override_covers_a_foreign_dock_too() -> None:
    core = undocked()
    core.see(DockForeign(core.now, "dock", ForeignReason.BAD_MAC, core.now))
    override(core)
    assert core.usable()


def test_when_the_store_fails_the_override_works_once_a_boot() -> None:
    core = undocked()
    core.store = "fails"
    core.see(StoreHealth(core.now, ok=False, detail="disk full"))
    assert override(core) == "grant.override_unrecorded"
    assert core.usable()
    core.run(900)
    assert override(core) == "grant.emergency_spent"
    assert not core.usable()
    core.restart(core.kept)
    assert core.state.grants.emergency_spent is False, "the runtime's note says so; see test_life"


def test_an_override_is_not_held_up_by_a_permit_that_the_store_does_not_keep() -> None:
    core = undocked()
    core.store = "hangs"
    permit(core)
    core.store = "fails"
    assert override(core) == "grant.override_unrecorded"
    assert core.usable()


# --- a lost memory --------------------------------------------------------------------------------


def test_without_a_memory_nothing_is_granted_before_proof() -> None:
    core = Core(POLICY)
    core.start(None)
    permit(core)
    assert rule(core) == "grant.void"
    challenge(core)
    assert rule(core) == "grant.void"
    assert override(core) == "grant.void"
    core.dock(3)
    core.dock(1, seated=False)
    assert not core.usable()
    assert override(core) == "grant.override"


def test_a_word_of_the_depot_ends_the_void() -> None:
    core = Core(POLICY)
    core.start(None)
    core.see(DepotContact(core.now))
    permit(core)
    assert core.usable()


def test_a_store_that_fails_from_the_start_leaves_one_override() -> None:
    core = Core(POLICY)
    core.store = "fails"
    core.start(None)
    core.see(StoreHealth(core.now, ok=False, detail="disk full"))
    assert override(core) == "grant.override_unrecorded"
    assert core.usable()


def test_a_salvage_ends_every_grant_and_refuses_new_ones_before_proof() -> None:
    core = undocked()
    permit(core)
    override(core)
    core.see(StoreRenewed(core.now, "salvaged"))
    assert not core.usable()
    permit(core, id_="b", number=2)
    assert rule(core) == "grant.void"
    again = reboot(core, "boot 2")
    assert override(again) == "grant.void", "a reboot does not end it"
    again.dock(3)
    again.dock(1, seated=False)
    permit(again, number=1)
    assert rule(again) == "grant.used", "what this run remembers it still knows"


def test_a_renewed_store_is_told_at_once_what_there_is_to_remember() -> None:
    """Its file is empty: in the dock nothing changes, and still everything is to be written."""
    core = Core(POLICY).tethered()
    made = core.see(StoreRenewed(core.now, "kept as queue.db.damaged-1"))
    [remembered] = [effect.what for effect in made if isinstance(effect, Remember)]
    assert remembered.decision == core.state.decision
    assert not remembered.grants.void, "the dock's proof is fresh"


# --- words ----------------------------------------------------------------------------------------


def test_why_tether_shows_every_grant_with_what_is_left() -> None:
    core = undocked()
    permit(core, minutes=45, number=77)
    override(core)
    core.run(60)
    shown = {item["source"]: item for item in explain.why(core.state, "tether", POLICY, core.now)["evidence"]}
    assert shown["permit 77"]["value"] == f"{44 * 60} s left"
    assert shown["permit 77"]["note"] == "undocked, boot 1 of 3"
    assert shown["override"]["value"] == "840 s left"
    assert shown["override"]["note"] == "1 of 2 left"
    status = explain.status(core.state, POLICY, core.now)["grants"]
    assert status["state"] == "permit and override"
    assert status["permit"] == {
        "number": 77, "scope": "undocked", "s_left": 44 * 60, "boots": 0, "holds": True,
    }  # fmt: skip


def test_refusals_are_recorded_and_a_flood_of_them_is_counted() -> None:
    core = undocked()
    for _ in range(50):
        core.see(DocumentRefused(core.now, "signature", "altered"))
    core.run(10)
    core.see(DocumentRefused(core.now, "signature", "altered"))
    records = [record.as_dict() for record in core.records(GRANT_REFUSED)]
    assert [(r["rule"], r["before"]) for r in records] == [
        ("grant.document_signature", 0),
        ("grant.document_signature", 49),
    ]


def test_an_orderly_stop_keeps_what_a_crash_keeps() -> None:
    core = undocked()
    permit(core)
    assert core.kept is not None
    assert last_words(core.state, core.now).grants == core.kept.grants


# --- a memory that is found late --------------------------------------------------------------------


def unread() -> Core:
    """Started in a new boot on a store that nobody could read; then proved, so that nothing is void."""
    core = Core(POLICY, at_s=5)
    core.start(Remembered(tether="tethered", budget_ns=None, decision=1 << 40, grants=NOTHING_KNOWN), "new")
    core.proof()
    core.dock(3)
    core.see(status(core.now, seated=False))
    assert not core.state.grants.memory.void
    return core


def test_a_used_permit_is_used_also_when_the_store_could_not_say_so_at_the_start() -> None:
    before = undocked(GrantMemory(overrides=1))
    permit(before, id_="a", number=1)
    assert before.kept is not None
    core = unread()
    core.see(MemoryFound(core.now, before.kept))
    permit(core, id_="a", number=1)
    assert rule(core) == "grant.used"
    remembered = core.made(Remember)[-1].what
    assert remembered.grants.used == before.kept.grants.used
    assert remembered.decision > before.kept.decision
    assert override(core) == "grant.override"
    core.run(16 * 60)
    assert override(core) == "grant.no_override"


def test_a_permit_that_ran_goes_on_after_the_boot_s_cost_unless_the_tablet_was_docked() -> None:
    before = undocked()
    permit(before, minutes=60)
    assert before.kept is not None
    core = Core(POLICY, at_s=5)
    core.start(Remembered(tether="restricted", budget_ns=None, grants=NOTHING_KNOWN), "new")
    core.see(MemoryFound(core.now, before.kept))
    kept = core.state.grants.memory.permit
    assert kept is not None
    assert kept.left_ns <= 49 * 60 * SECOND
    assert kept.boots == 1
    docked = Core(POLICY, at_s=5)
    docked.start(Remembered(tether="restricted", budget_ns=None, grants=NOTHING_KNOWN), "new")
    docked.proof()
    docked.dock(3)
    docked.see(MemoryFound(docked.now, before.kept))
    assert docked.state.grants.memory.permit is None
