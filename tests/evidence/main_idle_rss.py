"""Memory of an idle agent: docked, ignition off, dock at 5 Hz, connected to the broker.

The resident set, of which Python's and OpenSSL's files are a part that it shares with other programs. The
length is in seconds.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.evidence import claim, options
from tests.evidence.idle import idle

GOAL_MIB = 60.0


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))


async def rss_mib(folder: Path, seconds: int) -> float:
    async with idle(folder) as pid:
        await asyncio.sleep(seconds)
        return resident_kib(pid) / 1024


def main() -> int:
    seconds, _ = options.length(__doc__, full=20, short=5)
    with tempfile.TemporaryDirectory() as folder:
        value = asyncio.run(rss_mib(Path(folder), seconds))
    return claim.state("resident memory of an idle agent", value, "MiB", GOAL_MIB, holds=value < GOAL_MIB)


if __name__ == "__main__":
    sys.exit(main())
