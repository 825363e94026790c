"""The store beside bare SQLite in the same run: ratios, since absolute rates do not travel.

`python tests/bench/bench_store.py [--seconds 3] [--folder DIR]`; DIR must be on the disk that matters
(never tmpfs, where a sync costs nothing). Goals are those of docs/queue-and-sync.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agent.core.catalogue import POWER_SAMPLE
from agent.core.records import Record, Stream
from sync.store import Store
from sync.writer import StoreThread
from tests.store_rig import SECOND, Rig, alarm

PRODUCERS = 64
GROUP = 100
PENDING = 1_000_000


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def rates(seconds: float, step: Callable[[], int]) -> tuple[float, list[float]]:
    """Records a second, and the time of each step in ms, sorted."""
    times: list[float] = []
    count = 0
    start = time.perf_counter()
    while (begun := time.perf_counter()) - start < seconds:
        count += step()
        times.append((time.perf_counter() - begun) * 1e3)
    return count / (time.perf_counter() - start), sorted(times)


def in_turn(seconds: float, *steps: Callable[[], int]) -> list[float]:
    """Rates of each step, measured in slices one after the other: a busy machine is busy for all of them."""
    slices = 5
    found = [0.0] * len(steps)
    for _ in range(slices):
        for place, step in enumerate(steps):
            found[place] += rates(seconds / slices, step)[0] / slices
    return found


def p99(times: list[float]) -> float:
    return times[int(len(times) * 0.99)]


def drive(seed: int, count: int, at: int) -> list[Record]:
    """Telemetry as a shift gives it: voltage and current that wander, at 1 Hz with jitter of the loop."""
    source = random.Random(seed)
    mv, ma, rpm = 13_800, 1_500, 1_500
    records = []
    for n in range(count):
        mv += source.randrange(-8, 9)
        ma += source.randrange(-20, 21)
        rpm = max(700, rpm + 50 * source.randrange(-3, 4))
        records.append(
            POWER_SAMPLE.make(
                at + n * SECOND + source.randrange(1_000_000), vehicle_mv=mv, dock_mv=mv - 150, tablet_ma=ma,
                board_dc=350 + n // 40, tablet_percent=80, engine_rpm=rpm,
            )
        )  # fmt: skip
    return records


def bare(path: Path) -> sqlite3.Connection:
    """The limit: SQLite alone, WAL and FULL, one row of the size of a stored alarm."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE t (seq INTEGER PRIMARY KEY, body BLOB)")
    return db


def bare_single(db: sqlite3.Connection) -> Callable[[], int]:
    body = bytes(250)

    def step() -> int:
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t (body) VALUES (?)", (body,))
        db.execute("COMMIT")
        return 1

    return step


def bare_group(db: sqlite3.Connection) -> Callable[[], int]:
    rows = [(bytes(200),)] * GROUP

    def step() -> int:
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO t (body) VALUES (?)", rows)
        db.execute("COMMIT")
        return GROUP

    return step


def show(what: str, value: float, unit: str, goal: float | None = None, *, at_most: bool = False) -> None:
    verdict = ""
    if goal is not None:
        holds = value <= goal if at_most else value >= goal
        verdict = f"   goal {'<=' if at_most else '>='} {goal:g}: {'holds' if holds else 'MISSED'}"
    print(f"{what:58} {value:14,.3f} {unit:10}{verdict}", flush=True)


def written_bytes() -> int:
    return int(Path("/proc/self/io").read_text().split("\nwrite_bytes: ")[1].split()[0])


@contextmanager
def opened(folder: Path, name: str) -> Iterator[Store]:
    store = Rig(folder / name, sealed=True).open()
    try:
        yield store
    finally:
        store.close()


def single(folder: Path, seconds: float) -> None:
    """One record at a time, synced before it returns."""
    db = bare(folder / "bare-single.sqlite")
    with opened(folder, "single.sqlite") as store:
        limit, ours = in_turn(seconds, bare_single(db), lambda: len(store.append([alarm(boot_ns())])))
    db.close()
    show("bare SQLite WAL/FULL, one at a time", limit, "records/s")
    show("store, one at a time, chained and sealed", ours, "records/s")
    show("  ratio", ours / limit, "", 0.7)


