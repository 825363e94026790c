"""An idle agent: docked, ignition off, dock at 5 Hz, connected, with the policy of the field."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

from agent.core.policy import Policy
from simulator.compose_bench import Options, Rig

SETTLE_S = 20.0
FIELD = Policy()


@contextlib.asynccontextmanager
async def idle(folder: Path) -> AsyncIterator[int]:
    """The pid of an agent that has nothing to send and that nobody asks anything."""
    async with idle_rig(folder) as rig:
        yield rig.agent.pid


@contextlib.asynccontextmanager
async def idle_rig(folder: Path, policy: Policy = FIELD, *, guard: bool = True) -> AsyncIterator[Rig]:
    """The same with everything around it."""
    async with Rig(folder, Options(policy=dataclasses.asdict(policy), guard=guard)) as rig:
        await rig.until_seen(SETTLE_S, tether="tethered", ignition="off", fleet="online", queue="empty")
        await rig.control.stop()
        yield rig
