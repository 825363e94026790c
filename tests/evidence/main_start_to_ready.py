"""Start to ready: from the exec of `ivma-agent run` to READY=1 on its NOTIFY_SOCKET.

With dock, bus, vehicle profile, broker and a store that has records in it. Median of the starts with the
console action, and with logind's double on a private D-Bus; the slower of the two counts.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

from tests.evidence import claim, options
from tests.evidence.starts import Start, measure

GOAL_MS = 500.0


def main() -> int:
    number, _ = options.length(__doc__, full=20, short=5)
    medians = {}
    for name in ("console", "logind"):
        with tempfile.TemporaryDirectory() as folder:
            took = asyncio.run(measure(Path(folder), number, Start.ready, dbus=name == "logind"))
        medians[name] = statistics.median(took)
    worst = max(medians.values())
    text = ", ".join(f"{name} {median:.0f}" for name, median in medians.items())
    return claim.state(
        f"start to ready: median of {number} ({text})",
        worst,
        "ms",
        GOAL_MS,
        holds=worst < GOAL_MS,
        timed=True,
    )


if __name__ == "__main__":
    sys.exit(main())
