"""Restrictions over cranks, glitches and re-enumerations drawn from the field's figures: none. The length is
how many; the seed is that of the first, each has its own.
"""

from __future__ import annotations

import sys

from tests.evidence import claim, options
from tests.tether_events import false_lock, harmless, told

GOAL = 0
SHOWN = 10  # of what failed, with what plays it again


def main() -> int:
    count, seed = options.length(__doc__, full=1000, short=100)
    bad: list[str] = []
    for n in range(count):
        outcome = harmless(seed + n)
        if false_lock(outcome):
            bad.append(told(seed + n, outcome))
    sys.stderr.write("".join(f"{line}\n" for line in bad[:SHOWN]))
    return claim.state(
        f"restrictions in {count} cranks, glitches and re-enumerations",
        len(bad), "restrictions", GOAL, holds=len(bad) == GOAL, seed=seed,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
