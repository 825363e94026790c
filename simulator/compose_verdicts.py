"""`ivma-sim verdicts`: the truth about the ignition against what the core said, over scenes and many lives.

Composition root, at the level of decisions; ``simulator.compose_scenes`` compares.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from agent.core.types import SECOND
from simulator.compose_scenes import Compared, compared, judged
from simulator.virtual.scenes import SCENES

HELD_OUT = 900_000  # ours: seeds far from those of soaks and tests; nothing was tuned with them
FAULTS = ("can-bus", "supply")  # of lives by which grades are judged: bus, supply and wiring lie
GRADES = ("confirmed", "single", "inferred")
HOUR_NS = 3600 * SECOND


def of_scene(name: str) -> Compared:
    return judged(SCENES[name]).compared


def summed(found: Iterable[Compared]) -> Compared:
    whole = Compared()
    for one in found:
        whole.add(one)
    return whole


def lives(seeds: Sequence[int], faults: tuple[str, ...], jobs: int) -> Iterator[Compared]:
    """A day of each, in the order of the seeds."""
    live = partial(compared, days=1, faults=faults)
    if jobs == 1 or len(seeds) <= 1:
        yield from map(live, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(seeds)), maxtasksperchild=16) as pool:
        yield from pool.imap(live, seeds)


def wrong_percent(found: Compared, grade: str) -> float:
    """Of the time under verdicts of this grade, that in which they were wrong."""
    return 100 * found.wrong_ns[grade] / max(1, found.graded_ns[grade])


def _false(found: Compared, what: str) -> int:
    return sum(times for words, times in found.wrong.items() if words.startswith(what))


def figures(scenes: dict[str, Compared], truth: Compared, graded: Compared) -> dict[str, Any]:
    """For a page and for JSON. ``truth`` holds the scenes, too."""
    return {
        "false_on": _false(truth, "false ON"),
        "false_off": _false(truth, "false OFF"),
        "unknown_percent": round(100 * truth.unknown_share, 3),
        "hours_heard": round(truth.heard_ns.total() / HOUR_NS, 1),
        "time_to_verdict_s": {
            rule: {
                "verdicts": len(times),
                "p50": round(statistics.median(times) / SECOND, 2),
                "max": round(max(times) / SECOND, 2),
            }
            for rule, times in sorted(truth.took_ns.items())
        },
        "scenes": {
            name: {
                "hours": round(found.heard_ns.total() / HOUR_NS, 1),
                "false_on": _false(found, "false ON"),
                "false_off": _false(found, "false OFF"),
                "unknown_percent": round(100 * found.unknown_share, 3),
            }
            for name, found in scenes.items()
        },
        "grades": {
            grade: {
                "verdicts": graded.verdicts[grade],
                "hours": round(graded.graded_ns[grade] / HOUR_NS, 1),
                "wrong_percent": round(wrong_percent(graded, grade), 4),
            }
            for grade in GRADES
        },
    }


def page(said: dict[str, Any], days: int, seed: int) -> str:
    """The figures for docs/."""

    def table(*columns: str, rows: Iterable[tuple[object, ...]]) -> str:
        lines = [columns, ("---",) * len(columns), *rows]
        return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"

    scenes = table(
        "scene", "hours heard", "false ON", "false OFF", "UNKNOWN, %",
        rows=[(f"`{name}`", *row.values()) for name, row in said["scenes"].items()],
    )  # fmt: skip
    times = table(
        "decided by", "verdicts", "p50, s", "longest, s",
        rows=[(f"`{rule}`", *row.values()) for rule, row in said["time_to_verdict_s"].items()],
    )  # fmt: skip
    grades = table(
        "grade", "verdicts", "hours", "wrong, % of the time",
        rows=[(grade, *row.values()) for grade, row in said["grades"].items()],
    )  # fmt: skip
    return f"""\
# Verdicts on the ignition against the truth

Written by `make verdicts`. In the simulator the truth is known: what the key, the line behind it and the
engine really do. A verdict that differs from it for more than 6 s is a false one; UNKNOWN is none.

## Scenes, and {days} vehicle-days without faults (from seed {seed})

False ON {said["false_on"]}, false OFF {said["false_off"]}. UNKNOWN: {said["unknown_percent"]} % of the time.

{scenes}
## From a change of the truth to the verdict

{times}
## Error of each grade, over {days} vehicle-days with faults of bus, supply and wiring

On seeds from {HELD_OUT + seed:,}, with which nothing was tuned. *Single* is the wire alone, which a fault can
hold at ON or OFF for hours. Where a wire broke and the bus is cut off at once, under an alternator that holds
12.5 V, nothing that can be seen differs from a parked vehicle: such an OFF counts as confirmed, and is wrong.

{grades}"""


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = sub.add_parser(
        "verdicts", help="the truth about the ignition against the verdicts, and the error of each grade",
        description="Lives every scene, and so many vehicle-days without faults and with faults of bus and "
        "supply, at decision level. Exit code 0: no verdict was false without a fault; 1: one was.",
    )  # fmt: skip
    parser.add_argument("--days", type=int, default=10, metavar="N", help="vehicle-days of each kind [10]")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the first vehicle")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="J")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the figures as a page, too")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    seeds = range(args.seed, args.seed + args.days)
    scenes = {name: of_scene(name) for name in SCENES}
    truth = summed([*scenes.values(), *lives(seeds, (), args.jobs)])
    graded = summed(lives([HELD_OUT + seed for seed in seeds], FAULTS, args.jobs))
    said = figures(scenes, truth, graded)
    if args.report:
        args.report.write_text(page(said, args.days, args.seed))
    sys.stdout.write(json.dumps(said) + "\n")
    return 1 if said["false_on"] or said["false_off"] else 0
