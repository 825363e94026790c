"""Thinning of telemetry: older rows go by every second stretch, so that a full quota reaches further back.

Blocks are sealed and never change, so whole ones go. A stretch of them leaves one gap, with its reason, in
its place in the chain. The newest half of the quota is never thinned, and no stretch is thinned twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sync.blocks import Flags, Head

THINNED = "thinned"
# Ours: what stays and what goes in turn; ten times the gap in its place, at field rates 45 s of samples.
STRETCH_BYTES = 2048
GAP_BYTES = 256  # ours: no row of such a gap takes more
_GAP = bytes([Flags.GAP])
_FLAGS_AT = 3  # of a block's header, counted from 1 as SQLite does


class Row(NamedTuple):
    """A row without its block. ``size`` is what it takes, ``total`` as sync.table says."""

    seq: int
    total: int
    powered_s: int
    hash: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows to drop: those after ``before`` up to ``last``, of ``size`` bytes."""

    before: Head
    last: Row
    size: int


def stretches(rows: Iterable[tuple[Row, bool]], before: Head) -> Iterator[Stretch]:
    """Every second stretch of ``rows``, which follow what ended at ``before``; true marks a gap.

    What stands before and after a gap stays: a hole is never widened.
    """
    kept = going = 0
    edge = before
    for row, gap in rows:
        if gap:
            kept = going = 0
        elif kept >= STRETCH_BYTES:
            going += row.size
            if going < STRETCH_BYTES:
                continue
            yield Stretch(edge, row, going)
            kept = going = 0
        else:
            kept += row.size
        edge = Head(row.seq, row.hash)


def is_gap(flags: object) -> bool:
    """Of the byte that ``FLAGS`` selects."""
    return flags == _GAP


FLAGS = f"substr(block, {_FLAGS_AT}, 1)"


@dataclass(slots=True)
class Thinned:
    """What a file knows of it: a table of one row that is made when it is needed, and that nobody must read.

    ``upto`` is the last sequence number of the newest gap that thinning left, ``bytes`` what is missing of
    the rows that are held after the oldest one, of which ``oldest`` is the number.
    """

    upto: int = 0
    bytes: int = 0
    oldest: int = 0

    @classmethod
    def load(cls, db: sqlite3.Connection) -> Thinned:
        try:
            row = db.execute("SELECT upto, bytes, oldest FROM thinned").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            row = None
        return cls() if row is None else cls(*row)

    def save(self, db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE IF NOT EXISTS thinned (upto INTEGER, bytes INTEGER, oldest INTEGER)")
        db.execute("DELETE FROM thinned")
        db.execute("INSERT INTO thinned VALUES (?, ?, ?)", (self.upto, self.bytes, self.oldest))
