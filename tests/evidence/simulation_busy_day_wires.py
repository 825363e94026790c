"""CPU time, on one core, of a busy vehicle-day with wires and store: ten hours awake, dock at 5 Hz, ten CAN
signals a second, telemetry; the median. The length is the number of trials.
"""

from __future__ import annotations

import sys

from simulator.virtual.plan import WIRES
from tests.evidence import claim, options
from tests.evidence.lived import median_cpu_s

GOAL_S = 12.0


def main() -> int:
    trials, seed = options.length(__doc__, full=3, short=1)
    value = median_cpu_s(WIRES, "busy", 1, seed, trials)
    return claim.state(
        "CPU of a busy vehicle-day with wires and store", value, "s", GOAL_S, holds=value <= GOAL_S, seed=seed
    )


if __name__ == "__main__":
    sys.exit(main())
