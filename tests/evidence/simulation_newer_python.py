"""The same seed gives the same history on this Python and on a newer one. The length is the number of seeds.

The newer one is Debian's of a newer release, which `make newer-python` unpacks; `--python` names another that
has the project installed. Without one nothing is measured, and that is said.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from simulator.faults.registry import families
from tests import newer_python
from tests.evidence import claim
from tests.evidence.histories import differ

CLAIM = "histories that come out otherwise on a newer Python"
HOURS = {"wires": 2, "decisions": 24}
FULL, SHORT = 3, 1


def newer(named: str | None) -> str | None:
    """The command of a newer Python, as far as there is one."""
    made = newer_python.command()
    return named or (str(newer_python.make()) if made.exists() else None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, help=f"how many; default {FULL}")
    parser.add_argument("--short", action="store_true", help=f"{SHORT} instead, for CI")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--python", help="a newer one that has the project installed")
    arguments = parser.parse_args()
    count = arguments.length or (SHORT if arguments.short else FULL)
    python = newer(arguments.python)
    if python is None:
        return claim.not_measured(CLAIM, "no newer Python is here; `make newer-python` unpacks one")
    other = sum(
        differ(python, seed, fidelity, hours, ",".join(families()))
        for seed in range(arguments.seed, arguments.seed + count)
        for fidelity, hours in HOURS.items()
    )
    asked = subprocess.run([python, "-V"], capture_output=True, text=True, check=True)
    words = f"{CLAIM}, {asked.stdout.strip()}, of {2 * count}"
    return claim.state(words, other, "", 0, holds=other == 0, seed=arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
