"""`python -m tests.evidence [--area A] [--length N | --short]`: run all; exit 1 if one does not hold.

A program is a module `tests/evidence/<area>_<claim>.py`; it is run by itself, so that one's leftovers
never help another, takes `--length N` or `--short` (see options.py) and prints one line of JSON (claim.py).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

AREAS = ("main", "tether", "vehicle", "queue", "simulation", "operations")
LIMIT_S = 3600


def programs(area: str | None) -> list[str]:
    """Names of the programs, of one area or of all, in order of the areas."""
    names = sorted(
        path.stem for path in Path(__file__).parent.glob("*_*.py") if not path.stem.startswith("_")
    )
    wanted = [area] if area else list(AREAS)
    return [name for a in wanted for name in names if name.startswith(f"{a}_")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.evidence", description=__doc__)
    parser.add_argument("--area", choices=AREAS)
    parser.add_argument(
        "--length", type=int, help="how long or how many, for the programs that take a length"
    )
    parser.add_argument("--short", action="store_true", help="short runs, for CI")
    arguments = parser.parse_args()
    failed = []
    for name in programs(arguments.area):
        command = [sys.executable, "-m", f"tests.evidence.{name}"]
        if arguments.length is not None:
            command += ["--length", str(arguments.length)]
        if arguments.short:
            command.append("--short")
        if subprocess.run(command, check=False, timeout=LIMIT_S).returncode != 0:
            failed.append(name)
    if failed:
        print(f"does not hold: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
