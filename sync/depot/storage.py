"""What the depot holds, in one SQLite file: chains of blocks, their records, and what was refused.

A chain is one stream of one device since its queue's file was made (``epoch``). The rest of the depot
knows nothing of SQLite: another database takes this class's place.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.core.records import Stream
from sync.blocks import Block, Head, parse_block
from sync.columns import Row
from sync.envelope import Batch, Presence, Reported
from sync.errors import StoreError
from sync.sealing import Segment

QUARANTINE_ROWS = 10_000  # ours: what anybody may make us keep; more is counted in the log only
CACHED_CHAINS = 100_000  # ours: 20 MB; 25,000 tablets
SCHEMA_VERSION = 2
SCHEMA = """
CREATE TABLE chain (
    id INTEGER PRIMARY KEY, fleet TEXT NOT NULL, device TEXT NOT NULL, stream TEXT NOT NULL,
    epoch BLOB NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, duplicates INTEGER NOT NULL DEFAULT 0,
    UNIQUE (device, stream, epoch)
) STRICT;
CREATE TABLE block (
    chain INTEGER NOT NULL REFERENCES chain, last_seq INTEGER NOT NULL, hash BLOB NOT NULL,
    raw BLOB NOT NULL, opened INTEGER NOT NULL, UNIQUE (chain, last_seq)
) STRICT;
CREATE TABLE hole (
    chain INTEGER NOT NULL REFERENCES chain, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
    hash BLOB NOT NULL, reason TEXT NOT NULL, UNIQUE (chain, first_seq)
) STRICT;
CREATE TABLE proof (
    chain INTEGER NOT NULL REFERENCES chain, seq INTEGER NOT NULL, statement BLOB NOT NULL,
    signature BLOB NOT NULL, UNIQUE (chain, seq)
) STRICT;
CREATE TABLE record (
    chain INTEGER NOT NULL REFERENCES chain, seq INTEGER NOT NULL, boot_id BLOB NOT NULL,
    boot_ns INTEGER NOT NULL, wall_ns INTEGER NOT NULL, quality INTEGER NOT NULL, kind TEXT NOT NULL,
    version INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (chain, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE segment (id BLOB PRIMARY KEY, ephemeral BLOB NOT NULL, generation INTEGER NOT NULL) STRICT;
CREATE TABLE presence (
    device TEXT PRIMARY KEY, fleet TEXT NOT NULL, state TEXT NOT NULL, boot_id BLOB NOT NULL,
    boot_ns INTEGER NOT NULL, epoch BLOB NOT NULL, heads TEXT NOT NULL
) STRICT;
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, device TEXT NOT NULL, reason TEXT NOT NULL,
    detail TEXT NOT NULL, payload BLOB NOT NULL
) STRICT;
"""
# What version 2 adds: what commands have to name, and what became of desired configurations.
SCHEMA_2 = """
ALTER TABLE presence ADD COLUMN nonce BLOB NOT NULL DEFAULT x'';
ALTER TABLE presence ADD COLUMN heard_ns INTEGER NOT NULL DEFAULT 0;
CREATE TABLE reported (
    device TEXT PRIMARY KEY, fleet TEXT NOT NULL, boot_id BLOB NOT NULL, boot_ns INTEGER NOT NULL,
    accepted INTEGER NOT NULL, generation INTEGER NOT NULL, state TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
"""


@dataclass(slots=True)
class Chain:
    """A chain and where it ends. ``duplicates`` counts records that came again."""

    id: int
    fleet: str
    device: str
    stream: Stream
    epoch: bytes
    head: Head
    duplicates: int


@dataclass(frozen=True, slots=True)
class Hole:
    """Records that no tablet has any more; ``hash`` is the chain's after them."""

    first_seq: int
    last_seq: int
    hash: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Birth:
    """What a device last said of itself: ``boot_ns`` of its own clock when it spoke, ``heard_ns`` of ours."""

    fleet: str
    state: str
    boot_id: bytes
    nonce: bytes
    boot_ns: int
    heard_ns: int


class DepotStorage:
    """Not thread-safe. Changes happen within ``transaction`` and are synced when it ends."""

    def __init__(self, path: Path, *, read_only: bool = False, vfs: str | None = None) -> None:
        """Open or make the file. ``vfs``: the SQLite file system that has it; None is the system's.

        Raises:
            StoreError: it cannot be used; the message says which file and why.
        """
        self._path = path
        self._chains: dict[tuple[str, Stream, bytes], Chain] = {}
        try:
            source = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
            source += f"&vfs={vfs}" if vfs else ""
            self._db = sqlite3.connect(source, uri=True, isolation_level=None)
            if read_only:
                self._check_version()
                return
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # an ack lets the tablet's rows go
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version < SCHEMA_VERSION:
                steps = SCHEMA_2 if version == 1 else SCHEMA + SCHEMA_2
                self._db.executescript(f"BEGIN; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            self._check_version()
        except sqlite3.Error as error:
            raise StoreError(f"depot database {path}: {error}") from error

    def _check_version(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"depot database {self._path} has format {version}, expected {SCHEMA_VERSION}: "
                "not a depot's, or made by another version"
            )

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing, synced at the end.

        Raises:
            StoreError: nothing was kept; what is in memory is as before.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            self._chains.clear()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"depot database {self._path}: {error}") from error
            raise

    # --- chains -----------------------------------------------------------------------------------

    def find(self, device: str, stream: Stream, epoch: bytes) -> Chain | None:
        key = (device, stream, epoch)
        if key not in self._chains:
            row = self._db.execute(
                "SELECT id, fleet, device, stream, epoch, seq, hash, duplicates FROM chain "
                "WHERE device = ? AND stream = ? AND epoch = ?",
                (device, stream.value, epoch),
            ).fetchone()
            if row is None:
                return None
            if len(self._chains) >= CACHED_CHAINS:
                self._chains.clear()
            self._chains[key] = _chain(row)
        return self._chains[key]

    def begin(self, fleet: str, device: str, stream: Stream, epoch: bytes, start: Head) -> Chain:
        """A new chain that begins at ``start``."""
        cursor = self._db.execute(
            "INSERT INTO chain (fleet, device, stream, epoch, seq, hash) VALUES (?, ?, ?, ?, ?, ?)",
            (fleet, device, stream.value, epoch, start.seq, start.hash),
        )
        chain = Chain(int(cursor.lastrowid or 0), fleet, device, stream, epoch, start, 0)
        self._chains[(device, stream, epoch)] = chain
        return chain

    def chains(self, device: str | None = None) -> list[Chain]:
        rows = self._db.execute(
            "SELECT id, fleet, device, stream, epoch, seq, hash, duplicates FROM chain "
            "WHERE ?1 IS NULL OR device = ?1 ORDER BY device, id",
            (device,),
        )
        return [_chain(row) for row in rows]

    def hash_at(self, chain: Chain, seq: int) -> bytes | None:
        """The chain's hash after ``seq``; None where no block or hole ends."""
        if seq == chain.head.seq:
            return chain.head.hash
        row = self._db.execute(
            "SELECT hash FROM block WHERE chain = ?1 AND last_seq = ?2 "
            "UNION ALL SELECT hash FROM hole WHERE chain = ?1 AND last_seq = ?2",
            (chain.id, seq),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def held_elsewhere(self, chain: Chain, block: Block) -> bool:
        """Whether the same bytes are in another chain of the stream: a damaged queue was salvaged since."""
        row = self._db.execute(
            "SELECT 1 FROM chain JOIN block ON block.chain = chain.id "
            "WHERE device = ? AND stream = ? AND chain.id != ? AND last_seq = ? AND raw = ?",
            (chain.device, chain.stream.value, chain.id, block.header.last_seq, block.raw),
        ).fetchone()
        return row is not None

    def add(self, chain: Chain, block: Block, head: Head, rows: list[tuple[int, Row]] | None) -> None:
        """Put a block at the chain's end; ``rows`` None: it could not be opened and stays as it came."""
        self._db.execute(
            "INSERT INTO block VALUES (?, ?, ?, ?, ?)",
            (chain.id, head.seq, head.hash, block.raw, rows is not None),
        )
        header = block.header
        wall_of_boot = header.wall_ns - header.boot_ns
        self._db.executemany(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    chain.id, seq, header.boot_id, row.at, wall_of_boot + row.at, header.quality,
                    row.kind, row.version, _as_json(row.fields),
                )
                for seq, row in rows or ()
            ),
        )  # fmt: skip
        chain.head = head

    def add_hole(self, chain: Chain, upto: Head, reason: str) -> None:
        """Note that what lies between the chain's end and ``upto`` will never come."""
        self._db.execute(
            "INSERT INTO hole VALUES (?, ?, ?, ?, ?)",
            (chain.id, chain.head.seq + 1, upto.seq, upto.hash, reason),
        )
        chain.head = upto

    def settle(self, chain: Chain, batch: Batch, duplicates: int) -> None:
        """Write the chain's new end, the device's signature for it, and what came again."""
        chain.duplicates += duplicates
        self._db.execute(
            "UPDATE chain SET seq = ?, hash = ?, duplicates = ? WHERE id = ?",
            (chain.head.seq, chain.head.hash, chain.duplicates, chain.id),
        )
        if chain.head == batch.head:
            self._db.execute(
                "INSERT OR IGNORE INTO proof VALUES (?, ?, ?, ?)",
                (chain.id, batch.head.seq, batch.statement, batch.signature),
            )
        self._db.executemany(
            "INSERT OR IGNORE INTO segment VALUES (?, ?, ?)",
            ((s.id, s.ephemeral, s.generation) for s in batch.segments),
        )

    # --- the rest ---------------------------------------------------------------------------------

    def put_presence(self, fleet: str, presence: Presence) -> None:
        heads = {stream.value: [head.seq, head.hash.hex()] for stream, head in presence.heads.items()}
        # A word that comes again, retained, was heard when it came first.
        self._db.execute(
            "INSERT OR REPLACE INTO presence VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, coalesce(("
            "SELECT heard_ns FROM presence WHERE device = ?1 AND boot_id = ?4 AND boot_ns = ?5), ?9))",
            (
                presence.device, fleet, presence.state, presence.boot_id, presence.at, presence.epoch,
                json.dumps(heads), presence.nonce, time.time_ns(),
            ),
        )  # fmt: skip

    def birth(self, device: str) -> Birth | None:
        """How to address a device as it last said of itself; None if it never spoke."""
        row = self._db.execute(
            "SELECT fleet, state, boot_id, nonce, boot_ns, heard_ns FROM presence WHERE device = ?", (device,)
        ).fetchone()
        return None if row is None else Birth(*row)

    def put_reported(self, fleet: str, reported: Reported) -> None:
        """Note what became of a configuration; what a device ever accepted is never lowered."""
        self._db.execute(
            "INSERT OR REPLACE INTO reported VALUES (?1, ?2, ?3, ?4, max(?5, ?9), ?6, ?7, ?8)",
            (
                reported.device, fleet, reported.boot_id, reported.at, reported.accepted, reported.generation,
                reported.state, reported.detail, self.accepted(reported.device),
            ),
        )  # fmt: skip

    def accepted(self, device: str) -> int:
        """The highest generation of configuration that a device ever reported; 0 for none."""
        row = self._db.execute("SELECT accepted FROM reported WHERE device = ?", (device,)).fetchone()
        return 0 if row is None else int(row[0])

    def quarantine(self, topic: str, device: str, reason: str, detail: str, payload: bytes) -> bool:
        """Keep what was refused, for people to look at; False when there is no room for more."""
        count = self._db.execute("SELECT count(*) FROM quarantine").fetchone()[0]
        if count >= QUARANTINE_ROWS:
            return False
        self._db.execute(
            "INSERT INTO quarantine (topic, device, reason, detail, payload) VALUES (?, ?, ?, ?, ?)",
            (topic, device, reason, detail, payload),
        )
        return True

    # --- for the ledger ---------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read several things as they were at one moment.

        Raises:
            StoreError: the file cannot be read.
        """
        try:
            self._db.execute("BEGIN")
            yield
        except sqlite3.Error as error:
            raise StoreError(f"depot database {self._path}: {error}") from error
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def presences(self) -> dict[str, tuple[str, bytes, dict[Stream, Head]]]:
        """State, epoch and signed heads of each device, as it last said."""
        rows = self._db.execute("SELECT device, state, epoch, heads FROM presence")
        return {
            device: (
                state,
                epoch,
                {Stream(s): Head(seq, bytes.fromhex(text)) for s, (seq, text) in json.loads(heads).items()},
            )
            for device, state, epoch, heads in rows
        }

    def walk(self, chain: Chain) -> Generator[tuple[Block | Hole, Head], None, None]:
        """Blocks and holes of a chain in order, each with the head that was noted after it."""
        blocks = self._db.execute(
            "SELECT last_seq, hash, raw, NULL, NULL FROM block WHERE chain = ?1 UNION ALL "
            "SELECT last_seq, hash, NULL, first_seq, reason FROM hole WHERE chain = ?1 ORDER BY last_seq",
            (chain.id,),
        )
        for last_seq, digest, raw, first_seq, reason in blocks:
            head = Head(last_seq, digest)
            yield (parse_block(raw) if raw is not None else Hole(first_seq, last_seq, digest, reason)), head

    def proofs(self, chain: Chain) -> Generator[tuple[int, bytes, bytes], None, None]:
        """Sequence number, statement and signature of each batch."""
        yield from self._db.execute(
            "SELECT seq, statement, signature FROM proof WHERE chain = ? ORDER BY seq", (chain.id,)
        )

    def counts(self, chain: Chain) -> tuple[int, int]:
        """Records that are open, and blocks that are still sealed."""
        records = self._db.execute("SELECT count(*) FROM record WHERE chain = ?", (chain.id,)).fetchone()[0]
        row = self._db.execute(
            "SELECT count(*) FROM block WHERE chain = ? AND NOT opened", (chain.id,)
        ).fetchone()
        return int(records), int(row[0])

    def quarantined(self, device: str | None = None) -> dict[str, dict[str, int]]:
        """How much was refused, by device and reason."""
        found: dict[str, dict[str, int]] = {}
        for name, reason, count in self._db.execute(
            "SELECT device, reason, count(*) FROM quarantine WHERE ?1 IS NULL OR device = ?1 "
            "GROUP BY device, reason ORDER BY device, reason",
            (device,),
        ):
            found.setdefault(name, {})[reason] = count
        return found

    def segments(self) -> list[Segment]:
        return [Segment(*row) for row in self._db.execute("SELECT id, ephemeral, generation FROM segment")]


def _as_json(fields: dict[str, object]) -> str:
    return msgspec.json.encode(fields).decode()  # a fifth of the time that json takes


def _chain(row: tuple[int, str, str, str, bytes, int, bytes, int]) -> Chain:
    number, fleet, device, stream, epoch, seq, digest, duplicates = row
    return Chain(number, fleet, device, Stream(stream), epoch, Head(seq, digest), duplicates)
