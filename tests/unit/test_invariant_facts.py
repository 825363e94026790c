"""What the outside observer knows: the newest word of a source, whenever it came."""

from __future__ import annotations

from agent.core.types import MS, SECOND, BootNs
from simulator.invariants.facts import Facts, Limits
from tests.core_driver import status


def test_a_word_that_was_held_back_does_not_make_a_source_older() -> None:
    facts = Facts(Limits())
    now = BootNs(10 * SECOND)
    facts.observed(now, status(now, kl15=False), None)
    late = status(now, evidence_at=BootNs(now - 3 * SECOND), kl15=True)
    facts.observed(BootNs(now + 100 * MS), late, None)
    assert facts.says_off(BootNs(now + SECOND))
    assert facts.says_on(BootNs(now + SECOND)) == ""
