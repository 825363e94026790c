"""The plan of one vehicle's run: all that it follows from, written to a file when it fails."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.core.types import MS, SECOND
from simulator.faults import schedule as schedules
from simulator.faults.schedule import Schedule
from simulator.invariants.base import Violation
from simulator.vehicle import VehicleSpec
from simulator.virtual.acts import Act
from simulator.virtual.lives import BUSY, DAY, HOUR, QUIET, draw, draw_habits, draw_vehicle

WIRES, DECISIONS = "wires", "decisions"
FIDELITIES = (WIRES, DECISIONS)
HABITS = {"busy": BUSY, "quiet": QUIET}  # as figures are measured with; otherwise drawn from the seed
QUIET_NS = HOUR // 2  # ours: no fault in the last of a life
FORMAT = 1  # of a failure's file
KEPT_VIOLATIONS = 5  # ours: the first ones say what to look at


@dataclass(frozen=True, slots=True)
class Plan:
    """``faults``: families, empty for none, None for a swarm's. ``given``: these faults and no others."""

    seed: int
    days: int
    fidelity: str = WIRES
    faults: tuple[str, ...] | None = None
    habits: str = ""
    given: Schedule | None = None

    def life(self) -> tuple[Act, ...]:
        rng = random.Random(f"{self.seed}/life")
        habits = HABITS[self.habits] if self.habits else draw_habits(rng)
        return draw(rng, self.days, habits, first_weekday=0 if self.habits else rng.randrange(7))

    def vehicle(self) -> VehicleSpec:
        return VehicleSpec() if self.habits else draw_vehicle(random.Random(f"{self.seed}/vehicle"))

    def schedule(self) -> Schedule:
        if self.given is not None:
            return self.given
        quiet_ms = (self.days * DAY - QUIET_NS) // MS
        if self.faults == ():
            return Schedule(quiet_ms)
        near_ms = [act.at_ns // MS for act in self.life()]
        return schedules.draw(random.Random(f"{self.seed}/faults"), quiet_ms, self.faults, near_ms)


def write_failure(path: Path, plan: Plan, schedule: Schedule, violations: Sequence[Violation]) -> None:
    """Write what replays a failing run, as JSON."""
    told = [
        {"invariant": violation.invariant, "at_s": violation.at / SECOND, "words": violation.words}
        for violation in violations[:KEPT_VIOLATIONS]
    ]
    head = {
        "soak": FORMAT, "seed": plan.seed, "days": plan.days, "fidelity": plan.fidelity,
        "habits": plan.habits, "violations": told,
    }  # fmt: skip
    path.write_text(f'{json.dumps(head, indent=1)[:-2]},\n "schedule": {schedule.to_json()}}}\n')


def read_failure(path: Path) -> tuple[Plan, float]:
    """The plan of a failure's file, and when its first violation was, in s.

    Raises:
        OSError, ValueError: it cannot be read, or is not one; FaultError is a ValueError.
    """
    match json.loads(path.read_text()):
        case {
            "soak": 1,
            "seed": int() as seed,
            "days": int() as days,
            "fidelity": str() as fidelity,
            "habits": str() as habits,
            "violations": [{"at_s": float() as at_s}, *_],
            "schedule": dict() as schedule,
        } if fidelity in FIDELITIES and habits in ("", *HABITS):
            given = Schedule.from_json(json.dumps(schedule))
            return Plan(seed, days, fidelity, habits=habits, given=given), at_s
        case _:
            raise ValueError(f"{path}: not the file of a failure that `ivma-sim soak` wrote")


def is_failure(path: Path) -> bool:
    """Whether a file looks like a failure's: JSON, which no trace is."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) == b"{"
