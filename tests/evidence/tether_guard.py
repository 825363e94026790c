"""Whatever befalls the agent, the tablet is locked within 3 s of the lease's end: real processes, each fault.

Agent and guard run on simulated hardware and a logind double. The agent crashes, is killed, stopped, loops,
finds no module at its start, no room on the disk, no memory, or D-Bus is restarted; where the agent could
live through it, the dock falls silent too. The length is how often each is done. Then the agent alone is
killed and started again within its lease, docked: that must lock nothing. The figure is the longest time from
the end of the lease to a lock that is read back; a lock before it counts as 0.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.agent_rig import docked
from tests.evidence import claim, options
from tests.guard_rig import LIMIT_S, Fault, guarded, strike

PATIENT = {"refill_after_s": 1, "ride_through_ms": 30_000, "crank_ride_through_ms": 30_000}


async def struck(fault: Fault) -> float:
    with tempfile.TemporaryDirectory() as folder:
        async with guarded(Path(folder)) as rig:
            return (await strike(rig, fault)).locked_s


async def restarted(times: int) -> int:
    """How many locks so many kills and starts within the lease made."""
    with tempfile.TemporaryDirectory() as folder:
        async with guarded(Path(folder), tether=PATIENT) as rig:
            await docked(rig)
            locks = len(rig.system.lock_times)
            for _ in range(times):
                await rig.agent.kill()
                await rig.until(lambda: not rig.status, 5, "the agent to be gone")
                await rig.agent.start()
                await rig.until_seen(20, tether="tethered", posture="usable")
            return len(rig.system.lock_times) - locks


def main() -> int:
    rounds, seed = options.length(__doc__, full=3, short=1)
    worst: dict[Fault, float] = {}
    for fault in Fault:
        worst[fault] = max(max(0.0, asyncio.run(struck(fault))) for _ in range(rounds))
    false = asyncio.run(restarted(3 * rounds))
    table = ", ".join(f"{fault.value} {seconds:.2f} s" for fault, seconds in worst.items())
    value = max(worst.values())
    return claim.state(
        f"from the lease's end to a verified lock, the worst of {rounds}: {table}; "
        f"{false} locks by {3 * rounds} kills and starts of the agent within its lease",
        value,
        "s",
        LIMIT_S,
        holds=value < LIMIT_S and not false,
        seed=seed,
        timed=not false,
    )


if __name__ == "__main__":
    sys.exit(main())
