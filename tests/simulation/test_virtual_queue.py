"""The queue on the virtual loop behaves as the store's thread does, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.core.records import Stream
from simulator.virtual.agenda import Agenda
from simulator.virtual.disk import Disk
from simulator.virtual.loop import VirtualLoop
from simulator.virtual.queue import InlineQueue
from sync.errors import StoreError, StoreInUse
from sync.groups import GroupCommit
from sync.inbox import STATE_GROUP_NS
from tests.disk_rig import disk_at
from tests.store_rig import SECOND, Rig, alarm, read_all, sample, state

TELEMETRY_S = 5


class Bench:
    """A queue on a simulated disk, on a loop that has nothing else to do."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.agenda = Agenda()
        self.loop = VirtualLoop(self.agenda)
        self.rig = Rig(disk.folder / "queue.sqlite")
        self.health: list[bool] = []
        self.heads: list[Mapping[Stream, int]] = []

    def run(self, scenario: Callable[[InlineQueue], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            await scenario(self.queue())

        self.loop.run_until_complete(whole())

    def queue(self) -> InlineQueue:
        return InlineQueue(self.group, lambda: self.agenda.now, self.disk.take_spent_ns)

    def group(
        self, loop: asyncio.AbstractEventLoop, deliver: Callable[[Callable[[], None]], None]
    ) -> GroupCommit:
        return GroupCommit(
            self.rig.open, lambda: self.agenda.now, loop, deliver,
            on_health=lambda ok, detail: self.health.append(ok), on_commit=self.heads.append,
            telemetry_group_s=TELEMETRY_S,
        )  # fmt: skip

    async def took_ns(self, future: asyncio.Future[Any]) -> int:
        before = self.agenda.now
        await future
        return self.agenda.now - before


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with disk_at(tmp_path / "disk") as disk:
        yield Bench(disk)


def test_records_wait_as_long_as_their_stream_allows(bench: Bench) -> None:
    async def scenario(queue: InlineQueue) -> None:
        await queue.start()
        assert await bench.took_ns(queue.commit([alarm(1)])) == 0
        assert await bench.took_ns(queue.commit([state(1)])) == STATE_GROUP_NS
        lazy = queue.commit([sample(1)])
        await queue.commit([alarm(2)])
        assert not lazy.done()
        assert await bench.took_ns(lazy) == TELEMETRY_S * SECOND
        lazy = queue.commit([sample(2)])
        assert await bench.took_ns(queue.flush()) == 0
        assert (await lazy).seqs == {Stream.TELEMETRY: (2, 2)}
        assert await queue.close(5.0)

    bench.run(scenario)
    assert bench.heads[-1] == {
        Stream.ALARM: 2, Stream.STATE: 1, Stream.AUDIT: 0, Stream.TELEMETRY: 2,
    }  # fmt: skip
    assert bench.agenda.next_at() is None  # an idle queue, and a closed one, has nothing on the agenda


def test_what_waits_together_is_committed_together(bench: Bench) -> None:
    async def scenario(queue: InlineQueue) -> None:
        await queue.start()
        futures = [queue.commit([alarm(n)]) for n in range(50)]
        receipts = [await future for future in futures]
        assert [receipt.seqs for receipt in receipts] == [{Stream.ALARM: (n, n)} for n in range(1, 51)]
        await queue.close(5.0)

    bench.run(scenario)
    assert len(bench.heads) == 1


def test_reading_and_acknowledging(bench: Bench) -> None:
    async def scenario(queue: InlineQueue) -> None:
        await queue.start()
        await queue.commit([state(1)])
        run = await queue.fetch(Stream.STATE, 0, 10_000)
        assert run.epoch == await queue.epoch()
        assert (await queue.acknowledge(Stream.STATE, run.epoch, run.head)).value == "advanced"
        assert (await queue.stats())[Stream.STATE].pending == 0
        await queue.close(5.0)
        with pytest.raises(StoreError, match="closed"):
            await queue.commit([alarm(1)])

    bench.run(scenario)


def test_a_slow_disk_makes_answers_late_and_nothing_else(bench: Bench) -> None:
    async def scenario(queue: InlineQueue) -> None:
        await queue.start()
        bench.disk.slow_ns = 3 * SECOND
        first, second = queue.commit([alarm(1)]), bench.loop.create_future()
        bench.loop.call_later(1.0, lambda: queue.commit([alarm(2)]).add_done_callback(second.set_result))
        # The log is brought in first, with syncs of its own: what counts is that it waits.
        assert await bench.took_ns(first) % (3 * SECOND) == 0
        assert await bench.took_ns(second) == 3 * SECOND
        assert not await queue.close(1.0)
        await asyncio.sleep(60.0)
        assert await queue.close(1.0)

    bench.run(scenario)
    assert [dict(heads)[Stream.ALARM] for heads in bench.heads] == [1, 2]


def test_a_refusing_disk_is_tried_each_second_and_keeps_the_order(bench: Bench) -> None:
    async def scenario(queue: InlineQueue) -> None:
        await queue.start()
        await queue.commit([alarm(0)])
        bench.disk.io_errors = True
        waiting = [queue.commit([alarm(1)])]
        await asyncio.sleep(0.5)
        waiting.append(queue.commit([alarm(2)]))
        await asyncio.sleep(10.0)
        assert bench.health == [False]
        bench.disk.io_errors = False
        assert 0 < await bench.took_ns(waiting[0]) <= SECOND
        assert [(await future).seqs[Stream.ALARM] for future in waiting] == [(2, 2), (3, 3)]
        assert bench.health == [False, True]
        await queue.close(5.0)

    bench.run(scenario)
    store = bench.rig.open()
    assert [row.at for row in read_all(store, Stream.ALARM).rows.values()] == [0, 1, 2]
    store.close()


def test_a_second_owner_does_not_start(bench: Bench) -> None:
    async def scenario(queue: InlineQueue) -> None:
        await queue.start()
        other = bench.queue()
        with pytest.raises(StoreInUse):
            await other.start()
        assert await other.close(1.0)
        assert await queue.close(1.0)

    bench.run(scenario)


@pytest.mark.parametrize("during", [1, 2, 5, None])
@pytest.mark.parametrize("power", [True, False])
def test_a_killed_queue_answers_nothing_and_lets_go(bench: Bench, during: int | None, power: bool) -> None:
    """Killed between commits, or at the n-th operation of one."""
    told: list[object] = []

    async def scenario(queue: InlineQueue) -> None:
        await queue.start()
        await queue.commit([alarm(1)], b"one")

        def end() -> None:
            bench.disk.stop()
            queue.kill()

        left = during or 0

        def count(_operation: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                end()

        bench.disk.on_operation = count
        queue.commit([alarm(2), state(2)], b"two").add_done_callback(told.append)
        if during is None:
            end()
        await asyncio.sleep(60.0)
        queue.commit([alarm(3)]).add_done_callback(told.append)
        await asyncio.sleep(60.0)

    bench.run(scenario)
    assert told == []
    bench.disk.on_operation = lambda operation: None
    if power:
        bench.disk.power_cut(random.Random(1))
    else:
        bench.disk.go_on()
    store = bench.rig.open()
    found = read_all(store, Stream.ALARM)
    assert ([row.at for row in found.rows.values()], store.remembered) in (([1], b"one"), ([1, 2], b"two"))
    store.close()
