"""The durable queue on the virtual loop: what ``sync.writer.StoreThread`` is, without its thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from agent.core.records import Record, Stream
from agent.core.types import SECOND
from simulator.virtual.loop import Killed

Call = Callable[[], None]


class Turn(Protocol):
    @property
    def last(self) -> bool: ...


class Group(Protocol):
    """``sync.groups.GroupCommit``, which says what each of these does."""

    refused: Counter[Stream]

    def commit(self, records: Sequence[Record], remember: bytes | None = None) -> asyncio.Future[Any]: ...
    def flush(self) -> asyncio.Future[Any]: ...
    def fetch(self, stream: Stream, after_seq: int, max_bytes: int) -> asyncio.Future[Any]: ...
    def acknowledge(self, stream: Stream, epoch: bytes, upto: Any) -> asyncio.Future[Any]: ...
    def stats(self) -> asyncio.Future[Any]: ...
    def epoch(self) -> asyncio.Future[bytes]: ...
    def close(self) -> None: ...
    def open(self) -> Any: ...
    @property
    def due(self) -> int | None: ...
    def take(self) -> Any: ...
    def work(self, turn: Any) -> list[Any]: ...
    def put_back(self, items: Sequence[Any]) -> None: ...
    def end(self) -> None: ...
    def release(self) -> None: ...


class InlineQueue:
    """Runs a group commit on the loop that it is made on. Every method is as StoreThread's, and ``kill``.

    ``build`` makes the group, given the loop and what delivers its calls there. ``spent_ns`` says how long
    the disk took since it was asked last: answers come that much later, and so does the next turn. ``now`` is
    the group's clock.
    """

    def __init__(
        self,
        build: Callable[[asyncio.AbstractEventLoop, Callable[[Call], None]], Group],
        now: Callable[[], int],
        spent_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        self._now = now
        self._spent_ns = spent_ns
        self._loop = asyncio.get_running_loop()
        self._answers: list[Call] = []  # of the turn at hand
        self._group = build(self._loop, self._answers.append)
        self.refused = self._group.refused
        self._wake: asyncio.Handle | None = None
        self._wake_at = 0  # by the group's clock
        self._busy = True  # with the disk, or not open yet
        self._working = False  # within a call of the group
        self._dead = False
        self._closed: asyncio.Future[None] = self._loop.create_future()

    # --- StoreThread's interface ----------------------------------------------------------------------

    stalled_s: int | None = None  # this disk takes its time, and always answers

    async def start(self) -> Any:
        self._working = True
        try:
            opened = self._group.open()
        except OSError:
            self._finish()
            raise
        finally:
            self._working = False
        if self._dead:
            self._bury()
            raise Killed
        if spent := self._spent_ns():
            await asyncio.sleep(spent / SECOND)
        self._turned(last=False)
        return opened

    def commit(self, records: Sequence[Record], remember: bytes | None = None) -> asyncio.Future[Any]:
        return self._then(self._group.commit(records, remember))

    def flush(self) -> asyncio.Future[Any]:
        return self._then(self._group.flush())

    def fetch(self, stream: Stream, after_seq: int, max_bytes: int) -> asyncio.Future[Any]:
        return self._then(self._group.fetch(stream, after_seq, max_bytes))

    def acknowledge(self, stream: Stream, epoch: bytes, upto: Any) -> asyncio.Future[Any]:
        return self._then(self._group.acknowledge(stream, epoch, upto))

    def stats(self) -> asyncio.Future[Any]:
        return self._then(self._group.stats())

    def epoch(self) -> asyncio.Future[bytes]:
        return self._then(self._group.epoch())

    async def close(self, timeout_s: float) -> bool:
        self._group.close()
        self._schedule()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._closed), timeout_s)
        return self._closed.done()

    def kill(self) -> None:
        """The process ends here: nothing is committed or told any more. The disk has been stopped before."""
        self._dead = True
        if self._wake is not None:
            self._wake.cancel()
        if not self._working and not self._closed.done():
            self._bury()

    # --- turns ----------------------------------------------------------------------------------------

    def _then(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        self._schedule()
        return future

    def _schedule(self) -> None:
        due = self._group.due
        if due is None or self._busy or self._dead:
            return
        if self._wake is not None:
            if self._wake_at <= due:
                return
            self._wake.cancel()
        self._wake_at = due
        wait_ns = due - self._now()
        if wait_ns <= 0:
            self._wake = self._loop.call_soon(self._turn)
        else:
            self._wake = self._loop.call_later(wait_ns / SECOND, self._turn)

    def _turn(self) -> None:
        self._wake = None
        due = self._group.due
        if due is None or due > self._now():
            self._schedule()  # the loop's clock stands still in a suspend, the group's does not
            return
        self._busy = self._working = True
        turn = self._group.take()
        left = self._group.work(turn)
        self._working = False
        if self._dead:
            self._bury()
            return
        if left:
            self._group.put_back(left)
        if spent := self._spent_ns():
            self._loop.call_later(spent / SECOND, lambda: self._turned(last=turn.last))
        else:
            self._turned(last=turn.last)

    def _turned(self, *, last: bool) -> None:
        if self._dead:
            return
        self._tell()
        if last:
            self._finish()
        else:
            self._busy = False
            self._schedule()

    def _finish(self) -> None:
        """Let go of the file, which is the last work of the disk; from here on it stays busy."""
        self._group.end()
        self._group.release()
        self._tell()
        if spent := self._spent_ns():
            self._loop.call_later(spent / SECOND, self._closed.set_result, None)
        else:
            self._closed.set_result(None)

    def _tell(self) -> None:
        for answer in self._answers:
            self._loop.call_soon(answer)
        self._answers.clear()

    def _bury(self) -> None:
        self._group.release()
        self._answers.clear()
