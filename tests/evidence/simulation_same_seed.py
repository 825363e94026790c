"""The same seed gives the same history: lives under every family of faults, each in two processes in which
Python's sets have another order. The length is the number of seeds.
"""

from __future__ import annotations

import sys

from simulator.faults.registry import families
from tests.evidence import claim, options
from tests.evidence.histories import differ

HOURS = {"wires": 2, "decisions": 24}


def main() -> int:
    count, first = options.length(__doc__, full=6, short=1)
    faults = ",".join(families())
    other = sum(
        differ(sys.executable, seed, fidelity, hours, faults)
        for seed in range(first, first + count)
        for fidelity, hours in HOURS.items()
    )
    words = f"histories of {2 * count} lives that come out otherwise in another process"
    return claim.state(words, other, "", 0, holds=other == 0, seed=first)


if __name__ == "__main__":
    sys.exit(main())
