"""The store's own thread: takes what is due from the inbox, commits it, and answers on the loop.

A commit that the disk refuses stays in memory, in order, and is tried again; its future stays open
meanwhile, so whoever must not wait for ever waits with a time limit. An idle store wakes nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from agent.core.records import Record, Stream
from agent.core.types import SECOND
from sync.blocks import Head
from sync.envelope import Run
from sync.errors import LocalProtocolError, StoreDamaged, StoreError, StoreInUse
from sync.inbox import Inbox, InboxFull, Item, Receipt
from sync.store import Store
from sync.table import Acked, StreamStats

log = structlog.get_logger()

TELEMETRY_GROUP_S = 5  # design, queue: a setting from 1 to 30 s
RETRY_NS = 1 * SECOND  # ours: how often a disk that refuses is asked again while something waits
INBOX_RECORDS = 10_000  # ours: about 5 MB
MAX_QUESTIONS = 256  # ours: many times what a session asks at a time

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Opened:
    """What a start found: the remembered bytes, a damaged file's new name, or why there is no store yet."""

    remembered: bytes | None
    damaged: str | None
    problem: str | None


class StoreThread:
    """Owns the store and its thread. Every method is for the loop; every future resolves on it.

    ``on_health(ok, detail)`` is called when commits begin to fail and when they work again, ``on_commit``
    with the newest sequence number of every stream after each commit. ``refused`` counts the records that
    a full inbox did not take, by stream.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        now: Callable[[], int],
        *,
        on_health: Callable[[bool, str], None] = lambda ok, detail: None,
        on_commit: Callable[[Mapping[Stream, int]], None] = lambda heads: None,
        telemetry_group_s: int = TELEMETRY_GROUP_S,
        inbox_records: int = INBOX_RECORDS,
    ) -> None:
        self._open_store = open_store
        self._now = now
        self._on_health = on_health
        self._on_commit = on_commit
        self.refused: Counter[Stream] = Counter()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._opened: asyncio.Future[Opened] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        # The thread's own.
        self._store: Store | None = None
        self._problem: StoreError | None = None  # why commits fail, while they do
        # Shared, under the condition's lock.
        self._wake = threading.Condition()
        self._inbox = Inbox(inbox_records, telemetry_group_s * SECOND)
        self._questions: deque[Callable[[], None]] = deque()
        self._closing = False

    # --- for the loop -------------------------------------------------------------------------------

    async def start(self) -> Opened:
        """Open the store. A disk that refuses is reported and tried again: the agent must start anyway.

        Raises:
            StoreInUse: another process owns the file.
        """
        self._thread.start()
        return await self._opened

    def commit(self, records: Sequence[Record], remember: bytes | None = None) -> asyncio.Future[Receipt]:
        """Commit all of it in one transaction; the future resolves when it is durable.

        It fails with LocalProtocolError (a record that cannot be stored), InboxFull, or StoreError (closed
        before the disk took it). A caller that does not care may drop it.
        """
        future: asyncio.Future[Receipt] = self._new_future()
        with self._wake:
            if self._closing:
                future.set_exception(StoreError("the store is closed"))
                return future
            before = self._inbox.due
            try:
                self._inbox.add(Item(records, remember, future), self._now())
            except InboxFull as error:
                self.refused.update(record.kind.stream for record in records)
                future.set_exception(error)
            else:
                self._notify_if_earlier(before)
        return future

    def flush(self) -> asyncio.Future[Receipt]:
        """Commit whatever waits, telemetry too, now; resolves after it."""
        future = self.commit(())
        with self._wake:
            before = self._inbox.due
            self._inbox.hurry(self._now())
            self._notify_if_earlier(before)
        return future

    def fetch(self, stream: Stream, after_seq: int, max_bytes: int) -> asyncio.Future[Run | None]:
        """See Store.read_batch."""
        return self._ask(lambda store: store.read_batch(stream, after_seq, max_bytes))

    def acknowledge(self, stream: Stream, epoch: bytes, upto: Head) -> asyncio.Future[Acked]:
        """See Store.acknowledge."""
        return self._ask(lambda store: store.acknowledge(stream, epoch, upto))

    def stats(self) -> asyncio.Future[dict[Stream, StreamStats]]:
        """See Store.stats."""
        return self._ask(lambda store: store.stats())

    def epoch(self) -> asyncio.Future[bytes]:
        """The file's epoch, which changes when a damaged file is replaced."""
        return self._ask(lambda store: store.epoch)

    async def close(self, timeout_s: float) -> bool:
        """Commit what waits and let go of the file. False when the disk took longer than ``timeout_s``."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._closed), timeout_s)
        return self._closed.done()

    def _new_future(self) -> asyncio.Future[_T]:
        future: asyncio.Future[_T] = self._loop.create_future()
        future.add_done_callback(_look)
        return future

    def _notify_if_earlier(self, before: int | None) -> None:
        due = self._inbox.due
        if due is not None and (before is None or due < before):
            self._wake.notify()

    def _ask(self, question: Callable[[Store], _T]) -> asyncio.Future[_T]:
        future: asyncio.Future[_T] = self._new_future()

        def answer() -> None:
            try:
                self._settle([(future, question(self._the_store()))])
            except StoreError as error:
                self._settle([(future, error)])

        with self._wake:
            if self._closing or len(self._questions) >= MAX_QUESTIONS:
                future.set_exception(StoreError("the store is closed, or does not keep up with questions"))
            else:
                self._questions.append(answer)
                self._wake.notify()
        return future

    # --- the thread ---------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            if self._first_open():
                self._serve()
        except BaseException:
            self._on_loop(self._on_health, False, "the store's thread ended by a defect; see the log")
            raise
        finally:
            with self._wake:
                self._closing = True  # whatever ended it: nobody waits for an answer from here on
                self._inbox.hurry(self._now())
                while items := self._inbox.take(self._now()):
                    self._settle([(item.future, StoreError("the store's thread ended")) for item in items])
            if self._store is not None:
                self._store.close()
            self._settle([(self._closed, None)])

    def _serve(self) -> None:
        while True:
            with self._wake:
                while not (self._questions or self._closing or self._patience() == 0.0):
                    self._wake.wait(self._patience())
                closing = self._closing
                now = self._now()
                if closing:
                    self._inbox.hurry(now)
                items = self._inbox.take(now)
                answer = self._questions.popleft() if self._questions else None
            if items and (left := self._commit(items)):
                self._wait_or_fail(left, last=closing)
            if answer is not None:
                answer()
            if closing and not items and answer is None:
                return

    def _patience(self) -> float | None:
        """For how many seconds there is nothing to commit; None is for ever."""
        due = self._inbox.due
        return None if due is None else max(0.0, (due - self._now()) / SECOND)

    def _first_open(self) -> bool:
        try:
            store = self._the_store()
        except StoreInUse as error:
            self._settle([(self._opened, error)])
            return False
        except StoreError as error:
            self._settle([(self._opened, Opened(None, None, str(error)))])
            self._failed(error)
        else:
            self._settle([(self._opened, Opened(store.remembered, store.damaged, None))])
        return True

    def _the_store(self) -> Store:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _commit(self, items: list[Item]) -> list[Item]:
        """Commit ``items`` as one group; returns those that the disk did not take, in order."""
        records = [record for item in items for record in item.records]
        remember = next((item.remember for item in reversed(items) if item.remember is not None), None)
        try:
            store = self._the_store()
            firsts = store.append(records, remember)
        except LocalProtocolError as error:
            if len(items) == 1:
                self._settle([(items[0].future, error)])
                return []
            # One of them is at fault: the others must not pay for it.
            for position, item in enumerate(items):
                if self._commit([item]):
                    return items[position:]
            return []
        except StoreError as error:
            self._failed(error)
            return items
        heads = {stream: head.seq for stream, head in store.heads().items()}
        self._settle([(item.future, _receipt(item, firsts)) for item in items], heads)
        if self._problem is not None:
            self._problem = None
            log.info("commits work again")
            self._on_loop(self._on_health, True, "")
        return []

    def _failed(self, error: StoreError) -> None:
        if self._problem is None:
            log.warning("commits fail; records wait in memory", error=str(error))
            self._on_loop(self._on_health, False, str(error))
        else:
            log.debug("commit failed again", error=str(error))
        self._problem = error

    def _wait_or_fail(self, items: list[Item], *, last: bool) -> None:
        if last:
            problem = self._problem or StoreError("the store is closed")
            self._settle([(item.future, problem) for item in items])
            return
        now = self._now()
        with self._wake:
            # A damaged file was replaced already: no reason to wait.
            again = now if isinstance(self._problem, StoreDamaged) else now + RETRY_NS
            self._inbox.put_back(items, now, again)

    def _settle(
        self,
        results: Sequence[tuple[asyncio.Future[_T], _T | Exception]],
        heads: Mapping[Stream, int] | None = None,
    ) -> None:
        """Resolve futures on the loop, all of one commit in one go."""

        def on_loop() -> None:
            for future, result in results:
                if future.cancelled():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
            if heads is not None:
                self._on_commit(heads)

        self._on_loop(on_loop)

    def _on_loop(self, call: Callable[..., None], *values: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed without waiting for this thread
            self._loop.call_soon_threadsafe(call, *values)


def _receipt(item: Item, firsts: dict[Stream, int]) -> Receipt:
    """The item's share of a group; moves ``firsts`` on to where the next item begins."""
    seqs: dict[Stream, tuple[int, int]] = {}
    for record in item.records:
        stream = record.kind.stream
        seq = firsts[stream]
        firsts[stream] = seq + 1
        seqs[stream] = (seqs[stream][0], seq) if stream in seqs else (seq, seq)
    return Receipt(seqs)


def _look(future: asyncio.Future[_T]) -> None:
    """Mark an exception as seen: who dropped the future does not care, and failures are reported anyway."""
    if not future.cancelled():
        future.exception()
