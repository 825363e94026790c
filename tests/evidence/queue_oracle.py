"""A total-queue oracle, as Jepsen has it: what was acknowledged arrives, and nothing else does.

Each run has a tablet (the production store, its thread and uplink under a producer for each stream), a
Mosquitto with or without persistence, and a depot, all processes of their own, each end behind a fault proxy.
Within a few seconds faults come at random times, at either end, and overlap. Then all of it is healed, the
producers stop, and the tablet delivers what it has. The producers' journal is held against the depot's
records, by what is in them:

    attempted      written to the journal before the commit
    acknowledged   the store said that it is durable
    delivered      in the depot's table of records
    lost           acknowledged and not delivered
    unexpected     delivered and never attempted, or delivered twice, or out of order
    duplicates     came again and were dropped by identity (device, stream, epoch, sequence number)

Both files' chains are computed anew too. A seed makes what is done and when; what the machine makes of it is
its own. The folder of a run that does not hold is kept and named.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from agent.core.records import Stream
from simulator.compose_accounts import account
from tests.evidence import claim, options
from tests.oracle_rig import FAULTS, FIELD, Scene, scene
from tests.sync_rig import DEVICE

FAULTY_S = 3.0
LONGEST_S = 1.0  # a fault
FAULTS_A_RUN = 7
AT_ONCE = 3  # runs; they mostly wait

Told = set[tuple[str, int]]  # stream, number


@dataclass
class Counts:
    """Of one run, or of all."""

    attempted: int = 0
    acknowledged: int = 0
    delivered: int = 0
    lost: int = 0
    unexpected: int = 0
    duplicates: int = 0
    wrong: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        self.attempted += other.attempted
        self.acknowledged += other.acknowledged
        self.delivered += other.delivered
        self.lost += other.lost
        self.unexpected += other.unexpected
        self.duplicates += other.duplicates
        self.wrong += other.wrong
        self.faults += other.faults


async def play(here: Scene, counts: Counts) -> None:
    """Start everything and do faults to it; every process runs at the end, and the network is whole."""
    await here.begin()
    dice = here.dice

    async def one(name: str, at_s: float, for_s: float, near: bool) -> None:
        proxy = here.near if near else here.far
        await asyncio.sleep(at_s)
        await FAULTS[name](here, proxy, lambda: asyncio.sleep(for_s))
        await proxy.heal()

    async with asyncio.TaskGroup() as faults:
        for name in ["tablet killed", *dice.choices(list(FAULTS), k=FAULTS_A_RUN - 1)]:
            counts.faults[name] += 1
            faults.create_task(
                one(name, dice.uniform(0, FAULTY_S), dice.uniform(0.05, LONGEST_S), dice.random() < 0.6)
            )
    await here.heal()


def journal(folder: Path) -> tuple[Told, Told]:
    """What the producers attempted, and what was acknowledged to them."""
    told: dict[str, Told] = {"try": set(), "ack": set()}
    for line in (folder / "journal").read_text().splitlines():
        word, stream, first, end = line.split()
        told[word] |= {(stream, number) for number in range(int(first), int(end))}
    return told["try"], told["ack"]


def look(folder: Path, counts: Counts) -> None:
    """Hold the journal against the depot, and the tablet's file too."""
    attempted, acknowledged = journal(folder)
    with closing(sqlite3.connect(f"file:{folder}/depot.db?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT c.stream, r.body FROM record r JOIN chain c ON c.id = r.chain ORDER BY r.chain, r.seq"
        ).fetchall()
        quarantined = Counter(reason for (reason,) in db.execute("SELECT reason FROM quarantine"))
    delivered = [(stream, int(json.loads(body)[FIELD[Stream(stream)]])) for stream, body in rows]
    found = set(delivered)
    counts.attempted, counts.acknowledged, counts.delivered = len(attempted), len(acknowledged), len(found)
    counts.lost = len(acknowledged - found)
    counts.unexpected = len(found - attempted) + len(delivered) - len(found)
    for stream in Stream:
        numbers = [number for name, number in delivered if name == stream.value]
        counts.unexpected += sum(a > b for a, b in pairwise(numbers))
    sides = account(folder / f"{DEVICE}.db", folder / "depot.db", DEVICE)
    counts.duplicates = sides.duplicates_dropped
    if sides.lost or sides.unexpected or sides.chains != "verified":
        counts.wrong.append(f"files: {sides}")
    if quarantined and not counts.faults["corrupt"]:
        counts.wrong.append(f"quarantined: {dict(quarantined)}")


async def run(seed: int, folder: Path) -> Counts:
    counts = Counts()
    try:
        async with asyncio.timeout(180), scene(folder, seed) as here:
            await play(here, counts)
            if not await here.finish():
                counts.wrong.append("not everything could be delivered")
        look(folder, counts)
    except* (OSError, RuntimeError, sqlite3.Error) as errors:
        counts.wrong += [repr(error) for error in errors.exceptions]
    counts.wrong = [f"seed {seed} {dict(counts.faults)}: {what}" for what in counts.wrong]
    return counts


async def runs(number: int, seed: int) -> Counts:
    total, places = Counts(), asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> None:
        async with places:
            folder = Path(tempfile.mkdtemp(prefix="oracle-"))
            counts = await run(seed, folder)
        for what in counts.wrong:
            print(f"{what}; see {folder}", file=sys.stderr, flush=True)
        if not counts.wrong and not counts.lost and not counts.unexpected:
            shutil.rmtree(folder)
        total.add(counts)

    async with asyncio.TaskGroup() as group:
        for each in range(seed, seed + number):
            group.create_task(one(each))
    return total


def main() -> int:
    number, seed = options.length(__doc__, full=200, short=6)
    total = asyncio.run(runs(number, seed))
    value = total.lost + total.unexpected + len(total.wrong)
    return claim.state(
        f"{number} runs of the queue's oracle under {total.faults.total()} faults "
        f"({', '.join(f'{name} {count}' for name, count in sorted(total.faults.items()))}): "
        f"{total.attempted} attempted, {total.acknowledged} acknowledged, {total.delivered} delivered, "
        f"{total.lost} lost, {total.unexpected} unexpected, "
        f"{total.duplicates} duplicates dropped by identity, {len(total.wrong)} runs wrong otherwise",
        value,
        "records and runs",
        0,
        holds=value == 0 and total.acknowledged > 100 * number,
        seed=seed,
    )


if __name__ == "__main__":
    sys.exit(main())
