"""`ivma-sim soak`: many vehicles' lives under faults, on all cores, and what they showed."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from agent.core.types import SECOND
from simulator.faults.registry import families
from simulator.soak_report import Soak, report, text
from simulator.virtual.lives import DAY
from simulator.virtual.plan import DECISIONS, FIDELITIES, HABITS, WIRES, Plan, write_failure

if TYPE_CHECKING:
    from simulator.compose_soak import Outcome

SHRINK_RUNS = {WIRES: 40, DECISIONS: 300}  # ours: some ten minutes each


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = sub.add_parser(
        "soak", help="let vehicles live for days in virtual time, under faults",
        description="Every vehicle has a seed of its own, counted from S. Exit code 0: nothing was violated; "
        "1: something was, with the command that replays it; 2: bad usage.",
    )  # fmt: skip
    parser.add_argument("--vehicles", type=_count, default=4, metavar="N")
    add_plan(parser)
    parser.add_argument("--jobs", type=_count, default=os.cpu_count() or 1, metavar="J")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report as JSON too")
    parser.add_argument(
        "--failures", type=Path, default=Path("soak-failures"), metavar="FOLDER", help="[soak-failures]"
    )
    parser.add_argument(
        "--shrink", type=int, default=None, metavar="RUNS",
        help=f"at most so many runs to shrink each failure {SHRINK_RUNS}; 0: leave it as it is",
    )  # fmt: skip
    parser.set_defaults(func=run)


def add_plan(parser: argparse.ArgumentParser) -> None:
    """The options that say what a vehicle lives through."""
    parser.add_argument("--days", type=_count, default=1, metavar="D", help="of each vehicle's life")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the first vehicle")
    parser.add_argument(
        "--faults", type=_families, default=None, metavar="FAMILY,...|none",
        help="families of faults; without it each seed switches families on and off (swarm)",
    )  # fmt: skip
    parser.add_argument("--fidelity", choices=FIDELITIES, default=WIRES)
    parser.add_argument("--habits", choices=[*HABITS], default="", help="without it each seed has its own")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, not {text}")
    return value


def _families(text: str) -> tuple[str, ...]:
    wanted = () if text == "none" else tuple(text.split(","))
    if unknown := [name for name in wanted if name not in families()]:
        raise argparse.ArgumentTypeError(f"no family {', '.join(unknown)}; there are {', '.join(families())}")
    return wanted


# --- the run ----------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> int:
    """Soak, report, and shrink what failed."""
    plans = [
        Plan(args.seed + number, args.days, args.fidelity, args.faults, args.habits)
        for number in range(args.vehicles)
    ]
    soak = Soak(args.fidelity)
    began = time.monotonic()
    failed: list[Outcome] = []
    with _progress(len(plans) * args.days) as tell:
        for outcome in _outcomes(plans, args.jobs, tell):
            soak.add(outcome)
            if outcome.violations:
                failed.append(outcome)
                _keep(outcome, args.failures)
    soak.wall_s = time.monotonic() - began
    most_runs = SHRINK_RUNS[args.fidelity] if args.shrink is None else args.shrink
    for outcome in failed:
        soak.failures.append(_investigate(outcome, args.failures, most_runs))
    for line in text(soak):
        sys.stdout.write(f"{line}\n")
    if args.report is not None:
        args.report.write_text(json.dumps(report(soak, vars(args)), indent=1) + "\n")
    return 1 if failed else 0


def _outcomes(plans: Sequence[Plan], jobs: int, tell: Callable[[int], None]) -> Iterator[Outcome]:
    """What comes of each plan, in their order, as soon as it is known."""
    if jobs == 1 or len(plans) == 1:
        for plan in plans:
            yield _live(plan, tell)
        return
    context = multiprocessing.get_context("spawn")  # the progress bar has a thread: no fork
    told: SimpleQueue[int] = context.SimpleQueue()
    with context.Pool(min(jobs, len(plans)), _prepare, (told,), maxtasksperchild=8) as pool:
        waiting = [pool.apply_async(_live_in_pool, (plan,)) for plan in plans]
        for result in waiting:
            while not result.ready():
                result.wait(0.2)
                while not told.empty():
                    tell(told.get())
            yield result.get()


_told: SimpleQueue[int] | None = None  # of a process of the pool


def _prepare(told: SimpleQueue[int]) -> None:
    global _told
    _told = told


def _live_in_pool(plan: Plan) -> Outcome:
    return _live(plan, lambda ns: _told.put(ns) if _told is not None else None)


def _live(plan: Plan, tell: Callable[[int], None]) -> Outcome:
    engine = import_module("simulator.compose_soak")
    engine.quieten()
    outcome: Outcome = engine.live(plan, tell)
    return outcome


def _keep(outcome: Outcome, folder: Path) -> Path:
    """Write a failure to its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{outcome.plan.fidelity}-{outcome.plan.seed}-{outcome.plan.days}d.json"
    write_failure(path, outcome.plan, outcome.schedule, outcome.violations)
    return path


def _investigate(outcome: Outcome, folder: Path, most_runs: int) -> dict[str, Any]:
    """Shrink a failure, and say how to see it again."""
    engine = import_module("simulator.compose_soak")
    runs = 0
    if most_runs:
        Console(stderr=True).print(f"seed {outcome.plan.seed} failed; looking for fewer faults ...")
        outcome, runs = engine.smallest(outcome, most_runs)
    first, path = outcome.violations[0], _keep(outcome, folder)
    return {
        "seed": outcome.plan.seed,
        "violations": [str(violation) for violation in outcome.violations],
        "faults": [str(entry) for entry in outcome.schedule.entries],
        "invariant": first.invariant,
        "shrunk_in_runs": runs,
        "replay": f"ivma-sim replay {shlex.quote(str(path))}",
    }


class _progress:
    """A bar of vehicle-days and simulated time per second; nothing where there is no terminal."""

    def __init__(self, days: int) -> None:
        columns = (
            TextColumn("{task.completed:.1f} of {task.total:.0f} vehicle-days"), BarColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        )  # fmt: skip
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("soak", total=float(days), rate="")
        self._began = time.monotonic()
        self._ns = 0

    def __enter__(self) -> Callable[[int], None]:
        if self._bar.console.is_terminal:
            self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _tell(self, ns: int) -> None:
        self._ns += ns
        rate = self._ns / SECOND / max(time.monotonic() - self._began, 0.001)
        self._bar.update(self._task, completed=self._ns / DAY, rate=f"{rate:,.0f} simulated s/s")
