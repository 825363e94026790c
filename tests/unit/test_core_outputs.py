"""What came of the dock's latch, light and buzzer: an alarm record for what is news, none for repetitions."""

from __future__ import annotations

from agent.core.catalogue import LOCK_OUTCOME
from agent.core.outputs import TOLD_MAX
from agent.core.types import MS, BootNs, CommandOutcome, DockCommandDone
from tests.core_driver import Core

DONE, REFUSED, LOST = CommandOutcome


def taken_out() -> Core:
    core = Core().tethered()
    core.dock(0.2, seated=False)
    core.effects.clear()
    return core


def answer(
    core: Core, outcome: CommandOutcome = DONE, *, dock: str = "dock", command: str = "outputs",
    newest: bool = True,
) -> None:  # fmt: skip
    core.see(DockCommandDone(core.now, dock, command, outcome, newest))


def test_the_outcome_of_the_outputs_is_recorded_with_its_time_under_the_decision() -> None:
    core = taken_out()
    core.now = BootNs(core.state.now + 12 * MS)
    asked = core.state.outputs_asked
    assert asked is not None
    answer(core)
    [record] = core.records(LOCK_OUTCOME)
    assert record.as_dict() == {
        "decision": core.state.decision, "action": "dock_outputs:dock", "ok": True,
        "took_us": (core.now - asked) // 1000,
        "detail": "latch free, light on, buzzer on: the dock did it",
    }  # fmt: skip


def test_a_refusal_and_a_dock_that_does_not_answer_are_no_success() -> None:
    core = taken_out()
    answer(core, LOST)
    answer(core, REFUSED)
    lost, refused = (record.as_dict() for record in core.records(LOCK_OUTCOME))
    assert (lost["ok"], refused["ok"]) == (False, False)
    assert "no answer" in str(lost["detail"])
    assert "refused" in str(refused["detail"])


def test_repetitions_are_no_news_and_each_dock_is_told_of_apart() -> None:
    core = taken_out()
    for _ in range(5):
        answer(core)
        answer(core, LOST)
    answer(core, dock="rear")
    assert len(core.records(LOCK_OUTCOME)) == 3


def test_a_release_is_news_again() -> None:
    core = taken_out()
    answer(core)
    core.proof()
    core.dock(1)
    assert core.usable()
    answer(core)
    assert [r.as_dict()["decision"] for r in core.records(LOCK_OUTCOME)] == [
        core.state.decision - 1, core.state.decision,
    ]  # fmt: skip


def test_answers_to_older_wishes_other_commands_and_before_any_wish_are_none() -> None:
    core = taken_out()
    answer(core, newest=False)
    answer(core, command="power_cut_in")
    assert core.records(LOCK_OUTCOME) == []
    fresh = Core().tethered()
    answer(fresh)
    assert fresh.records(LOCK_OUTCOME) == []


def test_docks_without_end_are_not_told_of_without_end() -> None:
    core = taken_out()
    for number in range(TOLD_MAX + 5):
        answer(core, dock=f"dock{number}")
    assert len(core.records(LOCK_OUTCOME)) == TOLD_MAX
