"""What a soak showed: for people, as JSON for machines, and of several soaks one page (`ivma-sim report`)."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.core.types import SECOND
from simulator.faults.registry import families, registry
from simulator.virtual.coverage import Coverage
from simulator.virtual.lives import DAY

if TYPE_CHECKING:
    from simulator.compose_soak import Outcome

SHOWN = 20  # cells and violations in the report for people; the file has all
OPTIONS = ("vehicles", "days", "seed", "faults", "habits", "jobs")
ACCOUNTS = ("attempted", "acknowledged", "delivered", "lost", "unexpected", "duplicated")


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


def never_reached(soak: Soak) -> tuple[list[str], list[str]]:
    """Cells of (part: state, observation), and faults, that no vehicle met."""
    engine = import_module("simulator.compose_soak")
    cells = [f"{part}: {state}, {kind}" for part, state, kind in soak.coverage.never(*engine.cells())]
    return cells, [name for name in registry() if not soak.coverage.faults[name]]


def report(soak: Soak, options: Mapping[str, Any]) -> dict[str, Any]:
    """The whole report, for a file."""
    cells, faults = never_reached(soak)
    return {
        "fidelity": soak.fidelity,
        "code": code(),
        "machine": machine(),
        "options": {key: options[key] for key in OPTIONS},
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


def code() -> str:
    """The version, and the commit where there is one."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        said = subprocess.run(git, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return version("ivma-agent")
    commit = said.stdout.strip()
    return f"{version('ivma-agent')}, commit {commit}" if commit else version("ivma-agent")


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"


# --- one page of several ----------------------------------------------------------------------------


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = sub.add_parser(
        "report", help="one page of the reports of several soaks",
        description="Exit code 0: nothing was violated in any; 1: something was; 2: not such reports.",
    )  # fmt: skip
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT", help="of `ivma-sim soak --report`")
    parser.add_argument("--out", type=Path, metavar="FILE", help="Markdown; without it on standard output")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Read the reports; write the page."""
    try:
        reports = [_read(path) for path in args.reports]
    except (OSError, ValueError) as error:
        sys.stderr.write(f"ivma-sim report: {error}\n")
        return 2
    lines = "".join(f"{line}\n" for line in page(reports, datetime.now(UTC)))
    if args.out is None:
        sys.stdout.write(lines)
    else:
        args.out.write_text(lines)
    return 1 if any(each["failures"] for each in reports) else 0


def _read(path: Path) -> dict[str, Any]:
    told = json.loads(path.read_text())
    if not isinstance(told, dict) or "fidelity" not in told or "cells_never" not in told:
        raise ValueError(f"{path}: not a report that `ivma-sim soak --report` wrote")
    return told


def page(reports: Sequence[Mapping[str, Any]], made: datetime) -> Iterator[str]:
    """Markdown: what was lived, what it met, what it never met, what it violated."""
    days = sum(each["simulated_s"] for each in reports) * SECOND / DAY
    failed = [failure for each in reports for failure in each["failures"]]
    yield from ("# Soak report", "")
    yield from _wrapped(
        f"{days:,.1f} vehicle-days in virtual time, under faults; {len(failed)} vehicles with violations. "
        f"Written by `make soak-report` on {made:%Y-%m-%d}; [simulator.md](simulator.md) says what a soak is."
    )
    for each in reports:
        yield from ("", f"## Fidelity: {each['fidelity']}", "")
        yield from _facts(each)
    yield from ("", "## Faults", "", "How often each came, in all of them.", "")
    yield from _faults(reports)
    yield from ("", "## Never reached", "")
    yield from _never(reports)
    yield from ("", "## Violations", "")
    if not failed:
        yield "None."
    for failure in failed:
        yield from (f"- seed {failure['seed']}: {failure['violations'][0]}", f"  `{failure['replay']}`")


def _facts(each: Mapping[str, Any]) -> Iterator[str]:
    options = " ".join(f"{key} {_option(each['options'][key])}," for key in OPTIONS).rstrip(",")
    seeds = [*each["histories"]]
    rows = {
        "code": each["code"],
        "machine": each["machine"],
        "options": options,
        "vehicles and seeds": f"{len(seeds)} vehicles, seeds {seeds[0]} to {seeds[-1]}",
        "vehicle-days": f"{each['simulated_s'] * SECOND / DAY:,.1f}",
        "took": f"{each['wall_s']:,.0f} s, {each['simulated_s'] / max(each['wall_s'], 1):,.0f} simulated s/s",
        "history": f"`{each['history']}`",
        "cells of (state, observation)": f"{each['cells_reached']} reached, {len(each['cells_never'])} never",
        "vehicles with violations": str(len(each["failures"])),
    }
    if each["records"]:
        rows["records"] = ", ".join(f"{name} {each['records'].get(name, 0):,}" for name in ACCOUNTS)
    yield from ("| | |", "|---|---|")
    yield from (f"| {name} | {value} |" for name, value in rows.items())


def _option(value: object) -> str:
    if value in (None, ""):
        return "drawn from the seed"
    return ",".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)


def _faults(reports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from ("| family | faults |", "|---|---|")
    total: Counter[str] = Counter()
    for each in reports:
        total.update(each["faults"])
    for family, kinds in families().items():
        counts = ", ".join(f"{kind.name()} {total[kind.name()]:,}" for kind in kinds)
        yield f"| `{family}` | {counts} |"


def _never(reports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Cells and faults that none of them met; the cells in one line for each state."""
    cells = set.intersection(*(set(each["cells_never"]) for each in reports))
    faults = set.intersection(*(set(each["faults_never"]) for each in reports))
    yield f"Faults: {', '.join(sorted(faults)) or 'none; each came at least once'}."
    yield ""
    yield from _wrapped(
        f"Cells, {len(cells)} of them: an observation of this kind never came in this state, in any of them. "
        "The core's answer in such a cell rests on its own tests. Some cannot be: a tablet that powers off "
        "hears of nothing any more, and what no wired part sends yet comes in no state."
    )
    by_state: defaultdict[str, list[str]] = defaultdict(list)
    for cell in sorted(cells):
        state, _, kind = cell.partition(", ")
        by_state[state].append(kind)
    nowhere = set.intersection(*map(set, by_state.values())) if by_state else set()
    if nowhere:
        yield from ("", *_wrapped(f"In no state at all: {', '.join(sorted(nowhere))}."))
    yield from ("", "| state | never came, beside those |", "|---|---|")
    for state, kinds in by_state.items():
        yield f"| {state} | {', '.join(kind for kind in kinds if kind not in nowhere)} |"


def _wrapped(words: str, width: int = 118) -> Iterable[str]:
    return textwrap.wrap(words, width)
