"""`python -m tests.evidence [--area A] [--length N | --short] [--tries N]`: run all; exit 1 if one fails.

A program is a module `tests/evidence/<area>_<claim>.py`; it is run by itself, so that one's leftovers
never help another, takes `--length N` or `--short` (see options.py) and prints one line of JSON (claim.py).
A time that does not hold may be another program's doing: with `--tries` it is measured again, and every line
stays in the output.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.evidence.claim import NOT_NOW

# Long whatever they are asked for: not among the short ones.
LONG = ("simulation_busy_day_decisions", "simulation_busy_day_wires")
AREAS = ("main", "tether", "vehicle", "queue", "simulation", "operations")
LIMIT_S = 6 * 3600  # a thousand vehicle-weeks take hours


def programs(area: str | None) -> list[str]:
    """Names of the programs, of one area or of all, in order of the areas."""
    names = sorted(
        path.stem for path in Path(__file__).parent.glob("*_*.py") if not path.stem.startswith("_")
    )
    wanted = [area] if area else list(AREAS)
    return [name for a in wanted for name in names if name.startswith(f"{a}_")]


def run(command: list[str], tries: int) -> int:
    """The exit status of a program, of its last run if what did not hold was a time."""
    status = NOT_NOW
    while status == NOT_NOW and tries > 0:
        status = subprocess.run(command, check=False, timeout=LIMIT_S).returncode
        tries -= 1
    return status


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.evidence", description=__doc__)
    parser.add_argument("--area", choices=AREAS)
    parser.add_argument(
        "--length", type=int, help="how long or how many, for the programs that take a length"
    )
    parser.add_argument("--short", action="store_true", help="short runs, for CI")
    parser.add_argument(
        "--tries", type=int, default=1, help="how often a time is measured that does not hold"
    )
    parser.add_argument(
        "--times-told", action="store_true", help="a time that does not hold is told and fails nothing"
    )
    arguments = parser.parse_args()
    failed = []
    for name in programs(arguments.area):
        if arguments.short and name in LONG:
            print(f"left out, because it is long: {name}", file=sys.stderr)
            continue
        command = [sys.executable, "-m", f"tests.evidence.{name}"]
        if arguments.length is not None:
            command += ["--length", str(arguments.length)]
        if arguments.short:
            command.append("--short")
        status = run(command, arguments.tries)
        if status == NOT_NOW and arguments.times_told:
            print(f"a time that does not hold on this machine now: {name}", file=sys.stderr)
        elif status != 0:
            failed.append(name)
    if failed:
        print(f"does not hold: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
