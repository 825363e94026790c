"""The store's own thread: it takes the turns of ``sync.groups``. An idle store wakes nobody."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import structlog

from agent.core.records import Record, Stream
from agent.core.types import SECOND
from sync.blocks import Head
from sync.envelope import Run
from sync.errors import StoreError, StoreInUse
from sync.groups import (
    INBOX_RECORDS,
    TELEMETRY_GROUP_S,
    Committed,
    GroupCommit,
    Health,
    Opened,
    Recalled,
    Renewed,
    settle,
)
from sync.inbox import Receipt
from sync.sealing import Sealer
from sync.stall import STALL_S, StallWatch
from sync.store import Store
from sync.table import Acked, StreamStats

log = structlog.get_logger()

SILENT = "the disk has not answered for {} s: look at it and at the kernel's log"


class StoreThread:
    """Owns the store and its thread. Every method is for the loop; every future resolves on it.

    ``on_health(ok, detail)`` is called when commits begin to fail and when they work again, ``on_renewed``
    when a damaged file was replaced while it was in use, ``on_recalled`` as GroupCommit says, ``on_commit``
    with the newest sequence number of every stream after each commit. ``refused`` counts the records that
    a full inbox did not take, by stream. While the disk does not answer, that is told as bad health after
    ``patience_s``, and ``on_stall(since, lasted)``, both ns, when it did.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        now: Callable[[], int],
        *,
        on_health: Health = lambda ok, detail: None,
        on_renewed: Renewed = lambda detail: None,
        on_recalled: Recalled = lambda remembered: None,
        on_commit: Committed = lambda heads: None,
        on_stall: Callable[[int, int], None] = lambda since, lasted: None,
        telemetry_group_s: int = TELEMETRY_GROUP_S,
        inbox_records: int = INBOX_RECORDS,
        patience_s: float = STALL_S,
    ) -> None:
        self._now = now
        self._on_health = on_health
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._opened: asyncio.Future[Opened] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._wake = threading.Condition()
        self._group = GroupCommit(  # used by both threads under the condition's lock
            open_store,
            now,
            self._loop,
            self._on_loop,
            on_health=on_health,
            on_renewed=on_renewed,
            on_recalled=on_recalled,
            on_commit=on_commit,
            telemetry_group_s=telemetry_group_s,
            inbox_records=inbox_records,
        )
        self.refused = self._group.refused
        self._on_stall = on_stall
        self._patience_s = patience_s
        self._silent = SILENT.format(patience_s)
        self._watch = StallWatch(
            self._loop,
            now,
            self._has_work,
            self._on_loop,
            self._stall_began,
            self._stall_ended,
            patience_s,
        )
        self._open_ended = self._open_late = False
        self._said_ill = False  # that the disk is silent, and nothing since

    # --- for the loop -------------------------------------------------------------------------------

    async def start(self) -> Opened:
        """See GroupCommit.open. A disk that does not answer for ``patience_s`` counts as one that refuses."""
        self._thread.start()
        self._watch.expect()
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self._opened), self._patience_s)
        with self._wake:
            self._open_late = not self._open_ended
        if not self._open_late:
            return await self._opened
        self._said_ill = True
        return Opened(None, None, self._silent)

    @property
    def stalled_s(self) -> int | None:
        """For how many seconds the disk has not answered; None while it does."""
        return self._watch.stalled_s

    def commit(self, records: Sequence[Record], remember: bytes | None = None) -> asyncio.Future[Receipt]:
        """See GroupCommit.commit."""
        group = self._group
        with self._wake:  # what _group_changed does, for the path that every record takes
            before = group.due
            future = group.commit(records, remember)
            self._wake_if_earlier(before)
        self._watch.expect()
        return future

    def flush(self) -> asyncio.Future[Receipt]:
        """See GroupCommit.flush."""
        with self._group_changed() as group:
            return group.flush()

    def fetch(self, stream: Stream, after_seq: int, max_bytes: int) -> asyncio.Future[Run | None]:
        """See Store.read_batch."""
        with self._group_changed() as group:
            return group.fetch(stream, after_seq, max_bytes)

    def acknowledge(self, stream: Stream, epoch: bytes, upto: Head) -> asyncio.Future[Acked]:
        """See Store.acknowledge."""
        with self._group_changed() as group:
            return group.acknowledge(stream, epoch, upto)

    def stats(self) -> asyncio.Future[dict[Stream, StreamStats]]:
        """See Store.stats."""
        with self._group_changed() as group:
            return group.stats()

    def epoch(self) -> asyncio.Future[bytes]:
        """See GroupCommit.epoch."""
        with self._group_changed() as group:
            return group.epoch()

    def reseal(self, sealer: Sealer) -> asyncio.Future[None]:
        """See Store.reseal."""
        with self._group_changed() as group:
            return group.reseal(sealer)

    async def close(self, timeout_s: float) -> bool:
        """Commit what waits and let go of the file. False when the disk took longer than ``timeout_s``."""
        with self._group_changed() as group:
            group.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._closed), timeout_s)
        self._watch.close()
        return self._closed.done()

    @contextlib.contextmanager
    def _group_changed(self) -> Iterator[GroupCommit]:
        """The group, for a change after which the thread may have to wake earlier than it would."""
        with self._wake:
            before = self._group.due
            yield self._group
            self._wake_if_earlier(before)
        self._watch.expect()

    def _wake_if_earlier(self, before: int | None) -> None:
        due = self._group.due
        if due is not None and (before is None or due < before):
            self._wake.notify()

    def _has_work(self) -> bool:
        with self._wake:
            return self._group.due is not None

    def _stall_began(self) -> None:
        log.error("store.stalled", effect="records wait in memory")
        if not self._said_ill:
            self._said_ill = True
            self._on_health(False, self._silent)

    def _stall_ended(self, since: int, lasted: int) -> None:
        self._answered()
        self._on_stall(since, lasted)

    def _answered(self) -> None:
        """The disk does; whether it takes anything is told by the commits."""
        if self._said_ill and self._group.well:
            self._on_health(True, "")
        self._said_ill = False

    # --- the thread ---------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            if self._open():
                self._serve()
        except BaseException:
            self._on_loop(lambda: self._on_health(False, "the store's thread ended by a defect; see the log"))
            raise
        finally:
            with self._wake:
                self._group.end()  # whatever ended it: nobody waits for an answer from here on
            self._group.release()
            self._on_loop(self._ended)

    def _ended(self) -> None:
        settle(self._opened, StoreError("the store's thread ended by a defect; see the log"))
        settle(self._closed, None)

    def _open(self) -> bool:
        opened: Opened | StoreInUse
        self._watch.began()
        try:
            opened = self._group.open()
        except StoreInUse as error:
            opened = error
        with self._wake:
            self._open_ended = True
        if self._open_late:
            self._group.opened_late(opened)
            if isinstance(opened, Opened):
                self._on_loop(self._answered)
        self._watch.ended()
        self._on_loop(lambda: settle(self._opened, opened))
        return isinstance(opened, Opened)

    def _serve(self) -> None:
        group = self._group
        while True:
            with self._wake:
                while (patience := self._patience()) != 0.0:
                    self._wake.wait(patience)
                turn = group.take()
            self._watch.began()
            left = group.work(turn)
            self._watch.ended()
            if left:
                with self._wake:
                    group.put_back(left)
            if turn.last:
                return

    def _patience(self) -> float | None:
        """For how many seconds there is nothing to do; None is for ever."""
        due = self._group.due
        return None if due is None else max(0.0, (due - self._now()) / SECOND)

    def _on_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed without waiting for this thread
            self._loop.call_soon_threadsafe(call)
