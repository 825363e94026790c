"""An idle agent: docked, ignition off, dock at 5 Hz, connected, with the policy of the field."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

from agent.core.policy import Policy
from simulator.compose_bench import Options, Rig

SETTLE_S = 20.0


@contextlib.asynccontextmanager
async def idle(folder: Path) -> AsyncIterator[int]:
    """The pid of an agent that has nothing to send and that nobody asks anything."""
    async with Rig(folder, Options(policy=dataclasses.asdict(Policy()))) as rig:
        await rig.until_seen(SETTLE_S, tether="tethered", ignition="off", fleet="online", queue="empty")
        await rig.control.stop()
        yield rig.agent.pid
