"""Group commit by durability class, and what happens to records while the disk refuses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.core.records import Record, Stream
from sync.blocks import Head
from sync.errors import LocalProtocolError, StoreError, StoreInUse
from sync.inbox import GROUP_RECORDS, STATE_GROUP_NS, Inbox, InboxFull, Item, Receipt
from sync.store import Store
from sync.table import Acked
from sync.writer import StoreThread
from tests.aio import looped
from tests.store_rig import SECOND, Rig, alarm, audit, noise, read_all, sample, state

WAIT_S = 90


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


# --- the inbox --------------------------------------------------------------------------------------


def item(*records: Record, remember: bytes | None = None) -> Item:
    return Item(records, remember, asyncio.Future(loop=LOOP))


LOOP = asyncio.new_event_loop()
LOOP.close()


def ats(items: Sequence[Item]) -> list[int]:
    return [record.at for item in items for record in item.records]


@pytest.mark.parametrize(
    ("waits", "due_ns"),
    [
        (item(alarm(1)), 0),
        (item(audit(1)), 0),
        (item(remember=b"x"), 0),
        (item(), 0),
        (item(state(1)), STATE_GROUP_NS),
        (item(state(1), sample(1)), STATE_GROUP_NS),
        (item(sample(1)), 5 * SECOND),
        (item(sample(1), alarm(1)), 0),
        (item(sample(1), remember=b"x"), 0),
    ],
)
def test_the_most_urgent_stream_says_how_long_an_item_waits(waits: Item, due_ns: int) -> None:
    inbox = Inbox(100, 5 * SECOND)
    inbox.add(waits, 1_000)
    assert inbox.due == 1_000 + due_ns
    assert inbox.take(999 + due_ns) == []
    assert inbox.take(1_000 + due_ns) == [waits]
    assert inbox.due is None


def test_a_commit_takes_all_that_is_prompt_and_leaves_telemetry_to_its_time() -> None:
    inbox = Inbox(100, 5 * SECOND)
    for record in (sample(1), state(2), sample(3), alarm(4), state(5)):
        inbox.add(item(record), 0)
    assert ats(inbox.take(0)) == [2, 4, 5]
    assert ats(inbox.take(5 * SECOND)) == [1, 3]


def test_order_within_telemetry_holds_when_some_of_it_is_prompt() -> None:
    inbox = Inbox(100, 5 * SECOND)
    inbox.add(item(sample(1)), 0)
    inbox.add(item(alarm(2), sample(3)), 0)
    inbox.add(item(sample(4)), 0)
    assert ats(inbox.take(0)) == [1, 2, 3, 4]


def test_what_failed_comes_first_and_not_before_its_time() -> None:
    inbox = Inbox(100, 5 * SECOND)
    for at in (1, 2, 3):
        inbox.add(item(sample(at)), 0)
    taken = inbox.take(5 * SECOND)
    inbox.add(item(sample(4)), 0)
    inbox.put_back(taken, 5 * SECOND, 6 * SECOND)
    inbox.add(item(alarm(5)), 5 * SECOND)
    assert inbox.due == 6 * SECOND
    assert ats(inbox.take(6 * SECOND)) == [1, 2, 3, 4, 5]


def test_one_commit_is_bounded_and_the_rest_is_due_at_once() -> None:
    inbox = Inbox(10 * GROUP_RECORDS, 5 * SECOND)
    for at in range(3 * GROUP_RECORDS):
        inbox.add(item(alarm(at)), 0)
    groups = [ats(inbox.take(0)) for _ in range(3)]
    assert list(map(len, groups)) == [GROUP_RECORDS] * 3
    assert [at for group in groups for at in group] == list(range(3 * GROUP_RECORDS))
    assert inbox.waiting == 0


def test_a_full_inbox_refuses_telemetry_first_and_alarms_last() -> None:
    inbox = Inbox(8, 5 * SECOND)
    makers: list[tuple[Callable[[int], Record], int]] = [(sample, 4), (state, 2), (alarm, 2)]
    for make, room in makers:
        for n in range(room):
            inbox.add(item(make(n)), 0)
        with pytest.raises(InboxFull):
            inbox.add(item(make(room)), 0)
    assert inbox.waiting == 8


# --- the thread -------------------------------------------------------------------------------------


class Bench:
    """A store thread on a real file, with what it reported."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.rig = Rig(folder / "queue.sqlite")
        self.health: list[tuple[bool, str]] = []
        self.unwell = asyncio.Event()
        self.well = asyncio.Event()
        self.heads: Mapping[Stream, int] = {}
        self.commits = 0
        self.thread = StoreThread(
            self.rig.open, boot_ns, on_health=self.on_health, on_commit=self.on_commit, **options
        )

    def on_health(self, ok: bool, detail: str) -> None:
        self.health.append((ok, detail))
        (self.well if ok else self.unwell).set()

    def on_commit(self, heads: Mapping[Stream, int]) -> None:
        self.heads = heads
        self.commits += 1

    def reopened(self) -> Store:
        return self.rig.open()


