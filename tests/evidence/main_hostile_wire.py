"""A hostile wire: each trick ends in the right states, is counted, and leaves the agent alive.

The port is pulled in the middle of a frame; another dock is plugged in; the serial port gets noise; the bus
carries frames of another make under the identifiers of this one. The length is the noise in megabytes. The
value is the number of things that were not as they must be.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.evidence import claim, options
from tests.hostile import TRICKS, Hostile, hostile_rig


async def failures(folder: Path, megabytes: int, seed: int) -> list[str]:
    async with hostile_rig(folder, seed) as rig:
        found = []
        for trick in TRICKS:
            try:
                await trick(Hostile(rig, megabytes * 1_000_000, seed))
            except (AssertionError, TimeoutError) as failure:
                found.append(f"{trick.__name__}: {failure}")
        return found


def main() -> int:
    megabytes, seed = options.length(__doc__, full=10, short=2)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(failures(Path(folder), megabytes, seed))
    text = f"hostile wire: {len(TRICKS)} tricks, {megabytes} MB of noise among them"
    return claim.state("; ".join([text, *found]), len(found), "failures", 0, holds=not found, seed=seed)


if __name__ == "__main__":
    sys.exit(main())
