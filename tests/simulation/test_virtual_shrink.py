"""Shrinking: a failing schedule becomes one from which nothing can be spared, in a bounded number of runs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.faults.dock_wire import ByteLoss
from simulator.faults.fleet import AckLost
from simulator.faults.machine import WallClockJump
from simulator.faults.network import NetworkCut
from simulator.faults.schedule import HOUR_MS, Entry, Schedule, draw
from simulator.virtual.shrink import shrink

Predicate = Callable[[Schedule], bool]


def long_schedule() -> Schedule:
    """Some sixty byte losses, with two other faults among them."""
    noise = [Entry(n * 1_000, 500, ByteLoss(permille=100 + n)) for n in range(60)]
    others = [Entry(10_200, 9_000, NetworkCut()), Entry(40_700, 5_000, AckLost(permille=900))]
    return Schedule(100_000, tuple(sorted([*noise, *others], key=lambda entry: entry.at_ms)))


def has(*kinds: type) -> Predicate:
    return lambda schedule: all(
        any(isinstance(entry.fault, kind) for entry in schedule.entries) for kind in kinds
    )


def test_two_faults_that_fail_together_are_what_is_left_as_short_and_mild_as_they_can_be() -> None:
    shrunk = shrink(long_schedule(), has(NetworkCut, AckLost))
    assert shrunk.minimal
    assert shrunk.schedule.entries == (
        Entry(10_200, NetworkCut.length_ms.least, NetworkCut()),
        Entry(40_700, AckLost.length_ms.least, AckLost(permille=10)),
    )


def test_what_fails_without_any_fault_shrinks_to_no_fault() -> None:
    shrunk = shrink(long_schedule(), lambda schedule: True)
    assert shrunk.schedule.entries == ()
    assert shrunk.runs == 2


def test_a_threshold_is_found_to_a_quarter() -> None:
    def fails(schedule: Schedule) -> bool:
        return any(
            isinstance(entry.fault, ByteLoss) and entry.fault.permille >= 120 and entry.for_ms >= 200
            for entry in schedule.entries
        )

    (entry,) = shrink(long_schedule(), fails).schedule.entries
    assert isinstance(entry.fault, ByteLoss)
    assert 120 <= entry.fault.permille <= 150
    assert 200 <= entry.for_ms <= 250


def test_a_figure_below_zero_goes_up_to_zero() -> None:
    def fails(schedule: Schedule) -> bool:
        faults = [entry.fault for entry in schedule.entries]
        return any(isinstance(fault, WallClockJump) and fault.by_s <= -1_000 for fault in faults)

    schedule = Schedule(1_000, (Entry(0, 500, WallClockJump(by_s=-80_000)),))
    (entry,) = shrink(schedule, fails).schedule.entries
    assert isinstance(entry.fault, WallClockJump)
    assert -1_250 <= entry.fault.by_s <= -1_000


def test_a_schedule_that_does_not_fail_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fail"):
        shrink(long_schedule(), lambda schedule: False)


def test_at_its_limit_of_runs_it_gives_the_smallest_that_it_saw_fail() -> None:
    runs = 0

    def fails(schedule: Schedule) -> bool:
        nonlocal runs
        runs += 1
        return has(NetworkCut, AckLost)(schedule)

    shrunk = shrink(long_schedule(), fails, most_runs=8)
    assert not shrunk.minimal
    assert (shrunk.runs, runs) == (8, 8)
    assert fails(shrunk.schedule)
    assert len(shrunk.schedule.entries) < 62


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_no_entry_of_a_minimal_schedule_can_be_spared_and_no_schedule_runs_twice(
    seed: int, culprits: int
) -> None:
    rng = random.Random(seed)
    schedule = draw(rng, 12 * HOUR_MS)
    needed = rng.sample(schedule.entries, min(culprits, len(schedule.entries)))
    tried: list[Schedule] = []

    def fails(candidate: Schedule) -> bool:
        tried.append(candidate)
        times = {entry.at_ms for entry in candidate.entries}
        return all(entry.at_ms in times for entry in needed)

    shrunk = shrink(schedule, fails, most_runs=3_000)
    assert shrunk.minimal
    assert len(tried) == len(set(tried)) == shrunk.runs
    entries = shrunk.schedule.entries
    assert len(entries) == len({entry.at_ms for entry in needed})
    for spared in entries:
        rest = tuple(entry for entry in entries if entry is not spared)
        assert not fails(replace(shrunk.schedule, entries=rest))
    assert shrink(schedule, fails, most_runs=3_000) == shrunk