async def soon(future: asyncio.Future[Receipt]) -> Receipt:
    return await asyncio.wait_for(future, WAIT_S)


@looped
async def test_a_receipt_names_what_each_producer_got(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    opened = await bench.thread.start()
    assert (opened.remembered, opened.damaged, opened.problem) == (None, None, None)
    futures = [bench.thread.commit([state(n), state(n), sample(n)]) for n in range(50)]
    receipts = [await soon(future) for future in futures]
    assert [receipt.seqs for receipt in receipts] == [
        {Stream.STATE: (2 * n + 1, 2 * n + 2), Stream.TELEMETRY: (n + 1, n + 1)} for n in range(50)
    ]
    assert bench.heads[Stream.STATE] == 100
    assert bench.commits < 50  # one sync for many producers
    await bench.thread.close(WAIT_S)


@looped
async def test_an_alarm_is_on_the_disk_when_its_future_resolves(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.thread.start()
    await soon(bench.thread.commit([alarm(1)], b"remembered"))
    copy = tmp_path / "copy.sqlite"
    for suffix in ("", "-wal"):
        copy.with_name(copy.name + suffix).write_bytes(
            bench.rig.path.with_name(bench.rig.path.name + suffix).read_bytes()
        )
    twin = Rig(copy).open()
    assert twin.heads()[Stream.ALARM].seq == 1
    assert twin.remembered == b"remembered"
    twin.close()
    await bench.thread.close(WAIT_S)


@looped
async def test_telemetry_waits_for_its_group_unless_told_to_hurry(tmp_path: Path) -> None:
    bench = Bench(tmp_path, telemetry_group_s=3600)
    await bench.thread.start()
    lazy = bench.thread.commit([sample(1)])
    await soon(bench.thread.commit([alarm(1)]))
    assert not lazy.done()
    await soon(bench.thread.flush())
    assert lazy.done()
    await bench.thread.close(WAIT_S)


@looped
async def test_an_orderly_close_commits_what_waits(tmp_path: Path) -> None:
    bench = Bench(tmp_path, telemetry_group_s=3600)
    await bench.thread.start()
    waiting = [bench.thread.commit([sample(n)]) for n in range(5)]
    assert await bench.thread.close(WAIT_S)
    assert [future.result().seqs for future in waiting] == [
        {Stream.TELEMETRY: (n + 1, n + 1)} for n in range(5)
    ]
    with pytest.raises(StoreError, match="closed"):
        await bench.thread.commit([alarm(1)])
    store = bench.reopened()
    assert len(read_all(store, Stream.TELEMETRY).rows) == 5
    store.close()


@looped
async def test_one_bad_record_fails_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.thread.start()
    bad = alarm(2, decision=2**64)
    good, refused, also = (bench.thread.commit([record]) for record in (alarm(1), bad, alarm(3)))
    assert (await soon(good)).seqs == {Stream.ALARM: (1, 1)}
    with pytest.raises(LocalProtocolError):
        await soon(refused)
    assert (await soon(also)).seqs == {Stream.ALARM: (2, 2)}
    assert bench.health == []
    await bench.thread.close(WAIT_S)


@looped
async def test_reading_and_acknowledging_through_the_thread(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.thread.start()
    await soon(bench.thread.commit([state(1)]))
    run = await bench.thread.fetch(Stream.STATE, 0, 10_000)
    assert run is not None
    assert run.epoch == await bench.thread.epoch()
    assert await bench.thread.acknowledge(Stream.STATE, run.epoch, run.head) is Acked.ADVANCED
    assert await bench.thread.acknowledge(Stream.STATE, run.epoch, Head(9, bytes(32))) is Acked.MISMATCH
    assert (await bench.thread.stats())[Stream.STATE].pending == 0
    assert await bench.thread.fetch(Stream.STATE, 1, 10_000) is None
    await bench.thread.close(WAIT_S)


@looped
async def test_records_wait_in_order_until_a_full_disk_has_room_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.thread.start()
    await soon(bench.thread.commit([state(1)]))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_024, hard))  # stands for the disk: no write grows a file
    try:
        first = bench.thread.commit([alarm(2, rule=noise(bench.rig.random, 40_000))])
        await asyncio.wait_for(bench.unwell.wait(), WAIT_S)
        second = bench.thread.commit([alarm(3)])
        assert not first.done()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (await soon(first)).seqs == {Stream.ALARM: (1, 1)}
    assert (await soon(second)).seqs == {Stream.ALARM: (2, 2)}
    await asyncio.wait_for(bench.well.wait(), WAIT_S)
    assert [ok for ok, _ in bench.health] == [False, True]
    assert "queue.sqlite" in bench.health[0][1]
    await bench.thread.close(WAIT_S)
    store = bench.reopened()
    assert [row.at for row in read_all(store, Stream.ALARM).rows.values()] == [2, 3]
    store.close()


@looped
async def test_the_agent_starts_without_a_store_and_gets_it_later(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "not mounted yet")
    opened = await bench.thread.start()
    assert opened.problem is not None
    assert "not mounted yet" in opened.problem
    waiting = bench.thread.commit([alarm(1)])
    await asyncio.wait_for(bench.unwell.wait(), WAIT_S)
    bench.rig.path.parent.mkdir()
    await soon(waiting)
    await bench.thread.close(WAIT_S)
    assert [ok for ok, _ in bench.health] == [False, True]


@looped
async def test_closing_while_the_disk_refuses_fails_what_waits(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "missing")
    await bench.thread.start()
    waiting = bench.thread.commit([alarm(1)])
    assert await bench.thread.close(WAIT_S)
    with pytest.raises(StoreError, match="missing"):
        await waiting


@looped
async def test_a_second_owner_does_not_start(tmp_path: Path) -> None:
    first, second = Bench(tmp_path), Bench(tmp_path)
    await first.thread.start()
    with pytest.raises(StoreInUse, match=str(os.getpid())):
        await second.thread.start()
    assert await second.thread.close(WAIT_S)
    await first.thread.close(WAIT_S)


@looped
async def test_a_defect_in_the_thread_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defects: list[object] = []
    monkeypatch.setattr(threading, "excepthook", defects.append)
    bench = Bench(tmp_path)
    bench.rig.quotas[Stream.ALARM] = 1  # a programmer's mistake, not the disk's
    futures = bench.thread.commit([alarm(1)]), bench.thread.stats()
    with pytest.raises(StoreError, match="defect"):
        await asyncio.wait_for(bench.thread.start(), WAIT_S)
    for waiting in asyncio.as_completed(futures, timeout=WAIT_S):
        with pytest.raises(StoreError, match="nobody runs"):
            await waiting
    assert [ok for ok, _ in bench.health] == [False]
    assert await bench.thread.close(WAIT_S)
    for thread in threading.enumerate():
        if thread.name == "store":
            thread.join(WAIT_S)
    assert len(defects) == 1


@looped
async def test_what_a_full_inbox_refuses_is_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, inbox_records=10, telemetry_group_s=3600)
    await bench.thread.start()
    futures = [bench.thread.commit([sample(n)]) for n in range(8)]
    with pytest.raises(InboxFull):
        await futures[7]
    assert bench.thread.refused == {Stream.TELEMETRY: 3}
    await soon(bench.thread.commit([alarm(1)]))
    await bench.thread.close(WAIT_S)


