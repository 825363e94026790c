"""Undock to lock: from the dock's authenticated "unseated" to the Lock call at logind, on real processes.

The clock (CLOCK_BOOTTIME) starts just before the simulated dock is told and writes its STATUS to the pty; it
stops when the logind double on a private D-Bus takes the call in. Pty, agent, dbus-daemon and the rig's own
loop, which also runs dock, vehicle and double, are all within the figure: it can only be too high. What of it
the agent takes, from its decision to its request, is told beside it. Against other programs the path has the
weight that the agent's systemd unit asks for, if that is permitted (weight.py).
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import tempfile
from pathlib import Path

from simulator.compose_bench import Options, Rig
from tests.evidence import claim, options, weight

GOAL_MS = 10.0
# Evidence need not hold before the tablet is released again: that only makes the trials shorter.
POLICY = {"tether": {"return_ms": 0}, "power": {"run_on_s": 3000, "max_s": 3600}}
# Python lets a thread of the rig hold its loop up for 5 ms otherwise, which would count as the agent's.
SWITCH_S = 0.0002
# Where the rig keeps what is in memory in a vehicle too, /sys and /run; the agent's store is on the disk.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


async def trials(folder: Path, number: int, seed: int) -> tuple[list[float], list[float]]:
    """Delays in ms, one for each removal: from the dock to logind, and the agent's part of it."""
    dice, parts = random.Random(seed), []
    async with Rig(folder, Options(seed=seed, policy=POLICY)) as rig:
        await rig.until_seen(20, tether="tethered")
        weight.give(rig.agent.pid)
        for _ in range(number):
            await rig.until_seen(20, tether="tethered", posture="usable")
            # At a random moment of the dock's 5 Hz, as somebody takes it out.
            await asyncio.sleep(dice.uniform(0.1, 0.3))
            rig.system.unlock()
            rig.undock()
            await rig.until_seen(10, tether="restricted", session="locked")
            status = await rig.control.ask("status")
            parts.append(status["enforcement"]["actions"]["logind"]["asked_us"] / 1000)
            rig.world.seat(seated=True)
        return rig.undock_to_lock_ms(), parts


def p99(values: list[float]) -> float:
    """By nearest rank."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def main() -> int:
    number, seed = options.length(__doc__, full=200, short=100)
    sys.setswitchinterval(SWITCH_S)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, tempfile.TemporaryDirectory() as disk:
        (Path(folder) / "state").symlink_to(disk)
        with weight.weighted():
            delays, parts = asyncio.run(trials(Path(folder), number, seed))
    p50 = sorted(delays)[len(delays) // 2]
    return claim.state(
        f"undock to lock: p99 of {len(delays)} (p50 {p50:.2f}, max {max(delays):.2f}; "
        f"the agent's part p99 {p99(parts):.2f})",
        p99(delays),
        "ms",
        GOAL_MS,
        holds=len(delays) == number and p99(delays) < GOAL_MS,
        timed=len(delays) == number,
        seed=seed,
    )


if __name__ == "__main__":
    sys.exit(main())
