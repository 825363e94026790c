"""Availability on virtual time, by the core's states: shifts, first use, share usable, causes."""

from __future__ import annotations

import json
from typing import Any

from agent.availability import DAY_NS, Availability, Figures
from agent.core.types import SECOND, BootNs, Observation, SleepSignal
from tests.core_driver import Core, status


class Tablet:
    """A core whose every state is seen, as a run's watchers see it."""

    def __init__(self, *, at_s: float = 300, cold: bool = False) -> None:
        self.core = Core(at_s=at_s)
        self.kept = Availability()
        self.kept.begin(self.core.now, cold=cold)
        self.over: list[Figures] = []
        self.core.start()
        self.look()

    def look(self) -> None:
        if (over := self.kept.see(self.core.state)) is not None:
            self.over.append(over)

    def see(self, observation: Observation) -> None:
        self.core.see(observation)
        self.look()

    def dock(self, seconds: float, **values: Any) -> None:
        """STATUS at 5 Hz with proof, in the dock unless ``values`` say something else."""
        for _ in range(round(seconds * 5)):
            self.core.dock(0.2, **values)
            self.look()

    def empty(self, seconds: float) -> None:
        """Nothing is heard."""
        self.core.until(BootNs(self.core.now + round(seconds * SECOND)))
        self.look()

    @property
    def figures(self) -> dict[str, Any]:
        whole = self.kept.told_at(self.core.now)["since_start"]
        assert isinstance(whole, dict)
        return whole


def test_a_shift_in_the_dock_is_usable_from_the_first_proof_on() -> None:
    tablet = Tablet()
    tablet.dock(20, kl15=False)
    tablet.dock(100)
    tablet.dock(30, kl15=False)
    figures = tablet.figures
    assert figures["shifts"] == 1
    assert 95 <= figures["shift_s"] <= 105
    assert figures["usable_percent"] == 100.0
    assert figures["first_use_max_ms"] <= 1000
    assert figures["causes_s"] == {}


def test_what_is_in_the_way_is_named_with_its_time() -> None:
    tablet = Tablet()
    tablet.dock(60)
    tablet.dock(40, seated=False)
    tablet.dock(60)
    figures = tablet.figures
    assert 35 <= figures["causes_s"]["unseated"] <= 45
    assert figures["usable_s"] + sum(figures["causes_s"].values()) >= figures["shift_s"] - 3
    assert figures["unused_shifts"] == 0


def test_a_shift_that_ends_before_use_is_counted() -> None:
    tablet = Tablet()
    tablet.dock(30, seated=False)
    tablet.dock(10, seated=False, kl15=False)
    figures = tablet.figures
    assert (figures["shifts"], figures["unused_shifts"]) == (1, 1)
    assert figures["usable_percent"] == 0.0
    assert figures["first_use_mean_ms"] is None


def test_ignition_that_switched_the_tablet_on_counts_from_the_boot_on() -> None:
    cold, warm = Tablet(at_s=25, cold=True), Tablet(at_s=25)
    for tablet in (cold, warm):
        tablet.dock(30)
    assert cold.figures["first_use_max_ms"] >= 25_000
    assert 24 <= cold.figures["causes_s"]["starting"] <= 30
    assert warm.figures["first_use_max_ms"] < 5_000


def test_a_lost_dock_is_no_end_of_the_shift() -> None:
    """Silence makes ignition UNKNOWN, never off: officers still wait."""
    tablet = Tablet()
    tablet.dock(60)
    tablet.empty(100)
    figures = tablet.figures
    assert figures["shift_s"] >= 155
    assert figures["causes_s"]["evidence_lost"] >= 80


def test_a_period_ends_when_the_tablet_sleeps_after_use_and_at_the_stop() -> None:
    tablet = Tablet()
    tablet.dock(60)
    tablet.dock(10, kl15=False)
    tablet.see(SleepSignal(tablet.core.now, starting=True))
    (first,) = tablet.over
    assert first.shifts == 1
    tablet.see(SleepSignal(BootNs(tablet.core.now + 8 * 3600 * SECOND), starting=False))
    tablet.dock(30)
    assert len(tablet.over) == 1
    last = tablet.kept.end(tablet.core.now)
    assert last is not None
    assert last.shifts == 1
    assert last.shift_ns < 60 * SECOND
    assert last.period_ns // SECOND >= 8 * 3600
    assert tablet.kept.end(tablet.core.now) is None


def test_a_day_ends_also_in_the_middle_of_a_shift_and_nothing_is_counted_twice() -> None:
    tablet = Tablet()
    tablet.dock(60)
    tablet.see(status(tablet.core.now + DAY_NS))
    (day,) = tablet.over
    tablet.dock(60)
    last = tablet.kept.end(tablet.core.now)
    assert last is not None
    assert (day.shifts, last.shifts) == (1, 0)
    whole = Figures()
    whole.add(day)
    whole.add(last)
    assert whole.shift_ns == day.shift_ns + last.shift_ns
    assert abs(whole.shift_ns - whole.period_ns) < 5 * SECOND
    assert whole.shift_ns == whole.usable_ns + sum(whole.causes.values())


def test_the_record_says_the_same() -> None:
    tablet = Tablet()
    tablet.dock(60)
    tablet.dock(40, seated=False)
    over = tablet.kept.end(tablet.core.now)
    assert over is not None
    said = over.record(tablet.core.now).as_dict()
    assert said["shift_s"] == over.shift_ns // SECOND
    assert json.loads(str(said["causes"]))["unseated"] >= 35
