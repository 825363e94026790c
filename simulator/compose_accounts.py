"""The accounts of a play: what the tablet committed against what the depot holds, record by record.

Both sides are read from their own files: the tablet's queue, once its agent has ended, and the depot's
database. Nobody's counters are believed, and both chains are computed anew.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.core.records import Stream
from sync.blocks import Flags, Head, follow, genesis, parse_block
from sync.errors import RemoteProtocolError

Key = tuple[str, int]  # stream, sequence number


@dataclass(frozen=True, slots=True)
class Accounts:
    """Counts of records, and whether the chains of both sides hold and end alike."""

    produced: int
    delivered: int
    lost: int
    unexpected: int
    duplicates_dropped: int
    chains: str  # "verified", or what is wrong

    @property
    def hold(self) -> bool:
        return self.produced > 0 and self.lost == self.unexpected == 0 and self.chains == "verified"


@dataclass(frozen=True, slots=True)
class _Side:
    """One end of the queue: its records, and where each chain ends by our own computation."""

    records: frozenset[Key]
    heads: dict[str, Head]


def account(queue: Path, depot: Path, device: str) -> Accounts:
    """Compare the two files.

    Raises:
        OSError, sqlite3.Error: a file cannot be read.
    """
    problems: list[str] = []
    with _opened(queue) as db:
        (epoch,) = db.execute("SELECT epoch FROM store").fetchone()
        rows = {s: db.execute(f'SELECT block FROM "{s.value}" ORDER BY seq') for s in Stream}  # noqa: S608 - our own words
        tablet = _walk(rows, device, epoch, "tablet", problems)
    with _opened(depot) as db:
        chains = {
            Stream(stream): (number, duplicates)
            for stream, number, duplicates in db.execute(
                "SELECT stream, id, duplicates FROM chain WHERE device = ? AND epoch = ?", (device, epoch)
            )
        }
        blocks = "SELECT raw FROM block WHERE chain = ? ORDER BY last_seq"
        rows = {stream: db.execute(blocks, (number,)) for stream, (number, _) in chains.items()}
        fleet = _walk(rows, device, epoch, "depot", problems)
        opened = frozenset(
            db.execute(
                "SELECT c.stream, r.seq FROM record r JOIN chain c ON c.id = r.chain WHERE c.device = ?",
                (device,),
            )
        )
    if opened != fleet.records:
        problems.append(f"depot: {len(opened)} records open, {len(fleet.records)} in blocks")
    for stream, head in tablet.heads.items():
        if fleet.heads.get(stream) != head:
            problems.append(f"{stream}: the chains end differently")
    return Accounts(
        produced=len(tablet.records),
        delivered=len(opened),
        lost=len(tablet.records - opened),
        unexpected=len(opened - tablet.records),
        duplicates_dropped=sum(duplicates for _, duplicates in chains.values()),
        chains="; ".join(problems) or "verified",
    )


def depot_state(path: Path, device: str) -> tuple[dict[str, int], str]:
    """Newest sequence number of each stream at the depot, and the presence it knows; empty at first."""
    if not path.exists():
        return {}, ""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            heads = dict(
                db.execute("SELECT stream, max(seq) FROM chain WHERE device = ? GROUP BY stream", (device,))
            )
            presence = db.execute("SELECT state FROM presence WHERE device = ?", (device,)).fetchone()
    except sqlite3.OperationalError:
        return {}, ""  # it is only being made
    return heads, "" if presence is None else presence[0]


def _walk(
    rows: Mapping[Stream, Iterable[tuple[bytes]]], device: str, epoch: bytes, side: str, problems: list[str]
) -> _Side:
    records: set[Key] = set()
    heads: dict[str, Head] = {}
    for stream, blocks in rows.items():
        head = genesis(device, stream, epoch)
        try:
            for (raw,) in blocks:
                block = parse_block(raw)
                head = follow(head, block)
                if not block.header.flags & Flags.GAP:
                    seqs = range(block.header.first_seq, block.header.last_seq + 1)
                    records |= {(stream.value, seq) for seq in seqs}
        except RemoteProtocolError as error:
            problems.append(f"{side}: {error}")
        if head.seq:
            heads[stream.value] = head
    return _Side(frozenset(records), heads)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy, with its log: reading must not change what a kill left behind."""
    with tempfile.TemporaryDirectory() as folder:
        for file in path.parent.glob(f"{path.name}*"):
            shutil.copy(file, folder)
        with closing(sqlite3.connect(Path(folder) / path.name)) as db:
            yield db
