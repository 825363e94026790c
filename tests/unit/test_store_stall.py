"""A store whose thread waits for the disk: told in time, over when it answers, and never waited for."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from agent.clock import boot_now
from agent.core.records import Stream
from agent.core.types import SECOND
from sync.store import Store
from sync.writer import StoreThread
from tests.aio import looped
from tests.store_rig import Rig, alarm

WAIT_S = 60
PATIENCE_S = 2.0  # far more than the few commits here take, and the tests wait for it


class Bench:
    """A store on a real file whose work, or opening, waits until the disk is let go."""

    def __init__(self, folder: Path, *, at_open: bool) -> None:
        self.rig = Rig(folder / "queue.sqlite")
        self.answers = threading.Event()
        self.at_open = at_open
        self.told: asyncio.Queue[object] = asyncio.Queue()
        self.thread = StoreThread(
            self.open, boot_now, patience_s=PATIENCE_S,
            on_health=lambda ok, detail: self.told.put_nowait((ok, detail)),
            on_recalled=self.told.put_nowait,
            on_stall=lambda since, lasted: self.told.put_nowait(lasted),
        )  # fmt: skip

    def open(self) -> Store:
        if self.at_open:
            assert self.answers.wait(WAIT_S)
        return self.rig.open()

    def hang(self) -> asyncio.Future[object]:
        """A question that waits as a sync does, in the store's thread."""
        with self.thread._group_changed() as group:
            return group._ask(lambda _store: self.answers.wait(WAIT_S))

    async def next(self) -> object:
        return await asyncio.wait_for(self.told.get(), WAIT_S)


@looped
async def test_a_disk_that_does_not_answer_is_told_while_it_lasts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, at_open=False)
    await bench.thread.start()
    hanging = bench.hang()
    assert await bench.next() == (
        False,
        "the disk has not answered for 2.0 s: look at it and at the kernel's log",
    )
    assert bench.thread.stalled_s is not None
    waiting = bench.thread.commit([alarm(1)])
    bench.answers.set()
    assert await bench.next() == (True, "")
    lasted = await bench.next()
    assert isinstance(lasted, int)
    assert lasted >= PATIENCE_S * SECOND
    assert bench.told.empty()
    assert (await waiting).seqs == {Stream.ALARM: (1, 1)}
    assert await hanging is True
    assert await bench.thread.close(WAIT_S)


@looped
async def test_a_start_goes_on_without_it_and_hears_later_what_was_remembered(tmp_path: Path) -> None:
    bench = Bench(tmp_path, at_open=False)
    await bench.thread.start()
    await bench.thread.commit([alarm(1)], b"locked")
    assert await bench.thread.close(WAIT_S)
    late = Bench(tmp_path, at_open=True)
    opened = await asyncio.wait_for(late.thread.start(), WAIT_S)
    assert opened.remembered is None
    assert "has not answered" in str(opened.problem)
    first = late.thread.commit([alarm(2)], b"nothing is known")
    late.answers.set()
    while (told := await late.next()) != b"locked":
        assert not first.done(), "what was remembered is told before anything takes its place"
        assert isinstance(told, tuple)
    while await late.next() != (True, ""):
        pass
    await asyncio.wait_for(first, WAIT_S)
    assert await late.thread.close(WAIT_S)
    store = late.rig.open()
    assert store.remembered == b"nothing is known"
    assert store.heads()[Stream.ALARM].seq == 2
    store.close()
