"""SIGKILL of the agent at random moments of shifts: nothing lost, nothing unexpected, chains verified.

The scenario "shift" is played again and again on real processes while a second hand kills the agent, also
during its start, its drain before a shutdown and its backlog; the length is the number of kills. After each
the agent is started again as systemd would. At the end the tablet's own file, opened once its agent is gone,
is compared with the depot's database: every record of the one is in the other, sequence numbers have no
hole, and both hash chains are computed anew. The vehicle's bus counts what the agent sent on it.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from agent.core.types import KeyPosition
from simulator.agent_config import DEVICE
from simulator.compose_accounts import Accounts
from simulator.compose_bench import Options, Rig, boot_now
from simulator.compose_stage import Stage
from simulator.play import Verdict, play
from simulator.scenario import Step, find, load
from simulator.tablet import Power
from tests.evidence import claim, options

SOONEST_S, LATEST_S = 0.05, 6.0  # from one start of the agent to its next kill
RESTART_S = 0.25  # RestartSec of systemd/ivma-agent.service
BACK_S = 60.0
WAKE_S, WAKE_TRIES = 10.0, 5


class Unmoved:
    """An audience: what a kill does to a scenario's expectations is not what is measured here."""

    def step(self, step: Step) -> None:
        pass

    def skipped(self, step: Step) -> None:
        pass

    def verdict(self, verdict: Verdict) -> None:
        pass


async def shifts(rig: Rig) -> None:
    scenario = load(find("shift"))
    while True:
        await play(scenario, Stage(rig), Unmoved(), boot_now)


async def kills(rig: Rig, number: int, dice: random.Random) -> None:
    for _ in range(number):
        await asyncio.sleep(dice.uniform(SOONEST_S, LATEST_S))
        await rig.until(lambda: rig.agent.running and awake(rig), BACK_S, "the agent to run")
        boot = boot_of(rig)
        await rig.agent.kill()
        await asyncio.sleep(RESTART_S)
        if rig.world.tablet.power is Power.SUSPENDED:
            await rig.until(lambda: awake(rig), BACK_S, "the tablet to wake")
        if awake(rig) and boot_of(rig) == boot:  # else it is started by the boot
            await rig.agent.start()
            if not awake(rig):
                await rig.agent.kill()  # the tablet went off at that very moment


def awake(rig: Rig) -> bool:
    return rig.world.tablet.power is Power.ON


def boot_of(rig: Rig) -> bytes:
    return rig.layout.boot_id.read_bytes()


async def run(folder: Path, number: int, seed: int) -> tuple[Accounts, int]:
    """The accounts, and the number of frames that the agent sent on the vehicle's bus."""
    scenario = load(find("shift"))
    rig_options = Options(seed=seed, profile=scenario.profile, policy=scenario.policy)
    async with Rig(folder, rig_options) as rig:
        playing = asyncio.create_task(shifts(rig))
        killing = asyncio.create_task(kills(rig, number, random.Random(seed)))
        try:
            await asyncio.wait({playing, killing}, return_when=asyncio.FIRST_COMPLETED)
            (killing if killing.done() else playing).result()
        finally:
            playing.cancel()
            killing.cancel()
            await asyncio.wait({playing, killing})
        await rig.network.heal()
        rig.world.seat(seated=True)
        rig.world.vehicle.turn_key(KeyPosition.ON)
        for tries_left in reversed(range(WAKE_TRIES)):
            await rig.wake()  # it may just have been going to sleep, and missed the key
            try:
                await rig.until_seen(WAKE_S, tablet="on", agent="running", power="awake")
                break
            except TimeoutError:
                if not tries_left:
                    raise
        return await rig.settle(BACK_S), rig.can_frames_transmitted


def highest(depot: Path) -> int:
    """The sum of the newest sequence numbers that the depot has; with no hole, the number of records."""
    with closing(sqlite3.connect(depot)) as db:
        (total,) = db.execute("SELECT sum(seq) FROM chain WHERE device = ?", (DEVICE,)).fetchone()
        return int(total)


def main() -> int:
    number, seed = options.length(__doc__, full=50, short=8)
    with tempfile.TemporaryDirectory() as folder:
        accounts, frames = asyncio.run(run(Path(folder), number, seed))
        holes = highest(Path(folder) / "depot.db") - accounts.delivered
    broken = int(accounts.chains != "verified")
    value = accounts.lost + accounts.unexpected + holes + broken + frames
    return claim.state(
        f"{number} SIGKILLs of the agent: of {accounts.produced} records {accounts.lost} lost, "
        f"{accounts.unexpected} unexpected, {holes} missing in sequence, chains {accounts.chains}, "
        f"{accounts.duplicates_dropped} duplicates dropped, {frames} CAN frames sent",
        value,
        "records and frames",
        0,
        holds=value == 0 and accounts.produced > number,
        seed=seed,
    )


if __name__ == "__main__":
    sys.exit(main())
