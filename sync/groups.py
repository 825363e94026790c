"""Group commit, without a thread: what waits for the store, and what happens to it when its turn comes.

``sync.writer.StoreThread`` runs it on a thread of its own; the simulator runs it on its virtual loop. A
commit that the disk refuses stays in memory, in order, and is tried again; its future stays open meanwhile,
so whoever must not wait for ever waits with a time limit.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from agent.core.records import Record, Stream
from agent.core.types import SECOND
from sync.blocks import Head
from sync.envelope import Run
from sync.errors import LocalProtocolError, StoreDamaged, StoreError, StoreInUse
from sync.inbox import Inbox, InboxFull, Item, Receipt
from sync.sealing import Sealer
from sync.store import Store
from sync.table import Acked, StreamStats

log = structlog.get_logger()

TELEMETRY_GROUP_S = 5  # design, queue: a setting from 1 to 30 s
RETRY_NS = 1 * SECOND  # ours: how often a disk that refuses is asked again while something waits
INBOX_RECORDS = 10_000  # ours: about 5 MB
MAX_QUESTIONS = 256  # ours: many times what a session asks at a time

_T = TypeVar("_T")
Health = Callable[[bool, str], None]
Renewed = Callable[[str], None]
Recalled = Callable[[bytes], None]
Committed = Callable[[Mapping[Stream, int]], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """What a start found: the remembered bytes, a damaged file's new name, or why there is no store yet."""

    remembered: bytes | None
    damaged: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Question:
    """Something that only the store can answer."""

    ask: Callable[[Store], Any]
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """What the worker does next. ``closing``: the disk has no other chance to take it."""

    items: list[Item]
    question: Question | None
    closing: bool

    @property
    def last(self) -> bool:
        return self.closing and not self.items and self.question is None