@looped
async def test_an_idle_store_wakes_nobody(tmp_path: Path) -> None:
    bench = Bench(tmp_path, telemetry_group_s=30)
    await bench.thread.start()
    await soon(bench.thread.commit([alarm(1)]))
    bench.thread.commit([sample(1)])
    switches = thread_switches()
    for n in range(200):  # telemetry that joins a group is no reason to wake the thread
        bench.thread.commit([sample(n)])
    assert thread_switches() - switches < 20
    await bench.thread.close(WAIT_S)


def thread_switches() -> int:
    """Voluntary context switches of the thread named "store", from the kernel."""
    thread = next(thread.native_id for thread in threading.enumerate() if thread.name == "store")
    lines = Path(f"/proc/self/task/{thread}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("voluntary_ctxt_switches")))


@looped
async def test_a_file_that_is_replaced_while_it_is_in_use_is_told_of_whoever_found_it_damaged(
    tmp_path: Path,
) -> None:
    """Also by a mere reader: the new file remembers nothing, and whoever relies on that must know."""
    renewed: list[str] = []
    bench = Bench(tmp_path, on_renewed=renewed.append)
    await bench.thread.start()
    for n in range(3):
        await soon(bench.thread.commit([state(n)], b"granted"))
    await bench.thread.close(WAIT_S)
    with contextlib.closing(sqlite3.connect(bench.rig.path)) as db, db:
        db.execute("UPDATE state SET block = (SELECT block FROM state WHERE seq = 1) WHERE seq = 2")
    again = StoreThread(bench.rig.open, boot_ns, on_renewed=renewed.append)
    await again.start()
    assert renewed == []
    before = await asyncio.wait_for(again.epoch(), WAIT_S)
    with pytest.raises(StoreError, match="was damaged"):
        await asyncio.wait_for(again.fetch(Stream.STATE, 0, 10_000), WAIT_S)
    assert len(renewed) == 1
    assert "kept as queue.sqlite.damaged-1" in renewed[0]
    after = await asyncio.wait_for(again.epoch(), WAIT_S)
    assert after != before, "the epoch is that of the new file, also before anything is written to it"
    run = await asyncio.wait_for(again.fetch(Stream.ALARM, 0, 10_000), WAIT_S)
    assert run is not None
    assert run.epoch == after
    await again.close(WAIT_S)


@looped
async def test_what_only_a_later_try_can_read_is_told_before_anything_replaces_it(tmp_path: Path) -> None:
    """The start has no memory then, and what it remembers in the meantime must not wipe out the old one."""
    folder, away = tmp_path / "queue", tmp_path / "away"
    folder.mkdir()
    bench = Bench(folder)
    await bench.thread.start()
    await soon(bench.thread.commit([alarm(1)], b"one permit is used"))
    await bench.thread.close(WAIT_S)
    folder.rename(away)
    told: list[bytes] = []
    answered: list[asyncio.Future[Any]] = []
    late = Bench(folder)

    def recalled(found: bytes) -> None:
        told.append(found)
        answered.append(late.thread.commit((), b"both"))

    late.thread = StoreThread(
        late.rig.open, boot_ns, on_health=late.on_health,
        on_recalled=recalled, on_commit=late.on_commit,
    )  # fmt: skip
    opened = await late.thread.start()
    assert opened.problem is not None
    blank = late.thread.commit([alarm(2)], b"nothing is known")
    away.rename(folder)
    await soon(blank)
    assert told == [b"one permit is used"]
    await soon(answered[0])
    assert late.commits == 1, "what replaces it and what was known meanwhile are one transaction"
    await late.thread.close(WAIT_S)
    store = late.reopened()
    assert store.remembered == b"both"
    assert store.heads()[Stream.ALARM].seq == 2
    store.close()
