"""CPU of an idle agent: docked, ignition off, dock at 5 Hz, connected to the broker; all its threads, as the
kernel's scheduler counts them in nanoseconds (/proc/PID/task/*/schedstat). The length is in seconds.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.evidence import claim, options
from tests.evidence.idle import idle

GOAL_PERCENT = 0.5
WARM_UP_S = 3  # what its start left to do is over


def busy_ns(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


async def percent(folder: Path, seconds: int) -> float:
    """Share of one core."""
    async with idle(folder) as pid:
        await asyncio.sleep(WARM_UP_S)
        began, before = time.monotonic_ns(), busy_ns(pid)
        await asyncio.sleep(seconds)
        return 100 * (busy_ns(pid) - before) / (time.monotonic_ns() - began)


def main() -> int:
    seconds, _ = options.length(__doc__, full=60, short=15)
    with tempfile.TemporaryDirectory() as folder:
        value = asyncio.run(percent(Path(folder), seconds))
    return claim.state(
        f"CPU of an idle agent over {seconds} s",
        value,
        "% of one core",
        GOAL_PERCENT,
        holds=value < GOAL_PERCENT,
        timed=True,
    )


if __name__ == "__main__":
    sys.exit(main())
