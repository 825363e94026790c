"""True removals that are restricted within the policy's time and stay so: all. The length is how many; the
seed is that of the first, each has its own.
"""

from __future__ import annotations

import sys

from tests.evidence import claim, options
from tests.tether_events import late, removal, told

SHOWN = 10  # of what failed, with what plays it again


def main() -> int:
    count, seed = options.length(__doc__, full=1000, short=100)
    bad: list[str] = []
    for n in range(count):
        outcome = removal(seed + n)
        if late(outcome):
            bad.append(told(seed + n, outcome))
    sys.stderr.write("".join(f"{line}\n" for line in bad[:SHOWN]))
    held = count - len(bad)
    return claim.state(
        f"of {count} true removals, restricted within policy time",
        held, "restrictions", count, holds=held == count, seed=seed,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