class GroupCommit:
    """The store with its inbox. Producers ask from the loop; a worker calls ``open``, takes turns, ``end``s.

    A turn is ``take``, ``work``, and ``put_back`` of what is left; the next one is due at ``due``, by the
    clock ``now``. ``on_recalled`` is called with what the file remembers when only a later try could open it,
    and before anything else is remembered in its place. Nothing here is locked: with a worker in another
    thread, all but ``open``, ``work`` and ``release`` belong under one lock. ``deliver`` has a call made on
    the loop; futures resolve only there.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        now: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
        deliver: Callable[[Callable[[], None]], None],
        *,
        on_health: Health = lambda ok, detail: None,
        on_renewed: Renewed = lambda detail: None,
        on_recalled: Recalled = lambda remembered: None,
        on_commit: Committed = lambda heads: None,
        telemetry_group_s: int = TELEMETRY_GROUP_S,
        inbox_records: int = INBOX_RECORDS,
    ) -> None:
        self._open_store = open_store
        self._now = now
        self._loop = loop
        self._deliver = deliver
        self._on_health = on_health
        self._on_renewed = on_renewed
        self._on_recalled = on_recalled
        self._on_commit = on_commit
        self._inbox = Inbox(inbox_records, telemetry_group_s * SECOND)
        self._questions: deque[Question] = deque()
        self._closing = False
        self.refused: Counter[Stream] = Counter()  # records that a full inbox did not take
        # The worker's own.
        self._store: Store | None = None
        self._problem: StoreError | None = None  # why commits fail, while they do
        self._unread = False  # nobody could read what is remembered
        self._hold = False  # whoever was told of it now has the next word

    # --- for producers, on the loop -------------------------------------------------------------------

    def commit(self, records: Sequence[Record], remember: bytes | None = None) -> asyncio.Future[Receipt]:
        """Commit all of it in one transaction; the future resolves when it is durable.

        It fails with LocalProtocolError (a record that cannot be stored), InboxFull, or StoreError (closed
        before the disk took it). A caller that does not care may drop it.
        """
        future: asyncio.Future[Receipt] = self._loop.create_future()
        if self._closing:
            _fail(future, StoreError("the store is closed"))
            return future
        try:
            self._inbox.add(Item(records, remember, future), self._now())
        except InboxFull as error:
            self.refused.update(record.kind.stream for record in records)
            _fail(future, error)
        return future

    def flush(self) -> asyncio.Future[Receipt]:
        """Commit whatever waits, telemetry too, now; resolves after it."""
        future = self.commit(())
        self._inbox.hurry(self._now())
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
        return self._ask(lambda store: store.read_epoch())

    def reseal(self, sealer: Sealer) -> asyncio.Future[None]:
        """See Store.reseal."""
        return self._ask(lambda store: store.reseal(sealer))

    def close(self) -> None:
        """Take nothing more; the turns that follow, due at once, commit what waits."""
        self._closing = True

    def _ask(self, ask: Callable[[Store], _T]) -> asyncio.Future[_T]:
        future: asyncio.Future[_T] = self._loop.create_future()
        if self._closing or len(self._questions) >= MAX_QUESTIONS:
            _fail(future, StoreError("the store is closed, or does not keep up with questions"))
        else:
            self._questions.append(Question(ask, future))
        return future

    # --- for the worker -------------------------------------------------------------------------------

    def open(self) -> Opened:
        """Open the store. A disk that refuses is reported and tried again: the agent must start anyway.

        Raises:
            StoreInUse: another process owns the file.
        """
        try:
            store = self._the_store()
        except StoreInUse:
            raise
        except StoreError as error:
            self._unread = True
            self._failed(error)
            return Opened(None, None, str(error))
        return Opened(store.remembered, store.damaged, None)

    def opened_late(self, opened: Opened | StoreInUse) -> None:
        """Tell what ``open`` found to whoever went on without it."""
        if isinstance(opened, StoreInUse):
            words = str(opened)
            self._deliver(lambda: self._on_health(False, words))
            return
        if (found := opened.remembered) is not None:
            self._deliver(lambda: self._on_recalled(found))
            self._hold = True
        if (aside := opened.damaged) is not None:
            self._deliver(lambda: self._on_renewed(aside))

    @property
    def well(self) -> bool:
        """Nothing is known that commits fail for."""
        return self._problem is None

    @property
    def due(self) -> int | None:
        """When the next turn is due, 0 for at once; None while there is nothing to do."""
        return 0 if self._questions or self._closing else self._inbox.due

    def take(self) -> Turn:
        """What is due now."""
        now = self._now()
        if self._closing:
            self._inbox.hurry(now)
        question = self._questions.popleft() if self._questions else None
        return Turn(self._inbox.take(now), question, self._closing)

    def work(self, turn: Turn) -> list[Item]:
        """Commit and answer; returns what the disk did not take, to be put back."""
        left = self._commit(turn.items, hold=not turn.closing) if turn.items else []
        if left and turn.closing:
            problem = self._problem or StoreError("the store is closed")
            self._settle([(item.future, problem) for item in left])
            left = []
        if turn.question is not None:
            self._answer(turn.question)
        return left

    def put_back(self, items: Sequence[Item]) -> None:
        """Keep what a turn left for a later one."""
        now = self._now()
        # A damaged file was replaced already: no reason to wait.
        again = now if isinstance(self._problem, StoreDamaged) else now + RETRY_NS
        self._inbox.put_back(items, now, again)

    def end(self) -> None:
        """There are no more turns: take nothing more, and fail what still waits."""
        self._closing = True
        ended = StoreError("nobody runs the store any more")
        waiting = [question.future for question in self._questions]
        self._questions.clear()
        self._inbox.hurry(self._now())
        while items := self._inbox.take(self._now()):
            waiting += [item.future for item in items]
        if waiting:
            self._settle([(future, ended) for future in waiting])

    def release(self) -> None:
        """Let go of the file."""
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _the_store(self) -> Store:
        if self._store is None:
            store = self._store = self._open_store()
            if self._unread and store.remembered is not None:
                found = store.remembered
                self._deliver(lambda: self._on_recalled(found))
                self._hold = True
            self._unread = False
        return self._store

    def _commit(self, items: list[Item], *, hold: bool) -> list[Item]:
        """Commit ``items`` as one group; returns those that the disk did not take, in order."""
        records = [record for item in items for record in item.records]
        remember = next((item.remember for item in reversed(items) if item.remember is not None), None)
        try:
            store = self._the_store()
            if hold and self._hold:
                self._hold = False
                return items
            firsts = store.append(records, remember)
        except LocalProtocolError as error:
            if len(items) == 1:
                self._settle([(items[0].future, error)])
                return []
            # One of them is at fault: the others must not pay for it.
            for position, item in enumerate(items):
                if self._commit([item], hold=False):
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
            self._deliver(lambda: self._on_health(True, ""))
        return []

    def _answer(self, question: Question) -> None:
        answer: object
        try:
            answer = question.ask(self._the_store())
        except StoreError as error:
            answer = error
            self._tell_renewed(error)
        self._settle([(question.future, answer)])

    def _failed(self, error: StoreError) -> None:
        if self._problem is None:
            log.warning("commits fail; records wait in memory", error=str(error))
            detail = str(error)
            self._deliver(lambda: self._on_health(False, detail))
        else:
            log.debug("commit failed again", error=str(error))
        self._problem = error
        self._tell_renewed(error)

    def _tell_renewed(self, error: StoreError) -> None:
        """A damaged file was replaced: what it remembered is not in the new one."""
        if isinstance(error, StoreDamaged):
            words = str(error)
            self._deliver(lambda: self._on_renewed(words))

    def _settle(
        self, results: Iterable[tuple[asyncio.Future[Any], object]], heads: Mapping[Stream, int] | None = None
    ) -> None:
        """Resolve futures on the loop, all of one commit in one go."""

        def on_loop() -> None:
            for future, result in results:
                settle(future, result)
            if heads is not None:
                self._on_commit(heads)

        self._deliver(on_loop)


def settle(future: asyncio.Future[Any], result: object) -> None:
    """Resolve ``future`` unless that is done or its owner has given up; an exception is its failure."""
    if future.done():
        return
    if isinstance(result, Exception):
        _fail(future, result)
    else:
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    future.set_exception(error)
    future.exception()  # now seen: who dropped the future does not care, and failures are reported anyway


def _receipt(item: Item, firsts: dict[Stream, int]) -> Receipt:
    """The item's share of a group; moves ``firsts`` on to where the next item begins."""
    seqs: dict[Stream, tuple[int, int]] = {}
    for record in item.records:
        stream = record.kind.stream
        seq = firsts[stream]
        firsts[stream] = seq + 1
        seqs[stream] = (seqs[stream][0], seq) if stream in seqs else (seq, seq)
    return Receipt(seqs)
