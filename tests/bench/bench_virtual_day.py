"""What a busy day costs in the deterministic world, beside the bare steps of the core that are in it.

`python tests/bench/bench_virtual_day.py [MINUTES]`. CPU time, best of some rounds; of each fidelity so many
minutes of driving (dock at 5 Hz, ten CAN signals a second, telemetry, every invariant) are measured, in turn
with the same time of bare core steps, and both are scaled to ten hours awake. Seconds hold for this machine
and moment; the ratio travels. Then, by a profiler, where the time of the wires goes. Prints one line of JSON
a figure, with the goal beside it; exit 1 if a ratio is above its limit (docs/simulator.md, "What it costs").
"""

from __future__ import annotations

import cProfile
import json
import pstats
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agent.core.policy import Policy
from agent.core.types import MINUTE, SECOND, BootNs, KeyPosition
from simulator.compose_soak import OF_DECISIONS, Drive, core, limits, quieten
from simulator.compose_virtual import Options, World
from simulator.invariants.registry import Inspector, registry
from simulator.vehicle import VehicleSpec
from simulator.virtual.coverage import Watch
from simulator.virtual.decisions import DecisionWorld
from simulator.virtual.plan import DECISIONS, WIRES, Plan
from tests.bench.bench_core import busy, live

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
MINUTES = 10
BUSY_H = 10
GOALS_S = {WIRES: 12.0, DECISIONS: 4.0}
GOAL_WEEK_S = 1.0
LIMITS = {WIRES: 9.0, DECISIONS: 1.2}  # times the bare core steps: what it comes to on a busy machine
# The first that fits; a function of C counts for who calls it.
COMPONENTS = {
    "core": ("agent/core/",),
    "runtime": ("agent/",),
    "dock_both_ends": ("drivers/docks/", "simulator/docks/"),
    "can_both_ends": ("drivers/vehicles/", "simulator/frames", "simulator/virtual/canwire"),
    "history_and_invariants": (
        "simulator/invariants/", "simulator/virtual/history", "simulator/virtual/events",
        "simulator/virtual/coverage", "simulator/virtual/oracle",
    ),
    "queue_and_fleet": (
        "sync/", "simulator/compose_fleet", "simulator/virtual/queue", "simulator/virtual/vfs",
        "simulator/virtual/disk", "simulator/virtual/broker", "simulator/virtual/network",
        "simulator/virtual/transport", "simulator/virtual/depot", "simulator/virtual/mqtt",
    ),
    "physics": ("simulator/vehicle", "simulator/electrics", "simulator/tablet", "simulator/virtual/physics"),
    "time_and_wires": ("simulator/", "drivers/"),
}  # fmt: skip


def seconds(run: Callable[[], object]) -> float:
    begun = time.process_time()  # what others take of the core does not count
    run()
    return time.process_time() - begun


@contextmanager
def driving(fidelity: str) -> Iterator[World | DecisionWorld]:
    """A world with all that watches it, so far into a drive that the ride-through budget is full."""
    policy = Policy()
    world = (
        World(7, Options(policy=policy))
        if fidelity == WIRES
        else DecisionWorld(7, core(policy), VehicleSpec())
    )
    with closing(world):
        kinds = [kind for kind in registry() if fidelity == WIRES or kind.number in OF_DECISIONS]
        inspector = Inspector(world.events, limits(policy), kinds)
        Watch(world.events)
        world.at(BootNs(20 * SECOND), lambda: world.turn_key(KeyPosition.ON))
        world.at(BootNs(22 * SECOND), world.crank)
        world.at(BootNs(24 * SECOND), lambda: world.drive(500))
        world.at(BootNs(30 * SECOND), world.log_in)
        world.run_until(BootNs(7 * MINUTE))
        yield world
        assert not inspector.violations, inspector.violations[0]
        assert inspector.facts.usable


def tell(name: str, **figures: object) -> None:
    print(json.dumps({"bench": "virtual_day", "name": name, **figures}), flush=True)


def day(fidelity: str, minutes: int) -> bool:
    """The cost of ten hours, and how many times that of their core steps."""
    whole, bare = [], []
    with driving(fidelity) as world:
        for _ in range(ROUNDS):
            until = BootNs(world.now + minutes * MINUTE)
            whole.append(seconds(partial(world.run_until, until)))
            bare.append(seconds(lambda: live(busy(minutes / 60))))
    scale = BUSY_H * 60 / minutes
    took, limit = min(whole) * scale, min(bare) * scale
    goal, most, ratio = GOALS_S[fidelity], LIMITS[fidelity], took / limit
    tell(
        fidelity, day_s=round(took, 1), bare_core_steps_s=round(limit, 1), goal_s=goal, goal_met=took <= goal,
        ratio=round(ratio, 2), limit=most, holds=ratio <= most,
    )  # fmt: skip
    return ratio <= most


def week() -> None:
    """A parked week at decision level, event by event."""
    took = min(seconds(Drive(Plan(1, 7, DECISIONS, (), "quiet")).run) for _ in range(ROUNDS))
    tell("quiet_week", week_s=round(took, 2), goal_s=GOAL_WEEK_S, goal_met=took <= GOAL_WEEK_S)


def components(minutes: int) -> None:
    """Shares of the wires' time, in percent; a profiler makes small functions dearer than they are."""
    profile = cProfile.Profile(builtins=False)
    with driving(WIRES) as world:
        profile.runcall(world.run_until, BootNs(world.now + minutes * MINUTE))
    shares: Counter[str] = Counter()
    for (file, _, _), (_, _, own_s, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        name = file.removeprefix(f"{ROOT}/")
        shares[
            next((part for part, begins in COMPONENTS.items() if name.startswith(begins)), "libraries")
        ] += own_s
    whole = shares.total()
    tell(
        "where_the_wires_time_goes_percent",
        **{part: round(100 * s / whole) for part, s in shares.most_common()},
    )


def main() -> int:
    quieten()
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    held = [day(WIRES, minutes), day(DECISIONS, minutes)]
    week()
    components(minutes)
    return 0 if all(held) else 1


if __name__ == "__main__":
    raise SystemExit(main())
