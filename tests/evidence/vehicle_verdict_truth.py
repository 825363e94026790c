"""Verdicts on ignition against what it was, over every scene and over lives without faults: false ON and OFF,
the share of UNKNOWN, and the time to a verdict by its rule. The length is the number of lives, of a day each.
"""

from __future__ import annotations

import os
import statistics
import sys

from agent.core.types import SECOND
from simulator.compose_verdicts import lives, of_scene, summed
from simulator.virtual.scenes import SCENES
from tests.evidence import claim, options

GOAL, SHORT = 0, 2


def main() -> int:
    count, seed = options.length(__doc__, full=60, short=SHORT)
    scenes = SCENES if count > SHORT else {}  # tests live them too
    days = lives(range(seed, seed + count), (), os.cpu_count() or 1)
    found = summed([*map(of_scene, scenes), *days])
    for rule, times in sorted(found.took_ns.items()):
        middle, most = statistics.median(times) / SECOND, max(times) / SECOND
        sys.stderr.write(f"{rule:28} {len(times):5} verdicts, p50 {middle:.1f} s, max {most:.1f} s\n")
    sys.stderr.write(f"unknown: {100 * found.unknown_share:.2f} % of the time heard\n")
    for what, times_wrong in sorted(found.wrong.items()):
        sys.stderr.write(f"{what}: {times_wrong}\n")
    wrong = found.wrong.total()
    return claim.state(
        f"false ON and false OFF in {len(scenes)} scenes and {count} vehicle-days", wrong, "verdicts", GOAL,
        holds=wrong == GOAL, seed=seed,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
