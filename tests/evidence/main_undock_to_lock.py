"""Undock to lock: from the dock's authenticated "unseated" to the Lock call at logind, on real processes.

The clock (CLOCK_BOOTTIME) starts just before the simulated dock is told and writes its STATUS to the pty; it
stops when the logind double on a private D-Bus takes the call in. Pty, agent, dbus-daemon and the rig's own
loop, which also runs dock, vehicle and double, are all within the figure: it can only be too high.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from pathlib import Path

from simulator.compose_bench import Options, Rig
from tests.evidence import claim, options

GOAL_MS = 10.0
# Evidence need not hold before the tablet is released again: that only makes the trials shorter.
POLICY = {"tether": {"return_ms": 0}}


async def trials(folder: Path, number: int, seed: int) -> list[float]:
    """Delays in ms, one for each removal."""
    dice = random.Random(seed)
    async with Rig(folder, Options(seed=seed, policy=POLICY)) as rig:
        for _ in range(number):
            await rig.until_seen(20, tether="tethered", posture="usable")
            # At a random moment of the dock's 5 Hz, as somebody takes it out.
            await asyncio.sleep(dice.uniform(0.1, 0.3))
            rig.system.unlock()
            rig.undock()
            await rig.until_seen(10, tether="restricted", session="locked")
            rig.world.seat(seated=True)
        return rig.undock_to_lock_ms()


def main() -> int:
    number, seed = options.length(__doc__, full=200, short=40)
    with tempfile.TemporaryDirectory() as folder:
        delays = sorted(asyncio.run(trials(Path(folder), number, seed)))
    p50, p99 = delays[len(delays) // 2], delays[min(len(delays) - 1, len(delays) * 99 // 100)]
    return claim.state(
        f"undock to lock: p99 of {len(delays)} (p50 {p50:.2f}, max {delays[-1]:.2f})",
        p99,
        "ms",
        GOAL_MS,
        holds=len(delays) == number and p99 < GOAL_MS,
        seed=seed,
    )


if __name__ == "__main__":
    sys.exit(main())
