"""Shrinking: the smallest schedule that still fails, found by running ever smaller ones.

Delta debugging (Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002) takes entries
out; then what is left is made shorter and milder, one figure at a time. Deterministic, and bounded in runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

from simulator.faults.base import Span
from simulator.faults.schedule import Entry, Schedule

Fails = Callable[[Schedule], bool]

LENGTH = "for_ms"
RESOLUTION = 4  # ours: a figure is found to within a quarter; a person needs it no finer, each run costs


@dataclass(frozen=True, slots=True)
class Shrunk:
    """``schedule`` fails. ``minimal``: nothing smaller that was tried does, and there was time to try it."""

    schedule: Schedule
    runs: int
    minimal: bool


def shrink(schedule: Schedule, fails: Fails, most_runs: int = 500) -> Shrunk:
    """A smaller schedule for which ``fails`` holds, as it does for ``schedule``; at most so many runs of it.

    Raises ValueError if ``schedule`` does not fail: such a run is not reproducible, which is a defect itself.
    """
    trial = _Trial(fails, most_runs)
    if not trial.fails(schedule):
        raise ValueError("the schedule to be shrunk does not fail")
    schedule = _milder(_fewer(schedule, trial), trial)
    while (fewer := _fewer(schedule, trial)) != schedule:
        schedule = _milder(fewer, trial)
    return Shrunk(schedule, trial.runs, minimal=not trial.is_over)


class _Trial:
    """Runs schedules, none of them twice, until their number is reached; after it nothing fails any more."""

    def __init__(self, fails: Fails, most_runs: int) -> None:
        self.runs = 0
        self.is_over = False
        self._fails = fails
        self._most_runs = most_runs
        self._passed: set[Schedule] = set()

    def fails(self, schedule: Schedule) -> bool:
        if schedule in self._passed:
            return False
        if self.runs == self._most_runs:
            self.is_over = True
            return False
        self.runs += 1
        if self._fails(schedule):
            return True
        self._passed.add(schedule)
        return False


def _fewer(schedule: Schedule, trial: _Trial) -> Schedule:
    """Take entries out in ever smaller parts, until no single one can be spared."""
    if schedule.entries and trial.fails(empty := replace(schedule, entries=())):
        return empty
    parts = 2
    while len(schedule.entries) > 1:
        for without in _without_parts(schedule, parts):
            if trial.fails(without):
                schedule, parts = without, max(2, parts - 1)
                break
        else:
            if parts == len(schedule.entries):
                break
            parts = min(2 * parts, len(schedule.entries))
        parts = min(parts, max(2, len(schedule.entries)))
    return schedule


def _without_parts(schedule: Schedule, parts: int) -> Iterator[Schedule]:
    """The schedule without each of so many parts of nearly equal size."""
    entries = schedule.entries
    for part in range(parts):
        first, last = part * len(entries) // parts, (part + 1) * len(entries) // parts
        yield replace(schedule, entries=entries[:first] + entries[last:])


def _milder(schedule: Schedule, trial: _Trial) -> Schedule:
    """Bring each figure of each entry as near to its least as the failure allows, to about a quarter."""
    for place, entry in enumerate(schedule.entries):
        for name, least in _figures(entry):
            value, passes, trying = _figure(entry, name), least, least
            while trying != value:
                milder = _with_figure(schedule, place, name, trying)
                if trial.fails(milder):
                    schedule, value = milder, trying
                else:
                    passes = trying
                is_near = abs(value - passes) <= max(1, abs(passes) // RESOLUTION)
                trying = value if is_near else (passes + value) // 2
    return schedule


def _figures(entry: Entry) -> Iterator[tuple[str, int]]:
    """What of an entry can be less: its length and its fault's whole numbers, each with its least."""
    yield LENGTH, entry.fault.length_ms.least
    for parameter in fields(entry.fault):
        bounds = parameter.metadata.get("span")
        if isinstance(bounds, Span):
            value = getattr(entry.fault, parameter.name)
            yield parameter.name, bounds.least if bounds.least >= 0 else 1 if value > 0 else -1


def _figure(entry: Entry, name: str) -> int:
    return entry.for_ms if name == LENGTH else int(getattr(entry.fault, name))


def _with_figure(schedule: Schedule, place: int, name: str, value: int) -> Schedule:
    old = schedule.entries[place]
    if name == LENGTH:
        new = replace(old, for_ms=value)
    else:
        new = replace(old, fault=replace(old.fault, **{name: value}))
    return replace(schedule, entries=(*schedule.entries[:place], new, *schedule.entries[place + 1 :]))
