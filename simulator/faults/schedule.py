"""Schedules: which faults come when. Drawn from a seed, printed, written as JSON, read back, played.

Swarm testing: each seed has whole families of faults on or off, so that one family's noise does not hide
what another would have shown alone. Every fault is over before the last, quiet part of a run, in which all
that was broken has to heal.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from agent.core.types import MS, BootNs
from simulator.faults.base import Fault, FaultError, Span
from simulator.faults.knobs import FaultyWorld
from simulator.faults.registry import families, from_json

HOUR_MS = 3_600_000
MOST_ENTRIES = 2_000  # ours: bounds a schedule whatever its length
GAP_MS = Span(60_000, 8 * HOUR_MS)  # ours: from one fault to the next in the mean; each seed has one
NEAR_MS = 20_000  # ours: a fault "near" something begins at most so long before or after it
NEAR_PERCENT = 60  # ours: of the faults, if there is something to be near to


@dataclass(frozen=True, slots=True)
class Entry:
    """A fault from ``at_ms`` on, for ``for_ms``."""

    at_ms: int
    for_ms: int
    fault: Fault

    @property
    def end_ms(self) -> int:
        return self.at_ms + self.for_ms

    def __str__(self) -> str:
        return f"{self.at_ms / 1000:12.3f} s  for {self.for_ms / 1000:10.3f} s  {self.fault}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Entries in order of time, all over by ``quiet_ms``. No knob is held twice at a time."""

    quiet_ms: int
    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        if list(self.entries) != sorted(self.entries, key=_at):
            raise FaultError("the entries of a schedule are in order of at_ms")
        free_ms: dict[str, int] = {}
        for entry in self.entries:
            if entry.at_ms < 0 or entry.for_ms < 1 or entry.end_ms > self.quiet_ms:
                raise FaultError(f"{entry} does not lie between 0 and quiet_ms, {self.quiet_ms}")
            for knob in entry.fault.holds:
                if entry.at_ms < free_ms.get(knob, 0):
                    raise FaultError(f"{entry}: {knob} is held by an earlier fault until then")
                free_ms[knob] = entry.end_ms + 1  # one ends before another begins

    def families(self) -> frozenset[str]:
        return frozenset(entry.fault.family for entry in self.entries)

    def to_json(self) -> str:
        """One entry a line, so that a person can read it, and take lines out of it."""
        lines = [
            json.dumps({"at_ms": entry.at_ms, "for_ms": entry.for_ms, **entry.fault.to_json()})
            for entry in self.entries
        ]
        return f'{{"quiet_ms": {self.quiet_ms}, "entries": [\n' + ",\n".join(lines) + "\n]}\n"

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """What ``to_json`` wrote. Raises FaultError, naming what is wrong."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise FaultError(f"a schedule is JSON: {error}") from None
        match data:
            case {"quiet_ms": int() as quiet_ms, "entries": [*entries]}:
                return cls(quiet_ms, tuple(_entry(entry) for entry in entries))
            case _:
                raise FaultError("a schedule has quiet_ms, a whole number, and a list of entries")

    def __str__(self) -> str:
        lines = "".join(f"{entry}\n" for entry in self.entries)
        return f"{lines}{self.quiet_ms / 1000:12.3f} s  quiet"


class Stage(FaultyWorld, Protocol):
    """A world that a schedule is played on: its knobs and its agenda."""

    def at(self, at: BootNs, call: Callable[[], None], /) -> object: ...


def swarm(rng: random.Random) -> frozenset[str]:
    """The families that are on for a seed: each with one half, and at least one."""
    names = [*families()]
    on = frozenset(name for name in names if rng.random() < 0.5)
    return on or frozenset({rng.choice(names)})


def draw(
    rng: random.Random,
    quiet_ms: int,
    on: Iterable[str] | None = None,
    near_ms: Sequence[int] = (),
) -> Schedule:
    """Faults of the families ``on`` (None: a swarm's), all over by ``quiet_ms``.

    Most begin near one of ``near_ms``, times at which something happens anyway: that is where faults hurt.
    """
    pools = families()
    wanted = sorted(swarm(rng) if on is None else on)
    if unknown := [name for name in wanted if name not in pools]:
        raise FaultError(f"no family of faults {', '.join(unknown)}; there are {', '.join(pools)}")
    count = min(MOST_ENTRIES, round(quiet_ms / GAP_MS.draw(rng)) + 1) if wanted else 0
    taken: dict[str, list[Entry]] = {}
    for _ in range(count):
        entry = _draw_entry(rng, pools[rng.choice(wanted)], quiet_ms, near_ms)
        others = [other for knob in entry.fault.holds for other in taken.get(knob, ())]
        if entry.end_ms <= quiet_ms and not any(_overlap(entry, other) for other in others):
            for knob in entry.fault.holds:
                taken.setdefault(knob, []).append(entry)
    # A fault that holds two knobs stands in two lists.
    entries = {id(entry): entry for held in taken.values() for entry in held}
    return Schedule(quiet_ms, tuple(sorted(entries.values(), key=lambda entry: (entry.at_ms, str(entry)))))


def play(
    schedule: Schedule, stage: Stage, start: BootNs, note: Callable[[Fault, bool], None] = lambda *_: None
) -> None:
    """Put a schedule on a world's agenda, its time 0 at ``start``. ``note`` hears of each start and stop."""
    for entry in schedule.entries:
        begins, ends = BootNs(start + entry.at_ms * MS), BootNs(start + entry.end_ms * MS)
        stage.at(begins, partial(_start, entry.fault, stage, begins, ends, note))
        stage.at(ends, partial(_stop, entry.fault, stage, note))


def _start(
    fault: Fault, stage: Stage, begins: BootNs, ends: BootNs, note: Callable[[Fault, bool], None]
) -> None:
    note(fault, True)
    fault.start(stage)
    _tick(fault, stage, begins, begins, ends)


def _tick(fault: Fault, stage: Stage, begins: BootNs, now: BootNs, ends: BootNs) -> None:
    delay = fault.tick(stage, now - begins)
    if delay is not None and now + delay < ends:
        then = BootNs(now + delay)
        stage.at(then, partial(_tick, fault, stage, begins, then, ends))


def _stop(fault: Fault, stage: Stage, note: Callable[[Fault, bool], None]) -> None:
    fault.stop(stage)
    note(fault, False)


def _draw_entry(
    rng: random.Random, pool: Sequence[type[Fault]], quiet_ms: int, near_ms: Sequence[int]
) -> Entry:
    kind = rng.choices(pool, [kind.weight for kind in pool])[0]
    fault = kind.draw(rng)
    for_ms = kind.length_ms.draw(rng)
    if near_ms and rng.randrange(100) < NEAR_PERCENT:
        at_ms = rng.choice(near_ms) + rng.randint(-NEAR_MS, NEAR_MS)
    else:
        at_ms = rng.randrange(quiet_ms)
    return Entry(max(0, at_ms), for_ms, fault)


def _overlap(one: Entry, other: Entry) -> bool:
    return one.at_ms <= other.end_ms and other.at_ms <= one.end_ms


def _at(entry: Entry) -> int:
    return entry.at_ms


def _entry(data: object) -> Entry:
    match data:
        case {"at_ms": int() as at_ms, "for_ms": int() as for_ms, **fault}:
            return Entry(at_ms, for_ms, from_json(fault))
        case _:
            raise FaultError(f"an entry has at_ms and for_ms, whole numbers, and a fault; not {data!r}")
