"""Start to the first durable record: from the exec of `ivma-agent run` until the record of that very start is
committed and synced, as the agent's own store answers when it is asked for its newest audit record.
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
    heads = [0]

    async def recorded(start: Start) -> None:
        await start.ready()
        while (head := await start.audit_head()) <= heads[-1]:
            pass
        # The stop that follows has a record too; the next start's is the one after it.
        heads.append(head + 1)

    with tempfile.TemporaryDirectory() as folder:
        took = asyncio.run(measure(Path(folder), number, recorded, dbus=True))
    median = statistics.median(took)
    return claim.state(
        f"start to first durable record: median of {number}",
        median,
        "ms",
        GOAL_MS,
        holds=median < GOAL_MS,
        timed=True,
    )


if __name__ == "__main__":
    sys.exit(main())
