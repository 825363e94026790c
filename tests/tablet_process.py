"""A tablet's queue and uplink as a process to be killed: commits numbered records and says what is durable.

Each line on stdout is the number of a record whose commit was confirmed. It begins after ``--first``, ends
after ``--count`` records, delivers what is left and exits 0.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import structlog

from tests.sync_rig import sample, stopped, tablet


async def run(folder: Path, keys: Path, port: int, first: int, count: int) -> int:
    async with tablet(folder, keys, port) as it:
        for number in range(first, first + count, 20):
            await it.queue.commit([sample(n) for n in range(number, number + 20)] + [stopped(number)])
            sys.stdout.write("".join(f"{n}\n" for n in range(number, number + 20)))
            sys.stdout.flush()
        return await it.drain()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--keys", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    return asyncio.run(run(given.folder, given.keys, given.port, given.first, given.count))


if __name__ == "__main__":
    sys.exit(main())
