"""One stream of the queue: its rows, and in memory the few numbers that answer most questions.

Rows run without a hole from ``base`` to ``head``. The row id is the block's last sequence number, ``total``
the bytes ever stored up to it, so that sizes are differences; ``hash`` is the chain's after it. Dropped
blocks are replaced by one gap block at the front. The newest row is never deleted: it holds the head.
"""

from __future__ import annotations

import contextlib
import enum
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, NamedTuple

from agent.core.records import Stream
from sync.blocks import Block, Flags, Gap, Head, follow, parse_block
from sync.errors import RemoteProtocolError

ROW_BYTES = 64  # what SQLite adds to a block: hash, numbers, cell and page headers
# Ours: shedding goes so far below the quota, which makes it seldom, and leaves room for the alarm about it.
_SLACK = 64 * 1024
_EXPIRE_ROWS = 256  # ours: at most so many old rows go with one commit, which bounds its time

MakeGap = Callable[[int, int, Gap], bytes]


class Acked(enum.Enum):
    """What an acknowledgement came to."""

    ADVANCED = "advanced"
    KNOWN = "known"  # not newer than what was acknowledged before
    GONE = "gone"  # of rows that a gap has replaced since: nothing to compare with
    MISMATCH = "mismatch"  # another chain than ours, or beyond our head: an alarm


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Where a stream stands. ``pending`` counts records that the depot has not acknowledged."""

    head: Head
    acked: Head
    base: Head
    size: int
    quota: int

    @property
    def pending(self) -> int:
        return self.head.seq - self.acked.seq


class Table:
    """The rows of one stream in an open database. Every change belongs to a transaction of the caller."""

    def __init__(self, db: sqlite3.Connection, stream: Stream, quota: int, start: Head) -> None:
        self.stream = stream
        self.quota = quota
        self._db = db
        self._sql = _Sql(stream.value)
        self.head = self.acked = self.base = start
        self.total = self.size = self.powered_s = 0
        self._gap_end = 0  # last seq of a gap that is not acknowledged: the shedding cycle goes on
        self._unsaved = False
        self._load()

    def _load(self) -> None:
        cursor = self._db.execute(_CURSOR, (self.stream.value,)).fetchone()
        if cursor is not None:
            intact(cursor, int, bytes, int, bytes)
            self.acked, self.base = Head(cursor[0], cursor[1]), Head(cursor[2], cursor[3])
        newest = self._db.execute(self._sql.newest).fetchone()
        if newest is None:
            return
        newest = _row(newest)
        self.total, self.powered_s = newest.total, newest.powered_s
        self.head = Head(newest.seq, newest.hash)
        oldest_total, oldest_bytes = intact(self._db.execute(self._sql.oldest).fetchone(), int, int)
        self.size = self.total - oldest_total + oldest_bytes + ROW_BYTES
        pending = self._db.execute(self._sql.first_after, (self.acked.seq,)).fetchone()
        if pending is not None:
            header = parse_block(*intact(pending, bytes)).header
            self._gap_end = header.last_seq if header.flags & Flags.GAP else 0

    @property
    def stats(self) -> StreamStats:
        return StreamStats(self.head, self.acked, self.base, self.size, self.quota)

    @property
    def oldest_powered_s(self) -> int | None:
        row = self._db.execute(self._sql.oldest_powered).fetchone()
        return None if row is None else int(*intact(row, int))

    # --- writing ------------------------------------------------------------------------------------

    def add(self, raw: bytes, head: Head, powered_s: int) -> None:
        """Store the block that ends at ``head``."""
        size = len(raw) + ROW_BYTES
        self._db.execute(self._sql.insert, (head.seq, self.total + size, powered_s, head.hash, raw))
        self.total += size
        self.size += size
        self.head = head
        self.powered_s = powered_s

    def shed(self, make_gap: MakeGap) -> tuple[int, int] | None:
        """Bring the size under the quota: acknowledged rows first, then the oldest, which leave a gap.

        ``make_gap`` makes the block of a gap from its first and last seq. Returns first and last seq that
        were lost if a shedding cycle began with it; a cycle ends when the depot has acknowledged the gap.
        """
        if self.size <= self.quota:
            return None
        safe = lost = None
        with contextlib.closing(self._db.execute(self._sql.walk, (self.head.seq,))) as rows:
            for row in map(_row, rows):
                if row.seq <= self.acked.seq:
                    safe = row
                else:
                    lost = row
                if self.total - row.total <= self.quota - _SLACK:
                    break
        if safe is not None:
            self._forget(safe)
        if lost is None:
            return None
        first = self.base.seq + 1
        raw = make_gap(first, lost.seq, Gap("quota", self.base.hash, lost.hash))
        self._db.execute(self._sql.delete, (lost.seq,))
        self._db.execute(self._sql.insert, (lost.seq, lost.total, lost.powered_s, lost.hash, raw))
        self.size = self.total - lost.total + len(raw) + ROW_BYTES
        began = self._gap_end == 0
        self._gap_end = lost.seq
        return (first, lost.seq) if began else None

    def holds(self, head: Head) -> bool:
        """Whether a block ends at ``head``, or none ever did."""
        row = self._db.execute(self._sql.hash, (head.seq,)).fetchone()
        return head.seq == 0 or (row is not None and row[0] == head.hash)

    def take_back(self, head: Head) -> None:
        """Delete the blocks after ``head``; what is in memory is to be read anew."""
        self._db.execute(self._sql.delete_after, (head.seq,))

    def save(self, expire_s: int) -> None:
        """Write what acknowledgements changed; let go of acknowledged rows from before ``expire_s``."""
        if not self._unsaved:
            return
        rows = self._db.execute(
            self._sql.expired, (min(self.acked.seq, self.head.seq - 1), expire_s, _EXPIRE_ROWS)
        ).fetchall()
        if rows:
            self._forget(_row(rows[-1]))
        self._save_cursor()
        self._unsaved = False

    def _forget(self, last: _Row) -> None:
        """Delete acknowledged rows up to ``last``."""
        self._db.execute(self._sql.delete, (last.seq,))
        self.base = Head(last.seq, last.hash)
        self.size = self.total - last.total
        self._save_cursor()

    def _save_cursor(self) -> None:
        values = (self.stream.value, self.acked.seq, self.acked.hash, self.base.seq, self.base.hash)
        self._db.execute(_SAVE_CURSOR, values)

    # --- reading ------------------------------------------------------------------------------------

    def acknowledge(self, upto: Head) -> Acked:
        """Note that the depot has committed up to ``upto``; kept in memory until ``save``."""
        if upto.seq > self.head.seq:
            return Acked.MISMATCH
        row = self._db.execute(self._sql.hash, (upto.seq,)).fetchone()
        if row is None:
            return Acked.KNOWN if upto.seq <= self.acked.seq else Acked.GONE
        if row[0] != upto.hash:
            return Acked.MISMATCH
        if upto.seq <= self.acked.seq:
            return Acked.KNOWN
        self.acked = upto
        self._unsaved = True
        if upto.seq >= self._gap_end:
            self._gap_end = 0
        return Acked.ADVANCED

    def run(self, after: int, max_bytes: int) -> tuple[Head, Head, list[Block]] | None:
        """Blocks that end after ``after``, at least one, with the heads before and after them.

        Raises:
            RemoteProtocolError: the rows are not those that were written.
        """
        blocks: list[Block] = []
        before = head = self.base
        room = max_bytes
        with contextlib.closing(self._db.execute(self._sql.run, (after,))) as rows:
            for row in rows:
                seq, digest, raw = intact(row, int, bytes, bytes)
                room -= len(raw)
                if blocks and room < 0:
                    break
                if not blocks:
                    previous = self._db.execute(self._sql.previous, (seq,)).fetchone()
                    if previous is not None:
                        before = head = Head(*intact(previous, int, bytes))
                block = parse_block(raw)
                head = follow(head, block)
                if head != Head(seq, digest):
                    raise RemoteProtocolError("chain", f"{self.stream.value} row {seq} was altered")
                blocks.append(block)
        return (before, head, blocks) if blocks else None


class _Row(NamedTuple):
    seq: int
    total: int
    powered_s: int
    hash: bytes


def _row(values: Sequence[Any]) -> _Row:
    return _Row._make(intact(values, int, int, int, bytes))


def intact(values: Sequence[Any] | None, *types: type | UnionType) -> Sequence[Any]:
    """The values of a row, when they are of the types that were written.

    Raises:
        RemoteProtocolError: pages under it were lost or altered, in a way that SQLite does not notice.
    """
    if values is None:
        raise RemoteProtocolError("row", "a row is missing")
    if not all(map(isinstance, values, types)):
        found = ", ".join(type(value).__name__ for value in values)
        raise RemoteProtocolError("row", f"a row holds {found} where that was not written")
    return values


class _Sql:
    """The statements of one table; its name is one of four constants, never input."""

    def __init__(self, table: str) -> None:
        def on(statement: str) -> str:
            return statement.replace("TABLE", table)

        self.insert = on("INSERT INTO TABLE VALUES (?, ?, ?, ?, ?)")
        self.delete = on("DELETE FROM TABLE WHERE seq <= ?")
        self.delete_after = on("DELETE FROM TABLE WHERE seq > ?")
        self.newest = on("SELECT seq, total, powered_s, hash FROM TABLE ORDER BY seq DESC LIMIT 1")
        self.oldest = on("SELECT total, length(block) FROM TABLE ORDER BY seq LIMIT 1")
        self.oldest_powered = on("SELECT powered_s FROM TABLE ORDER BY seq LIMIT 1")
        self.first_after = on("SELECT block FROM TABLE WHERE seq > ? ORDER BY seq LIMIT 1")
        self.hash = on("SELECT hash FROM TABLE WHERE seq = ?")
        self.previous = on("SELECT seq, hash FROM TABLE WHERE seq < ? ORDER BY seq DESC LIMIT 1")
        self.walk = on("SELECT seq, total, powered_s, hash FROM TABLE WHERE seq < ? ORDER BY seq")
        self.expired = on(
            "SELECT seq, total, powered_s, hash FROM TABLE "
            "WHERE seq <= ? AND powered_s < ? ORDER BY seq LIMIT ?"
        )
        self.run = on("SELECT seq, hash, block FROM TABLE WHERE seq > ? ORDER BY seq")


_CURSOR = "SELECT acked_seq, acked_hash, base_seq, base_hash FROM cursor WHERE stream = ?"
_SAVE_CURSOR = "INSERT OR REPLACE INTO cursor VALUES (?, ?, ?, ?, ?)"