def groups(folder: Path, seconds: float) -> None:
    db = bare(folder / "bare-group.sqlite")
    records = drive(1, GROUP, boot_ns())
    with opened(folder, "group.sqlite") as store:

        def step() -> int:
            store.append(records)
            return GROUP

        limit, ours = in_turn(seconds, bare_group(db), step)
        db.close()
        before, first = written_bytes(), store.heads()[Stream.TELEMETRY].seq
        rates(seconds / 2, step)
        stats = store.stats()[Stream.TELEMETRY]
        disk = (written_bytes() - before) / (stats.head.seq - first)
        show("bare SQLite WAL/FULL, groups of 100 rows of 200 bytes", limit, "records/s")
        show("store, groups of 100, chained and sealed", ours, "records/s", 150_000)
        show("  ratio", ours / limit, "")
        show("  stored a record, all included", stats.size / stats.head.seq, "bytes", 16, at_most=True)
        show("  written to the disk a record", disk, "bytes", 700, at_most=True)
        after = 0
        count = 0
        start = time.perf_counter()
        while run := store.read_batch(Stream.TELEMETRY, after, 65_536):
            after, count = run.head.seq, count + run.head.seq - run.before.seq
        show(
            "  read back in batches, chain verified",
            count / (time.perf_counter() - start),
            "records/s",
            150_000,
        )


def field_rate(folder: Path) -> None:
    """One sample a second in groups of 5 s: what the commit group costs in bytes."""
    with opened(folder, "field.sqlite") as store:
        before = written_bytes()
        records = drive(2, 3_600, boot_ns())
        for n in range(0, len(records), 5):
            store.append(records[n : n + 5])
        stats = store.stats()[Stream.TELEMETRY]
        show("field rate: 1/s in groups of 5, stored a record", stats.size / stats.head.seq, "bytes")
        show("field rate: written to the disk in 10 h", (written_bytes() - before) * 10 / 1e6, "MB")
        show("field rate: syncs an hour", 3_600 / 5, "")


async def threaded(folder: Path, seconds: float) -> None:
    thread = StoreThread(Rig(folder / "threaded.sqlite", sealed=True).open, boot_ns)
    await thread.start()
    db = bare(folder / "bare-threaded.sqlite")
    limit = rate = 0.0
    for _ in range(5):
        limit += rates(seconds / 5, bare_single(db))[0] / 5
        count = 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds / 5:
            await thread.commit([alarm(boot_ns())])
            count += 1
        rate += count / (time.perf_counter() - start) / 5
    db.close()
    show("one producer to producer through the thread", rate, "records/s")
    show("  ratio to bare SQLite", rate / limit, "", 0.4)
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def produce() -> None:
        while (begun := time.perf_counter()) < end:
            await thread.commit([alarm(boot_ns())])
            times.append((time.perf_counter() - begun) * 1e3)

    start = time.perf_counter()
    await asyncio.gather(*(produce() for _ in range(PRODUCERS)))
    rate = len(times) / (time.perf_counter() - start)
    show(f"{PRODUCERS} producers, each awaiting durability", rate, "records/s")
    show("  ratio to bare SQLite, one at a time", rate / limit, "")
    show("  p99", p99(sorted(times)), "ms", 10, at_most=True)
    await thread.close(30)


def turn(store: Store, records: list[Record]) -> int:
    """Append, read from the middle of what waits, acknowledge."""
    store.append(records)
    run = store.read_batch(Stream.TELEMETRY, store.heads()[Stream.TELEMETRY].seq // 2, 10_000)
    if run is not None:
        store.acknowledge(Stream.TELEMETRY, store.epoch, run.head)
    return 1


def pending(folder: Path, seconds: float) -> None:
    """A million records pending against a thousand: appending, reading and opening must not notice."""
    found: dict[int, float] = {}
    records = drive(3, 1_000, boot_ns())
    for count in (1_000, PENDING):
        name = f"pending-{count}.sqlite"
        with opened(folder, name) as store:
            for _ in range(count // 1_000):
                store.append(records)
        start = time.perf_counter()
        with opened(folder, name) as store:
            show(f"open with {count:,} pending", (time.perf_counter() - start) * 1e3, "ms", 5, at_most=True)

            _, times = rates(seconds, partial(turn, store, records[:10]))
            found[count] = p99(times)
            show(f"append, read and acknowledge with {count:,} pending, p99", found[count], "ms")
    show("  ratio of the p99", found[PENDING] / found[1_000], "", 1.2, at_most=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument(
        "--folder", type=Path, help="on the disk to measure [a temporary folder beside the project]"
    )
    options = parser.parse_args()
    beside = options.folder or Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(dir=beside, prefix=".bench-") as name:
        folder = Path(name)
        single(folder, options.seconds)
        groups(folder, options.seconds)
        field_rate(folder)
        asyncio.run(threaded(folder, options.seconds))
        pending(folder, options.seconds)
    print(f"sqlite {sqlite3.sqlite_version}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
