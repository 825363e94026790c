"""What `make evidence-tether` counts, on a few events of each kind: nothing is cried, nothing is missed."""

from __future__ import annotations

import pytest

from agent.core.state import TetherState
from tests.tether_events import Outcome, false_lock, harmless, late, removal, told

HARMLESS = {
    "crank iso-1",
    "crank bmw",
    "crank cold",
    "pothole",
    "loose plug",
    "noise",
    "reset",
    "re-enumeration",
}
REMOVALS = {"unseated", "cut off", "line dead", "another dock", "cut off in a crank"}


def test_cranks_glitches_and_reenumerations_restrict_nothing() -> None:
    outcomes = [harmless(seed) for seed in range(100)]
    assert [told(seed, each) for seed, each in enumerate(outcomes) if false_lock(each)] == []
    assert {each.kind for each in outcomes} == HARMLESS
    # It would show nothing if nothing was ever lost.
    assert sum(TetherState.UNCERTAIN in each.states for each in outcomes) > 20


def test_every_true_removal_is_restricted_in_time() -> None:
    outcomes = [removal(seed) for seed in range(60)]
    assert [told(seed, each) for seed, each in enumerate(outcomes) if late(each)] == []
    assert {each.kind for each in outcomes} == REMOVALS


@pytest.mark.parametrize(
    ("outcome", "is_false", "is_late"),
    [
        (Outcome("x", None, 5, True, ()), False, True),
        (Outcome("x", 4, 5, False, ()), True, False),
        (Outcome("x", 6, 5, False, ()), True, True),
        (Outcome("x", 4, 5, True, ()), True, True),
    ],
)
def test_what_counts_as_false_and_as_late(outcome: Outcome, is_false: bool, is_late: bool) -> None:
    assert (false_lock(outcome), late(outcome)) == (is_false, is_late)
