"""CPU time, on one core, of a busy vehicle-day at the level of decisions;
the median. The length is the number of trials.
"""

from __future__ import annotations

import sys

from simulator.virtual.plan import DECISIONS
from tests.evidence import claim, options
from tests.evidence.lived import median_cpu_s

GOAL_S = 4.0


def main() -> int:
    trials, seed = options.length(__doc__, full=5, short=3)
    value = median_cpu_s(DECISIONS, "busy", 1, seed, trials)
    return claim.state(
        "CPU of a busy vehicle-day at decision level", value, "s", GOAL_S, holds=value <= GOAL_S, seed=seed
    )


if __name__ == "__main__":
    sys.exit(main())
