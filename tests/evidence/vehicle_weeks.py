"""Vehicles that did not start because of the tablet, and the same fleet under plain rules.

`ivma-sim weeks` in one figure. The length is the number of vehicle-weeks; 1,000 take hours of a core.
"""

from __future__ import annotations

import os
import sys

from simulator.compose_weeks import WEEK, summary, weeks
from tests.evidence import claim, options


def main() -> int:
    count, seed = options.length(__doc__, full=1000, short=2)
    found = list(weeks(range(seed, seed + count), WEEK, os.cpu_count() or 1))
    figures = summary(found, WEEK)
    for name, value in figures.items():
        sys.stderr.write(f"{name.replace('_', ' '):32} {value}\n")
    stranded = figures["stranded_by_the_tablet"]
    return claim.state(
        f"vehicles that a tablet kept from starting, in {count} vehicle-weeks (plain rules: "
        f"{figures['stranded_by_plain_rules']})",
        stranded, "vehicles", 0, holds=stranded == 0 and not figures["violations"], seed=seed,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
