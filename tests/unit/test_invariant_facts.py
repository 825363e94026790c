"""What the outside observer knows: the newest word of a source, whenever it came."""

from __future__ import annotations

from agent.core.types import MS, SECOND, BootNs, CanSignal, KeyPosition, SignalKind
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


def test_a_wire_that_is_stuck_says_nothing_once_it_counts_as_stuck() -> None:
    facts = Facts(Limits())
    for second in range(10, 1210):
        now = BootNs(second * SECOND)
        facts.observed(now, CanSignal(now, "can", SignalKind.IGNITION, KeyPosition.OFF), None)
        facts.observed(now, status(now, kl15=True), None)
    assert facts.on_until == (10 + 600) * SECOND
    now = BootNs(1210 * SECOND)
    facts.observed(now, status(now, kl15=False), None)
    assert facts.on_until == (10 + 600) * SECOND


def test_a_source_that_was_contradicted_is_on_for_its_settling_time_and_its_debounce_at_least() -> None:
    facts = Facts(Limits())
    for tenth in range(100, 130):
        now = BootNs(tenth * 100 * MS)
        facts.observed(now, CanSignal(now, "can", SignalKind.IGNITION, KeyPosition.OFF), None)
        facts.observed(now, status(now, kl15=True), None)
    assert facts.on_until < 0
    facts.observed(BootNs(13_600 * MS), status(13_600 * MS, kl15=True), None)
    assert facts.on_until == 13_600 * MS


def test_what_is_due_at_a_moment_rests_on_what_was_said_before_it() -> None:
    facts = Facts(Limits())
    then, now = BootNs(10 * SECOND), BootNs(11 * SECOND)
    facts.observed(then, status(then, kl15=False), None)
    facts.observed(now, status(now, kl15=True), None)
    assert facts.says_off(now)
    assert not facts.says_off(BootNs(now + 1))


def test_silence_until_a_moment_is_no_word_at_it() -> None:
    facts = Facts(Limits())
    then, now = BootNs(10 * SECOND), BootNs(12 * SECOND)
    facts.observed(then, status(then, kl15=False), None)
    facts.observed(now, status(now, kl15=True), None)
    assert not facts.says_off(now)
