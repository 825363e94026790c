"""What a hostile or broken wire does to an agent, as tricks on a rig of real processes.

Each trick raises AssertionError or TimeoutError when the agent does not end in the right states, does not
count what it dropped, or is not the process that it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from agent.core.types import KeyPosition
from drivers.vehicles import vw_mqb
from drivers.vehicles.codec import Checksum
from simulator.compose_bench import Options, Rig
from tests.agent_rig import docked

BACK_S = 90.0
# With use left without proof, so that every state is passed through; it is refilled after a second.
POLICY = {"tether": {"refill_after_s": 1}, "power": {"run_on_s": 600, "max_s": 900}}
SWITCH = next(frame for frame in vw_mqb().frames if frame.name == "Klemmen_Status_01")
CHECKSUM = cast("Checksum", SWITCH.checksum)
FRAMES = 400


@contextlib.asynccontextmanager
async def hostile_rig(folder: Path, seed: int = 1) -> AsyncIterator[Rig]:
    """A rig whose tablet is docked and usable, its officer logged in, ignition on."""
    async with Rig(folder, Options(seed=seed, policy=POLICY)) as rig:
        rig.world.vehicle.turn_key(KeyPosition.ON)
        await well(rig)
        yield rig


async def well(rig: Rig) -> None:
    """Wait until all is as it was before a trick, with the ride-through refilled."""
    await rig.until_seen(BACK_S, ignition="on")
    await docked(rig)


async def status(rig: Rig) -> dict[str, Any]:
    answer: dict[str, Any] = await rig.control.ask("status")
    return answer


@dataclass(frozen=True, slots=True)
class Hostile:
    rig: Rig
    noise_bytes: int = 1_000_000
    seed: int = 1


async def pulled_in_mid_frame(it: Hostile) -> None:
    """Use goes on for the ride-through, then it is locked; plugged in again it comes back."""
    rig, pid = it.rig, it.rig.agent.pid
    await rig.world.own_device.inject(bytes.fromhex("0701832602aa0b0102"))  # the head of a STATUS
    rig.world.unplug()
    await rig.until_seen(5, tether="uncertain", posture="usable")
    await rig.until_seen(8, tether="restricted", posture="locked", session="locked")
    lost = (await status(rig))["docks"]["dock"]["lost"]
    assert lost == 1, f"lost counted {lost}x"
    rig.world.plug()
    await well(rig)
    assert rig.agent.pid == pid
    assert rig.agent.running


async def another_dock(it: Hostile) -> None:
    """One with another key is foreign, and locked; only the paired one's proof ends that."""
    rig, pid = it.rig, it.rig.agent.pid
    rig.world.plug(foreign=True)
    await rig.until_seen(15, tether="foreign", posture="locked", session="locked")
    rig.world.plug()
    await well(rig)
    assert rig.agent.pid == pid
    assert rig.agent.running


async def noise(it: Hostile) -> None:
    """Nothing in it counts; the agent answers all the while, and the dock is heard again after it."""
    rig, pid = it.rig, it.rig.agent.pid
    before = _dropped((await status(rig))["docks"]["dock"])
    await rig.world.noise(it.noise_bytes)
    await well(rig)
    dropped = _dropped((await status(rig))["docks"]["dock"]) - before
    # A zero byte, every 256th, ends a packet; an empty one is none.
    assert dropped > it.noise_bytes / 512, f"{dropped} packets counted as dropped"
    assert rig.agent.pid == pid
    assert rig.agent.running


async def another_make(it: Hostile) -> None:
    """Frames under an id of ours that fail its checks are counted and change nothing."""
    rig, pid, dice = it.rig, it.rig.agent.pid, random.Random(it.seed)
    before = (await status(rig))["can"]["powertrain"]
    for _ in range(FRAMES):
        data = dice.randbytes(dice.choice((4, 8)))
        # One in 256 would have our make's checksum, and be a frame of our make for all that can be known.
        wrong = bytes((CHECKSUM.expected(data) ^ 1,)) + data[1:]
        head = SWITCH.can_id.to_bytes(4, "little") + bytes((len(data), 0, 0, 0))
        rig.world.hub.send(head + wrong.ljust(8, b"\0"))

    async def counted() -> int:
        now = (await status(rig))["can"]["powertrain"]
        return sum(now.get(name, 0) - before.get(name, 0) for name in ("wrong_length", "checksum"))

    async with asyncio.timeout(BACK_S):
        while await counted() < FRAMES:
            await rig.change()
    ignition = await rig.control.ask("why", topic="ignition")
    assert ignition["verdict"] == "on", ignition
    assert rig.can_frames_transmitted == 0
    assert rig.agent.pid == pid
    assert rig.agent.running


TRICKS = (pulled_in_mid_frame, another_dock, noise, another_make)


def _dropped(counts: dict[str, int]) -> int:
    return sum(counts.get(reason, 0) for reason in ("cobs", "length", "crc", "overlong"))
