"""What the guard costs: its memory, its processor time, and how often it makes the agent wake up more.

Docked, ignition off, dock at 5 Hz, connected: the lease is renewed all the time, in the steps of the field's
policy; the ride-through budget is full. Measured with the guard and without. The length is in seconds.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from agent.core.policy import Policy, TetherPolicy
from tests.evidence import claim, options
from tests.evidence.idle import idle_rig
from tests.evidence.main_idle_cpu import WARM_UP_S, busy_ns
from tests.evidence.main_idle_rss import resident_kib

# Full after a second: with an empty budget, as before the first refill, each STATUS renews the lease.
FULL = Policy(tether=TetherPolicy(refill_after_s=1))
GOAL_MIB = 18.0
MORE_WAKEUPS = 0.05  # of the agent, as a share: noise of the other threads


def wakeups(pid: int) -> int:
    """How often the main thread slept, by the kernel's count."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))


async def measured(seconds: int, *, guard: bool) -> tuple[float, float, float, float]:
    """Agent's wake-ups a second; guard's MiB, wake-ups a second and % of a core."""
    with tempfile.TemporaryDirectory() as folder:
        async with idle_rig(Path(folder), FULL, guard=guard) as rig:
            await asyncio.sleep(WARM_UP_S)
            other = rig.agent.pid if rig.guard is None else rig.guard.pid
            before, other_before, busy = wakeups(rig.agent.pid), wakeups(other), busy_ns(other)
            await asyncio.sleep(seconds)
            return (
                (wakeups(rig.agent.pid) - before) / seconds,
                resident_kib(other) / 1024,
                (wakeups(other) - other_before) / seconds,
                (busy_ns(other) - busy) / seconds / 1e7,
            )


def main() -> int:
    seconds, _ = options.length(__doc__, full=60, short=15)
    without = asyncio.run(measured(seconds, guard=False))[0]
    agent, mib, own, percent = asyncio.run(measured(seconds, guard=True))
    return claim.state(
        f"the guard's resident memory; {own:.1f} wake-ups/s and {percent:.2f} % of a core of its own; "
        f"the agent wakes up {agent:.2f} times/s with it and {without:.2f} without",
        mib,
        "MiB",
        GOAL_MIB,
        holds=mib <= GOAL_MIB and agent <= without * (1 + MORE_WAKEUPS),
        timed=True,
    )


if __name__ == "__main__":
    sys.exit(main())
