"""`ivma-sim weeks`: batteries of a fleet through weeks, with the agent, without a tablet, under plain rules.

Composition root: the world of decisions, and beside it the same vehicle and the same life without an agent.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agent.core.policy import IgnitionPolicy, Policy, TetherPolicy
from agent.core.state import PowerMode
from agent.core.types import SECOND, BootNs
from simulator.compose_soak import POLICY, Drive, quieten
from simulator.compose_virtual import World
from simulator.vehicle import Vehicle
from simulator.virtual.bare import BareVehicle, NoTablet, PlainRules, Rules
from simulator.virtual.decisions import DecisionWorld
from simulator.virtual.lives import DAY
from simulator.virtual.plan import DECISIONS, Plan
from simulator.virtual.reports import FIELD, Pace

WEEK = 7
# Rules that end a run-on before its time.
EARLY = frozenset({"power.energy_budget", "power.low_voltage", "power.low_charge"})
DRAW_MA = 1_000  # ours: what a tablet in its run-on takes from the vehicle, with its battery full
LEAVING = (PowerMode.SUSPENDING, PowerMode.SHUTTING_DOWN)


@dataclass(frozen=True, slots=True)
class Week:
    """What came of one vehicle. ``starts_failed``: for want of charge, by who had the tablet."""

    seed: int
    agent: int
    none: int
    plain: int
    run_ons: int
    cut_short: int  # run-ons that the battery could have afforded to the end
    violations: tuple[str, ...]

    @property
    def stranded(self) -> bool:
        """It did not start because of the tablet."""
        return self.agent > 0 and self.none == 0


class _RunOns:
    """Counts run-ons of the agent, and those that ended early on a battery that still had enough."""

    def __init__(self, world: World | DecisionWorld, run_on_s: int) -> None:
        self.begun = self.cut_short = 0
        self._vehicle = world.vehicle
        self._run_on_s = run_on_s
        self._mode = PowerMode.AWAKE
        world.events.subscribe_steps(self._observed)

    def _observed(self, at: int, _observation: object, state: Any) -> None:
        power = state.power
        mode, before = power.mode, self._mode
        if mode is before:
            return
        self._mode = mode
        if mode is PowerMode.RUN_ON:
            self.begun += 1
        elif before is PowerMode.RUN_ON and mode in LEAVING and power.decision.rule in EARLY:
            since = power.run_on_since if power.run_on_since is not None else state.now
            left_s = self._run_on_s - (state.now - since) / SECOND
            self.cut_short += left_s > 0 and _affords(self._vehicle, left_s)


def _affords(vehicle: Vehicle, seconds: float) -> bool:
    """Whether the engine would start after so much more of a tablet that stays on."""
    battery = vehicle.battery
    before = battery.charge_mas
    battery.charge_mas = max(0.0, before - DRAW_MA * seconds)
    starts = battery.turns_engine
    battery.charge_mas = before
    return starts


# A dock and a bus that repeat what is not new as seldom as a policy may ask for. What drains a battery and
# what the planner decides take minutes to days; at the wires' pace a week takes five times as long to live.
SLOW = (
    Policy(
        tether=TetherPolicy(status_fresh_ms=10_000, ride_through_ms=12_000, crank_ride_through_ms=15_000),
        ignition=IgnitionPolicy(
            wire_fresh_ms=10_000, can_fresh_ms=20_000, settle_ms=20_000, voltage_fresh_ms=30_000
        ),
    ),
    Pace(status_ns=8 * SECOND, signal_ns=16 * SECOND, physics_ns=8 * SECOND),
)
PACES = {"slow": SLOW, "field": (POLICY, FIELD)}


def live(seed: int, days: int, pace: str = "slow") -> Week:
    """One vehicle through one life, three times."""
    quieten()
    plan = Plan(seed, days, DECISIONS, ())
    policy, paces = PACES[pace]
    drive = Drive(plan, policy=policy, pace=paces)
    run_ons = _RunOns(drive.world, drive.run_on_s)
    outcome = drive.run(stop=lambda _violations, now: now >= days * DAY)
    return Week(
        seed,
        drive.world.vehicle.failed_starts,
        _bare(plan, NoTablet()),
        _bare(plan, PlainRules()),
        run_ons.begun,
        run_ons.cut_short,
        tuple(str(violation) for violation in outcome.violations),
    )


def _bare(plan: Plan, rules: Rules) -> int:
    bare = BareVehicle(plan.seed, plan.vehicle(), rules)
    bare.live(plan.life(), BootNs(plan.days * DAY))
    return bare.vehicle.failed_starts


def weeks(seeds: Sequence[int], days: int, jobs: int, pace: str = "slow") -> Iterator[Week]:
    if jobs == 1 or len(seeds) <= 1:
        yield from (live(seed, days, pace) for seed in seeds)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(jobs, len(seeds)), maxtasksperchild=16) as pool:
        yield from pool.imap_unordered(partial(live, days=days, pace=pace), seeds)


def summary(found: Sequence[Week], days: int) -> dict[str, Any]:
    """The figures of a fleet, for a table and for JSON."""
    return {
        "vehicles": len(found),
        "days": days,
        "vehicle_weeks": round(len(found) * days / WEEK, 1),
        "stranded_by_the_tablet": sum(week.stranded for week in found),
        "unable_to_crank": {
            "with_the_agent": sum(week.agent > 0 for week in found),
            "without_a_tablet": sum(week.none > 0 for week in found),
            "under_plain_rules": sum(week.plain > 0 for week in found),
        },
        "stranded_by_plain_rules": sum(week.plain > 0 and week.none == 0 for week in found),
        "run_ons": sum(week.run_ons for week in found),
        "cut_short_though_affordable": sum(week.cut_short for week in found),
        "violations": [words for week in found for words in week.violations],
    }


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = sub.add_parser(
        "weeks", help="a fleet's batteries over weeks: with the agent, without a tablet, under plain rules",
        description="Every vehicle has a battery, a temperature, drains and habits of its own, drawn from "
        "its seed, and lives the same life three times. Plain rules: 11.8 V for five minutes, 30 Wh, 30 h. "
        "Exit code 0: the agent stranded none; 1: it did.",
    )  # fmt: skip
    parser.add_argument("--vehicles", type=int, default=10, metavar="N")
    parser.add_argument("--days", type=int, default=WEEK, metavar="D", help="of each life [7]")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the first vehicle")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="J")
    parser.add_argument(
        "--pace", choices=tuple(PACES), default="slow",
        help="how often dock and bus repeat what is not new; slow: every 8 and 16 s, which these lives' "
        "policy allows; field: as on the wires, five times as long [slow]",
    )  # fmt: skip
    parser.add_argument(
        "--log", type=Path, metavar="FILE",
        help="a line of JSON for each vehicle is added to FILE; those that are in it are not lived again",
    )  # fmt: skip
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what was found as a page, too")
    parser.add_argument("--each", action="store_true", help="a line of JSON for each vehicle too")
    parser.set_defaults(func=run)


def logged(path: Path, days: int, pace: str) -> dict[int, Week]:
    """The vehicles of a log, by their seeds; none if there is no log yet.

    Raises:
        ValueError: it is not a log of such lives.
    """
    if not path.exists():
        return {}
    found = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            said = json.loads(line)
            if (said.pop("days"), said.pop("pace")) != (days, pace):
                raise ValueError(f"its lives are not of {days} days at {pace} pace")
            week = Week(**{**said, "violations": tuple(said["violations"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}: not of this log: {error}; take another FILE") from None
        found[week.seed] = week
    return found


def page(figures: dict[str, Any], args: argparse.Namespace) -> str:
    """What was found, for docs/."""
    crank = figures["unable_to_crank"]
    rows = [
        ("vehicles, and days of each", f"{figures['vehicles']}, {figures['days']}"),
        ("vehicle-weeks", f"{figures['vehicle_weeks']:,}"),
        ("seeds", f"{args.seed} to {args.seed + args.vehicles - 1}"),
        ("pace", args.pace),
        ("**did not start because of the tablet**", f"**{figures['stranded_by_the_tablet']}**"),
        ("because of it under plain rules (11.8 V, 30 Wh, 30 h)", f"{figures['stranded_by_plain_rules']}"),
        ("failed to start at least once: with the agent", str(crank["with_the_agent"])),
        ("without a tablet", str(crank["without_a_tablet"])),
        ("under plain rules", str(crank["under_plain_rules"])),
        ("run-ons of the agent", f"{figures['run_ons']:,}"),
        ("cut short though the battery could afford the rest", f"{figures['cut_short_though_affordable']:,}"),
        ("violations of an invariant", str(len(figures["violations"]))),
    ]  # fmt: skip
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        "# Batteries over weeks\n\n"
        "Every vehicle has a battery, a temperature, drains and habits of its own, drawn from its seed, and\n"
        "lives the same life three times: with the agent, without a tablet, and under plain rules.\n"
        "Written by `make weeks-report`; [simulator.md](simulator.md) says what is in such a life.\n\n"
        f"| | |\n|---|---|\n{table}\n"
    )


def run(args: argparse.Namespace) -> int:
    seeds = range(args.seed, args.seed + args.vehicles)
    try:
        known = logged(args.log, args.days, args.pace) if args.log else {}
    except (OSError, ValueError) as error:
        sys.stderr.write(f"ivma-sim weeks: {error}\n")
        return 2
    found = [week for seed, week in known.items() if seed in seeds]
    for week in weeks([seed for seed in seeds if seed not in known], args.days, args.jobs, args.pace):
        found.append(week)
        line = json.dumps(asdict(week))
        if args.log:
            with args.log.open("a") as log:
                log.write(json.dumps({"days": args.days, "pace": args.pace, **asdict(week)}) + "\n")
        if args.each or week.stranded:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    figures = summary(found, args.days)
    if args.report:
        args.report.write_text(page(figures, args))
    for name, value in figures.items():
        sys.stderr.write(f"{name.replace('_', ' '):32} {value}\n")
    sys.stdout.write(json.dumps(figures) + "\n")
    return 1 if figures["stranded_by_the_tablet"] or figures["violations"] else 0
