"""One stream of the queue: its rows, and in memory the few numbers that answer most questions.

Rows run without a hole from ``base`` to ``head``. The row id is the block's last sequence number, ``total``
the bytes ever stored up to it, so that sizes are differences, but for what was thinned (sync/thinning.py);
``hash`` is the chain's after it. Dropped blocks are replaced by one gap block at the front. The newest row is
never deleted: it holds the head.
"""

from __future__ import annotations

import contextlib
import enum
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any

from agent.core.records import Stream
from sync.blocks import Block, Flags, Gap, Head, follow, parse_block, read_gap
from sync.errors import RemoteProtocolError
from sync.thinning import FLAGS, GAP_BYTES, THINNED, Row, Thinned, is_gap, stretches

ROW_BYTES = 64  # what SQLite adds to a block: hash, numbers, cell and page headers
# Ours: shedding goes so far below the quota, which makes it seldom, and leaves room for the alarm about it.
_SLACK = 64 * 1024
_EXPIRE_ROWS = 256  # ours: at most so many old rows go with one commit, which bounds its time

QUOTA, AGE = "quota", "age"  # reasons of gaps, beside THINNED

MakeGap = Callable[[int, int, Gap], bytes]


@dataclass(frozen=True, slots=True)
class Loss:
    """The first loss of a cycle: what went, and why. A cycle ends when the depot has acknowledged its gap."""

    first: int
    last: int
    reason: str


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
        self._front_gap = 0  # last seq of a gap that is the first row
        self._unsaved = False
        self._thinned = Thinned()
        self._age_from: int | None = None  # powered time of the oldest row that can go; None: look
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
        oldest, between, size = self._ends()
        self.size = between + size
        if self.stream is Stream.TELEMETRY:
            self._thinned = Thinned.load(self._db)
            if self._thinned.oldest == oldest:
                self.size -= self._thinned.bytes
            elif self._thinned.bytes:  # rows went by another hand, of an agent that knows nothing of this
                self.size = intact(self._db.execute(self._sql.size).fetchone(), int)[0]
        pending = self._db.execute(self._sql.first_after, (self.acked.seq,)).fetchone()
        if pending is not None:
            block = parse_block(*intact(pending, bytes))
            at_front = block.header.flags & Flags.GAP and block.header.first_seq == self.base.seq + 1
            if at_front and read_gap(block).reason != THINNED:
                self._gap_end = self._front_gap = block.header.last_seq

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

    def shed(self, make_gap: MakeGap) -> list[Loss]:
        """Bring the size under the quota: acknowledged rows first, then of telemetry every second stretch of
        the older half, then the oldest, which leave a gap.

        ``make_gap`` makes the block of a gap from its first and last seq. Returns what began a cycle.
        """
        if self.size <= self.quota:
            return []
        goal = self.quota - _SLACK
        losses: list[Loss | None] = []
        self._go(self._oldest(goal, acked=True), QUOTA, make_gap)
        if self.stream is Stream.TELEMETRY and self.size > goal:
            losses.append(self._thin(goal, make_gap))
        if self.size > goal:
            losses.append(self._go(self._oldest(goal, acked=False), QUOTA, make_gap))
        return [loss for loss in losses if loss is not None]

    def age(self, before_s: int, make_gap: MakeGap) -> Loss | None:
        """Let go of rows from before ``before_s``, acknowledged or not; the latter leave a gap."""
        if self._age_from is None:
            self._age_from = self._next_to_age()
        if self._age_from is None or self._age_from >= before_s:
            return None
        going = (self.head.seq - 1, before_s, _EXPIRE_ROWS)
        rows = [_row(values) for values in self._db.execute(self._sql.expired, going)]
        acked = [row for row in rows if row.seq <= self.acked.seq]
        self._go(acked, AGE, make_gap)
        return self._go(rows[len(acked) :], AGE, make_gap)

    def _next_to_age(self) -> int | None:
        """The powered time of the oldest row; a gap that is the first waits for what comes after it."""
        rows = self._db.execute(self._sql.first_two).fetchall()
        if rows and is_gap(rows[0][1]) and self.acked.seq < rows[0][2]:
            rows = rows[1:]
        return int(rows[0][0]) if rows else None

    def _oldest(self, goal: int, *, acked: bool) -> list[Row]:
        """The rows that are to go for a size of ``goal``; the newest row never does."""
        upto = min(self.acked.seq, self.head.seq - 1) if acked else self.head.seq - 1
        found: list[Row] = []
        size = self.size
        with contextlib.closing(self._db.execute(self._sql.walk, (upto,))) as rows:
            for row in map(_row, rows):
                found.append(row)
                size -= row.size
                if size <= goal:
                    break
        return found

    def _go(self, rows: list[Row], reason: str, make_gap: MakeGap) -> Loss | None:
        """Drop the oldest rows: all are acknowledged, or a gap takes their place."""
        if not rows:
            return None
        last = rows[-1]
        if last.seq <= self.acked.seq:
            self._forget(rows)
            return None
        if last.seq == self._front_gap:
            return None
        first = self.base.seq + 1
        raw = make_gap(first, last.seq, Gap(self._reason(reason), self.base.hash, last.hash))
        self._db.execute(self._sql.delete, (last.seq,))
        self._replace(last, raw)
        self._dropped(sum(row.size for row in rows) - len(raw) - ROW_BYTES)
        began = self._gap_end == 0
        self._gap_end = self._front_gap = last.seq
        return Loss(first, last.seq, reason) if began else None

    def _reason(self, reason: str) -> str:
        """Of a gap that takes in the one at the front, which may have had another."""
        if not self._front_gap:
            return reason
        front = parse_block(*intact(self._db.execute(self._sql.first_block).fetchone(), bytes))
        known = read_gap(front).reason
        return known if reason in known.split(" and ") else f"{known} and {reason}"

    def _thin(self, goal: int, make_gap: MakeGap) -> Loss | None:
        """Drop every second stretch, from where that ended last to the newer half of the quota."""
        begin = max(self._thinned.upto, self.acked.seq)
        at = self._db.execute(self._sql.previous, (begin + 1,)).fetchone()
        before = self.base if at is None else Head(*intact(at, int, bytes))
        found, size = [], self.size
        walk = (begin, self.head.seq, self.total - self.quota // 2)
        with contextlib.closing(self._db.execute(self._sql.to_thin, walk)) as rows:
            for stretch in stretches(((_row(values[:5]), is_gap(values[5])) for values in rows), before):
                found.append(stretch)
                size -= stretch.size - GAP_BYTES
                if size <= goal:
                    break
        if not found:
            return None
        for stretch in found:
            first, last = stretch.before.seq + 1, stretch.last
            raw = make_gap(first, last.seq, Gap(THINNED, stretch.before.hash, last.hash))
            self._db.execute(self._sql.delete_between, (stretch.before.seq, last.seq))
            self._replace(last, raw)
            self.size -= stretch.size - len(raw) - ROW_BYTES
        began = self._thinned.upto <= self.acked.seq
        self._thinned.upto = found[-1].last.seq
        self._dropped(0)
        return Loss(found[0].before.seq + 1, found[0].last.seq, THINNED) if began else None

    def _replace(self, row: Row, raw: bytes) -> None:
        self._db.execute(self._sql.insert, (row.seq, row.total, row.powered_s, row.hash, raw))

    def _dropped(self, size: int) -> None:
        """Note that rows went, of ``size`` bytes together."""
        self.size -= size
        self._age_from = None
        if self._thinned.upto:
            oldest, between, first = self._ends()
            self._thinned.oldest, self._thinned.bytes = oldest, between + first - self.size
            self._thinned.save(self._db)

    def _ends(self) -> tuple[int, int, int]:
        """Number of the oldest row, bytes ever stored after it, bytes that it takes."""
        seq, total, size = intact(self._db.execute(self._sql.oldest).fetchone(), int, int, int)
        return seq, self.total - total, size

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
            self._forget([_row(values) for values in rows])
        self._save_cursor()
        self._unsaved = False

    def _forget(self, rows: list[Row]) -> None:
        """Delete ``rows``, the oldest, which the depot has acknowledged."""
        last = rows[-1]
        self._db.execute(self._sql.delete, (last.seq,))
        self.base = Head(last.seq, last.hash)
        if last.seq >= self._front_gap:
            self._front_gap = 0
        self._dropped(sum(row.size for row in rows))
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


def _row(values: Sequence[Any]) -> Row:
    return Row._make(intact(values, int, int, int, bytes, int))


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
            named = statement.replace("TABLE", table).replace("ROW", "seq, total, powered_s, hash, SIZE")
            return named.replace("SIZE", f"length(block) + {ROW_BYTES}").replace("FLAGS", FLAGS)

        self.insert = on("INSERT INTO TABLE VALUES (?, ?, ?, ?, ?)")
        self.delete = on("DELETE FROM TABLE WHERE seq <= ?")
        self.delete_after = on("DELETE FROM TABLE WHERE seq > ?")
        self.newest = on("SELECT ROW FROM TABLE ORDER BY seq DESC LIMIT 1")
        self.oldest = on("SELECT seq, total, SIZE FROM TABLE ORDER BY seq LIMIT 1")
        self.size = on("SELECT sum(SIZE) FROM TABLE")
        self.first_block = on("SELECT block FROM TABLE ORDER BY seq LIMIT 1")
        self.first_two = on("SELECT powered_s, FLAGS, seq FROM TABLE ORDER BY seq LIMIT 2")
        self.delete_between = on("DELETE FROM TABLE WHERE seq > ? AND seq <= ?")
        self.to_thin = on(
            "SELECT ROW, FLAGS FROM TABLE WHERE seq > ? AND seq < ? AND total <= ? ORDER BY seq"
        )
        self.oldest_powered = on("SELECT powered_s FROM TABLE ORDER BY seq LIMIT 1")
        self.first_after = on("SELECT block FROM TABLE WHERE seq > ? ORDER BY seq LIMIT 1")
        self.hash = on("SELECT hash FROM TABLE WHERE seq = ?")
        self.previous = on("SELECT seq, hash FROM TABLE WHERE seq < ? ORDER BY seq DESC LIMIT 1")
        self.walk = on("SELECT ROW FROM TABLE WHERE seq <= ? ORDER BY seq")
        self.expired = on("SELECT ROW FROM TABLE WHERE seq <= ? AND powered_s < ? ORDER BY seq LIMIT ?")
        self.run = on("SELECT seq, hash, block FROM TABLE WHERE seq > ? ORDER BY seq")


_CURSOR = "SELECT acked_seq, acked_hash, base_seq, base_hash FROM cursor WHERE stream = ?"
_SAVE_CURSOR = "INSERT OR REPLACE INTO cursor VALUES (?, ?, ?, ?, ?)"
