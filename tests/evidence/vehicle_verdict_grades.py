"""The error of each grade of a verdict on ignition, under faults of bus, supply and wiring, on seeds that
nothing was tuned with. The length is the number of vehicle-days; each has its own seed.
"""

from __future__ import annotations

import os
import sys

from agent.core.types import SECOND
from simulator.compose_verdicts import FAULTS, GRADES, HELD_OUT, lives, summed, wrong_percent
from tests.evidence import claim, options

GOAL_PERCENT = 0.1  # ours, of the time under a confirmed verdict


def main() -> int:
    count, seed = options.length(__doc__, full=60, short=2)
    found = summed(lives([HELD_OUT + seed + n for n in range(count)], FAULTS, os.cpu_count() or 1))
    for grade in GRADES:
        hours = found.graded_ns[grade] / (3600 * SECOND)
        sys.stderr.write(
            f"{grade:10} {found.verdicts[grade]:6} verdicts, {hours:8.1f} h, "
            f"wrong {wrong_percent(found, grade):.4f} % of the time\n"
        )
    for what, times_wrong in sorted(found.wrong.items()):
        sys.stderr.write(f"{what}: {times_wrong}\n")
    value = wrong_percent(found, "confirmed")
    return claim.state(
        f"time under a confirmed verdict that is wrong, in {count} vehicle-days", value, "%", GOAL_PERCENT,
        holds=value <= GOAL_PERCENT, seed=seed,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
