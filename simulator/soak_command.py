"""`ivma-sim soak`: many vehicles' lives under faults, on all cores, and what they showed."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from agent.core.types import SECOND
from simulator.faults.registry import families, registry
from simulator.virtual.coverage import Coverage
from simulator.virtual.lives import DAY
from simulator.virtual.plan import DECISIONS, FIDELITIES, HABITS, WIRES, Plan, write_failure

if TYPE_CHECKING:
    from simulator.compose_soak import Outcome

SHRINK_RUNS = {WIRES: 40, DECISIONS: 300}  # ours: some ten minutes each
SHOWN = 20  # cells and violations in the report for people; the file has all


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


@dataclass(slots=True)
class Soak:
    """What has come of a soak so far."""

    fidelity: str
    simulated_ns: int = 0
    wall_s: float = 0.0
    vehicles: int = 0
    coverage: Coverage = field(default_factory=Coverage)
    counts: Counter[str] = field(default_factory=Counter)  # of the queues' accounts
    digests: dict[int, str] = field(default_factory=dict)  # of each seed's history
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.vehicles += 1
        self.simulated_ns += outcome.simulated_ns
        self.coverage.add(outcome.coverage)
        self.digests[outcome.plan.seed] = outcome.digest
        if outcome.account is not None:
            self.counts.update(
                {name: getattr(outcome.account, name) for name in type(outcome.account).__slots__}
            )

    @property
    def digest(self) -> str:
        """One history hash of all vehicles, in the order of their seeds."""
        return sha256("".join(self.digests.values()).encode()).hexdigest()


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


def _investigate(outcome: Outcome, folder: Path, most_runs: int) -> dict[str, Any]:
    """Shrink a failure, write it to its file, and say how to see it again."""
    engine = import_module("simulator.compose_soak")
    runs = 0
    if most_runs:
        Console(stderr=True).print(f"seed {outcome.plan.seed} failed; looking for fewer faults ...")
        outcome, runs = engine.smallest(outcome, most_runs)
    folder.mkdir(parents=True, exist_ok=True)
    first = outcome.violations[0]
    path = folder / f"{outcome.plan.fidelity}-{outcome.plan.seed}-{outcome.plan.days}d.json"
    write_failure(path, outcome.plan, outcome.schedule, outcome.violations)
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


# --- the report -------------------------------------------------------------------------------------


def never_reached(soak: Soak) -> tuple[list[str], list[str]]:
    """Cells of (part: state, observation), and faults, that no vehicle met."""
    engine = import_module("simulator.compose_soak")
    cells = [f"{part}: {state}, {kind}" for part, state, kind in soak.coverage.never(*engine.cells())]
    return cells, [name for name in registry() if not soak.coverage.faults[name]]


def report(soak: Soak, options: dict[str, Any]) -> dict[str, Any]:
    """The whole report, for a file."""
    cells, faults = never_reached(soak)
    return {
        "fidelity": soak.fidelity,
        "options": {key: options[key] for key in ("vehicles", "days", "seed", "faults", "habits", "jobs")},
        "simulated_s": soak.simulated_ns / SECOND,
        "wall_s": round(soak.wall_s, 1),
        "history": soak.digest,
        "histories": soak.digests,
        "records": dict(soak.counts),
        "cells_reached": len(soak.coverage.cells),
        "cells_never": cells,
        "faults": dict(sorted(soak.coverage.faults.items())),
        "faults_never": faults,
        "failures": soak.failures,
    }


def text(soak: Soak) -> Iterator[str]:
    """The report for people."""
    days = soak.simulated_ns / DAY
    rate = soak.simulated_ns / SECOND / max(soak.wall_s, 0.001)
    yield f"fidelity {soak.fidelity}: {soak.vehicles} vehicles, {days:.1f} vehicle-days"
    yield f"  {soak.wall_s:.1f} s, {rate:,.0f} simulated s/s; history {soak.digest}"
    if soak.counts:
        yield "  records: " + ", ".join(f"{name} {count}" for name, count in soak.counts.items())
    cells, faults = never_reached(soak)
    reached = len(soak.coverage.cells)
    yield f"  cells of (state, observation): {reached} reached, {len(cells)} never"
    yield from (f"    never {cell}" for cell in cells[:SHOWN])
    if len(cells) > SHOWN:
        yield f"    and {len(cells) - SHOWN} more; --report has them all"
    for family, kinds in families().items():
        counts = ", ".join(f"{kind.name()} {soak.coverage.faults[kind.name()]}" for kind in kinds)
        yield f"  faults of {family}: {counts}"
    if faults:
        yield f"  faults never met: {', '.join(faults)}"
    for failure in soak.failures:
        yield f"seed {failure['seed']} violated:"
        yield from (f"  {violation}" for violation in failure["violations"][:SHOWN])
        yield from (f"  with {fault}" for fault in failure["faults"][:SHOWN])
        yield f"  {failure['replay']}"
    yield "0 violations" if not soak.failures else f"{len(soak.failures)} vehicles with violations"
