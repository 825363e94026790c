"""The error of each grade of a verdict on ignition, under faults of bus, supply and wiring, on seeds that
nothing was tuned with. The length is the number of vehicle-days; each has its own seed.
"""

from __future__ import annotations

import sys

from agent.core.types import SECOND
from simulator.compose_scenes import Compared, compared
from tests.evidence import claim, options

HELD_OUT = 900_000  # ours: far from the seeds of soaks and tests
FAULTS = ("can-bus", "supply")
GOAL_PERCENT = 0.1  # ours, of the time under a confirmed verdict


def main() -> int:
    count, seed = options.length(__doc__, full=60, short=2)
    found = Compared()
    for n in range(count):
        found.add(compared(HELD_OUT + seed + n, 1, FAULTS))
    for grade in ("confirmed", "single", "inferred"):
        hours = found.graded_ns[grade] / (3600 * SECOND)
        sys.stderr.write(
            f"{grade:10} {found.verdicts[grade]:6} verdicts, {hours:8.1f} h, "
            f"wrong {_percent(found, grade):.4f} % of the time\n"
        )
    for what, times_wrong in sorted(found.wrong.items()):
        sys.stderr.write(f"{what}: {times_wrong}\n")
    value = _percent(found, "confirmed")
    return claim.state(
        f"time under a confirmed verdict that is wrong, in {count} vehicle-days", value, "%", GOAL_PERCENT,
        holds=value <= GOAL_PERCENT, seed=seed,
    )  # fmt: skip


def _percent(found: Compared, grade: str) -> float:
    return 100 * found.wrong_ns[grade] / max(1, found.graded_ns[grade])


if __name__ == "__main__":
    sys.exit(main())
