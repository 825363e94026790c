"""What is left of a damaged queue, in a new one: which rows are true, and what stands for those that are not.

A fresh file has a new epoch and so new chains: nobody knows how far the damaged one's went. Rows keep their
sequence numbers and bytes, and are linked again. What the depot had acknowledged is one gap at the beginning,
each hole is a gap with the reason ``damage``, and new records are numbered after the last row that was found.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.core.catalogue import QUEUE_DAMAGED
from agent.core.records import Record, Stream
from sync.blocks import BlockWriter, Flags, Gap, Head, Stamp, link, read_gap
from sync.carve import Carved, Carver, Found
from sync.table import Table

DAMAGE = "damage"


@dataclass(slots=True)
class Saved:
    """What came of one stream; ``lost`` counts records after what was acknowledged."""

    stream: Stream
    acked: int
    upto: int  # the last sequence number that is known to have been given
    saved: int = 0
    lost: int = 0
    first_lost: int = 0
    last_lost: int = 0

    def lose(self, first: int, last: int) -> None:
        self.lost += last - first + 1
        self.first_lost = self.first_lost or first
        self.last_lost = last

    def as_alarm(self, kept_as: str, carved: Carved, stamp: Stamp) -> Record:
        return QUEUE_DAMAGED.make(
            stamp.boot_ns, stream=self.stream.value, acked=self.acked, saved=self.saved, lost=self.lost,
            first_lost=self.first_lost, last_lost=self.last_lost, upto=self.upto, kept_as=kept_as,
            epoch=carved.epoch.hex() if carved.epoch else "",
        )  # fmt: skip


def true_rows(carver: Carver, carved: Carved, stream: Stream) -> Iterator[Found]:
    """The rows after what was acknowledged whose chain says that they are as they were written, in order.

    A row right after a hole has nothing before it to be proved by and is believed: its hash may still
    prove the next one, and the depot opens nothing that was altered.
    """
    acked = carved.acked.get(stream)
    before: Head | None = acked
    doubtful: tuple[Found, bytes] | None = None  # with what its hash would be if its bytes are true
    for seq in sorted(carved.rows[stream]):
        if acked is not None and seq <= acked.seq:
            continue
        versions = [carver.row(place) for place in reversed(carved.rows[stream][seq])]
        first = versions[0].block.header.first_seq
        if before is None or before.seq != first - 1 or versions[0].block.header.flags & Flags.GAP:
            yield versions[0]
            before, doubtful = Head(seq, versions[0].hash), None
            continue
        good = next((v for v in versions if link(before.hash, v.block.raw) == v.hash), None)
        if good is None and doubtful is not None:
            # It was the hash beside the row before that was damaged, not the row.
            good = next((v for v in versions if link(doubtful[1], v.block.raw) == v.hash), None)
            if good is not None:
                yield doubtful[0]
        if good is not None:
            yield good
            before, doubtful = Head(seq, good.hash), None
        else:
            doubtful = versions[0], link(before.hash, versions[0].block.raw)
            before = Head(seq, versions[0].hash)


def fill(table: Table, carver: Carver, carved: Carved, blocks: BlockWriter, stamp: Stamp) -> Saved:
    """Put what is true of a stream into an empty ``table``, within a transaction of the caller."""
    stream = table.stream
    acked = carved.acked.get(stream)
    known = max(carved.rows[stream], default=0)
    saved = Saved(stream, acked.seq if acked else 0, max(known, acked.seq if acked else 0))

    def gap(last: int, reason: str, powered_s: int) -> None:
        head = table.head
        raw = blocks.gap(stream, head.seq + 1, last, Gap(reason, head.hash, head.hash), stamp)
        table.add(raw, Head(last, head.hash), powered_s)

    if saved.acked:
        epoch = carved.epoch.hex() if carved.epoch else "that is not known"
        gap(saved.acked, f"at the depot already, in epoch {epoch}", 0)
    for row in true_rows(carver, carved, stream):
        block = row.block
        if block.header.last_seq <= table.head.seq:
            continue
        if block.header.flags & Flags.GAP:
            gap(block.header.last_seq, read_gap(block).reason, row.powered_s)
            continue
        if block.header.first_seq <= table.head.seq:
            continue  # a leftover, of numbers that another row has
        if block.header.first_seq > table.head.seq + 1:
            saved.lose(table.head.seq + 1, block.header.first_seq - 1)
            gap(block.header.first_seq - 1, DAMAGE, row.powered_s)
        table.add(block.raw, Head(block.header.last_seq, link(table.head.hash, block.raw)), row.powered_s)
        saved.saved += block.header.count
    if saved.upto > table.head.seq:
        saved.lose(table.head.seq + 1, saved.upto)
        gap(saved.upto, DAMAGE, table.powered_s)
    return saved


def pour(
    db: sqlite3.Connection, tables: Sequence[Table], carver: Carver, carved: Carved, blocks: BlockWriter,
    stamp: Stamp,
) -> list[Saved]:  # fmt: skip
    """Put what is true of each stream, and the segments, into a new file, in the caller's transaction."""
    saved = [fill(table, carver, carved, blocks, stamp) for table in tables]
    db.executemany(
        "INSERT INTO segment VALUES (?, ?, ?, ?)",
        ((s.id, s.ephemeral, s.generation, age) for s, age in carved.segments.values()),
    )
    return saved
