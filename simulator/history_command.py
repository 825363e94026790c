"""`ivma-sim history`: one vehicle's run as a hash; and lived twice, where two histories first differ."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import zip_longest
from pathlib import Path

from simulator.soak_command import add_plan
from simulator.virtual.history import History, ToldHistory
from simulator.virtual.lives import HOUR
from simulator.virtual.plan import Plan

BEFORE = 5  # entries that are shown of what both have in common
LONGEST = 400  # characters of an entry that are shown


class OtherRunFailed(RuntimeError):
    """The second process could not live the plan at all."""


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = sub.add_parser(
        "history", help="the hash of one vehicle's history; whether it comes out the same again",
        description="Prints the hash. With --twice or --python the same is lived in two more processes, each "
        "with another order of Python's sets. Exit code 0: the same; 1: not, with what differs first; "
        "2: bad usage.",
    )  # fmt: skip
    add_plan(parser)
    parser.add_argument("--hours", type=int, metavar="H", help="only so much of it")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every entry, a line of JSON each")
    parser.add_argument("--twice", action="store_true", help="compare with another process")
    parser.add_argument(
        "--python", metavar="PYTHON", help="let that one be of this Python, which has the project installed"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Live it; compare."""
    if not args.twice and args.python is None:
        sys.stdout.write(f"{_live(args)}\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="ivma-history-") as folder:
        files = [Path(folder, name) for name in ("first", "second")]
        try:
            hashes = _in_processes(
                [sys.executable, args.python or sys.executable], _plan_options(args), files
            )
        except OtherRunFailed as error:
            sys.stderr.write(f"ivma-sim history: {error}\n")
            return 2
        same = hashes[0] == hashes[1]
        sys.stdout.write(f"{hashes[0]}\n" if same else f"{hashes[0]}\n{hashes[1]}\n")
        if not same:
            sys.stdout.writelines(f"{line}\n" for line in first_difference(*files))
    return 0 if same else 1


def _live(args: argparse.Namespace) -> str:
    engine = import_module("simulator.compose_soak")
    engine.quieten()
    plan = Plan(args.seed, args.days, args.fidelity, args.faults, args.habits)
    with contextlib.ExitStack() as stack:
        history = History()
        if args.out is not None:
            history = ToldHistory(stack.enter_context(args.out.open("wb")).write)
        drive = engine.Drive(plan, history=history)
        until = drive.end if args.hours is None else args.hours * HOUR
        drive.run(stop=lambda _violations, now: now >= until)
    return history.digest()


def _plan_options(args: argparse.Namespace) -> list[str]:
    given = {
        "--seed": args.seed, "--days": args.days, "--fidelity": args.fidelity, "--habits": args.habits,
        "--hours": args.hours, "--faults": None if args.faults is None else ",".join(args.faults) or "none",
    }  # fmt: skip
    return [f"{option}={value}" for option, value in given.items() if value not in (None, "")]


def _in_processes(pythons: Sequence[str], options: Sequence[str], files: Sequence[Path]) -> list[str]:
    """Hashes of the same plan; the order of sets follows PYTHONHASHSEED."""
    running = [
        subprocess.Popen(
            [python, "-m", "simulator", "history", *options, "--out", str(file)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONHASHSEED": str(number)},
        )
        for number, (python, file) in enumerate(zip(pythons, files, strict=True), 1)
    ]  # fmt: skip
    hashes = []
    for process, python in zip(running, pythons, strict=True):
        out, told = process.communicate()
        if process.returncode != 0:
            raise OtherRunFailed(f"{python} cannot live it; is the project installed there?\n{told.strip()}")
        hashes.append(out.strip())
    return hashes


def first_difference(one: Path, other: Path) -> Iterator[str]:
    """The entry at which two histories differ first, each one's, after the last that they share."""
    with one.open("rb") as left, other.open("rb") as right:
        shared: deque[bytes] = deque(maxlen=BEFORE)
        for number, (mine, its) in enumerate(zip_longest(left, right, fillvalue=b"the end\n"), 1):
            if mine != its:
                yield f"the first {number - 1} entries are the same, the last of them:"
                yield from (f"    {_shown(entry)}" for entry in shared)
                yield f"  1 {_shown(mine)}"
                yield f"  2 {_shown(its)}"
                return
            shared.append(mine)
    yield "every entry is the same; the hashes differ in the wire bytes after the last"


def _shown(entry: bytes) -> str:
    text = entry.decode().rstrip("\n")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
