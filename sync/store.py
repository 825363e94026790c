"""The durable queue: sole owner of one SQLite file, which holds the streams as chained blocks.

Synchronous and for one thread; sync/writer.py gives it one. A commit is one transaction, synced before it
returns. One row id table a stream, no status column, no other index, no counting: what is asked often is
known from the first and the last row. An acknowledgement needs no sync of its own: it is kept in memory
until the next commit, because the depot gives it again when it is lost.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.core.catalogue import CATALOGUE, QUEUE_SHED
from agent.core.records import Record, Stream
from sync import schema
from sync.blocks import BlockWriter, Head, Stamp, genesis, link
from sync.carve import Carved, Carver
from sync.columns import MAX_BODY
from sync.envelope import EPOCH_BYTES, Run
from sync.errors import LocalProtocolError, RemoteProtocolError, StoreDamaged, StoreError, StoreInUse
from sync.owner import Owner
from sync.quarantine import Quarantine
from sync.salvage import pour
from sync.sealing import Sealer, Segment
from sync.store_words import ADVICE, LOOK, by_stream
from sync.table import Acked, Loss, MakeGap, StreamStats, Table, intact

log = structlog.get_logger()

SALVAGE_TRIES = 3  # ours: an error that passes must not cost the rows of a damaged file
MIN_QUOTA = 2 * MAX_BODY  # bytes; the newest block is never dropped, and must fit
_SECOND = 1_000_000_000
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

# Ours: a month without any network at field rates, with room to spare.
DEFAULT_QUOTAS: Mapping[Stream, int] = {
    Stream.ALARM: 16 * 1024 * 1024,
    Stream.AUDIT: 16 * 1024 * 1024,
    Stream.STATE: 32 * 1024 * 1024,
    Stream.TELEMETRY: 128 * 1024 * 1024,
}
_DAY_S = 86_400
KEEP_ACKED_S = 14 * _DAY_S  # ours: a depot restored from a backup can ask for them again
# A block may hold every kind of its stream, and a sealed one cannot be looked into: the longest counts.
RETENTION_S: Mapping[Stream, int] = {
    stream: max(kind.retention_days for kind in CATALOGUE.values() if kind.stream is stream) * _DAY_S
    for stream in Stream
}


@dataclass(frozen=True, slots=True)
class _Sure:
    """Where the file stood after the last commit that was made."""

    epoch: bytes
    remembered: bytes | None
    heads: dict[Stream, Head]


class Store:
    """The queue of one device. Appends records, reads runs of blocks, lets go of what the depot has.

    ``clock`` reads boot and wall time together, ``entropy`` gives n random bytes, ``boot_id`` is 16 bytes.
    With a ``sealer`` every block is sealed.

    Raises:
        StoreInUse: another process owns the file.
        StoreError: the file cannot be opened, or belongs to another device.
    """

    def __init__(
        self,
        path: Path,
        device: str,
        boot_id: bytes,
        clock: Callable[[], Stamp],
        entropy: Callable[[int], bytes],
        *,
        sealer: Sealer | None = None,
        quotas: Mapping[Stream, int] = DEFAULT_QUOTAS,
        keep_acked_s: int = KEEP_ACKED_S,
        retention_s: Mapping[Stream, int] = RETENTION_S,
    ) -> None:
        for stream in Stream:
            if quotas[stream] < MIN_QUOTA:
                raise ValueError(f"quota of {stream.value}: {quotas[stream]} bytes, {MIN_QUOTA} at least")
        self._path = path
        self._quarantine = Quarantine(path)
        self._device = device
        self._boot_id = boot_id
        self._clock = clock
        self._entropy = entropy
        self._sealer = sealer
        self._quotas = quotas
        self._keep_acked_s = keep_acked_s
        self._retention_s = retention_s
        self._blocks = BlockWriter(boot_id, sealer)
        self._db: sqlite3.Connection | None = None
        self._tables: dict[Stream, Table] = {}
        self._segments: dict[bytes, Segment] = {}
        self._powered_base_s = 0
        self._run_saved = False
        self._log_settled = False
        self._reports: list[Record] = []  # alarms about this file, for the next commit
        self._said: list[Record] = []  # those in the commit that was tried last
        self._sure: _Sure | None = None
        self.epoch = b""
        self.remembered: bytes | None = None
        self._salvages_failed = 0  # running
        self.damaged: str | None = None  # the name under which a corrupt file was put aside
        try:
            self._owner = Owner(path.with_name(path.name + ".lock"))
        except StoreInUse:
            raise
        except OSError as error:
            raise StoreError(f"queue {path}: cannot make its lock file: {error.strerror}") from error
        try:
            with contextlib.suppress(StoreDamaged), self._using():
                pass
            with self._using():  # after damage the fresh one, which then has its alarms
                pass
        except BaseException:
            self._owner.release()
            raise

    # --- records ------------------------------------------------------------------------------------

    def append(self, records: Sequence[Record], remember: bytes | None = None) -> dict[Stream, int]:
        """Commit all of it or none; synced when it returns. The first seq given in each stream.

        Raises:
            LocalProtocolError: a record is not of the catalogue, or no block can hold it.
            StoreError: nothing was committed; the store may work again later.
        """
        groups = by_stream(records)
        firsts: dict[Stream, int] = {}
        with self._transaction() as (db, stamp):
            lost = self._reports.copy()
            for table in self._tables.values():
                lost += self._age(table, stamp)
            for stream, group in groups.items():
                firsts[stream] = self._tables[stream].head.seq + 1
                lost += self._put(stream, group, stamp)
            self._said.clear()
            while lost:
                self._said += lost
                lost = self._put(Stream.ALARM, lost, stamp)
            if remember is not None:
                db.execute("UPDATE store SET remembered = ?", (remember,))
        self._reports.clear()
        if remember is not None:
            self.remembered = remember
        self._sure = self._found()
        return firsts

    def _put(self, stream: Stream, records: Sequence[Record], stamp: Stamp) -> list[Record]:
        """Add one block, or more when one cannot hold it. Returns alarms about what had to go for it."""
        table = self._tables[stream]
        first = table.head.seq + 1
        try:
            raw = self._blocks.records(stream, first, records, stamp)
        except LocalProtocolError:
            if len(records) == 1:
                raise
            half = len(records) // 2
            return self._put(stream, records[:half], stamp) + self._put(stream, records[half:], stamp)
        head = Head(first + len(records) - 1, link(table.head.hash, raw))
        table.add(raw, head, self._powered_s(stamp))

        return self._alarms(table, table.shed(self._make_gap(stream, stamp)), stamp)

    def _age(self, table: Table, stamp: Stamp) -> list[Record]:
        """Let go of what is older than its stream may get. Returns alarms about what the depot never had."""
        oldest_s = self._powered_s(stamp) - self._retention_s[table.stream]
        loss = table.age(oldest_s, self._make_gap(table.stream, stamp))
        return [] if loss is None else self._alarms(table, [loss], stamp)

    def _make_gap(self, stream: Stream, stamp: Stamp) -> MakeGap:
        return lambda first, last, gap: self._blocks.gap(stream, first, last, gap, stamp)

    def _alarms(self, table: Table, losses: Sequence[Loss], stamp: Stamp) -> list[Record]:
        return [
            QUEUE_SHED.make(
                stamp.boot_ns, stream=table.stream.value, first_seq=loss.first, last_seq=loss.last,
                reason=loss.reason,
            )
            for loss in losses
        ]  # fmt: skip

    # --- the way to the fleet -----------------------------------------------------------------------

    def read_batch(self, stream: Stream, after_seq: int, max_bytes: int) -> Run | None:
        """Blocks after ``after_seq`` up to ``max_bytes``, one at least; None when there is nothing newer."""
        with self._using():
            found = self._tables[stream].run(after_seq, max_bytes)
            if found is None:
                return None
            before, head, blocks = found
            used = {block.header.segment for block in blocks}
            segments = tuple(self._segments[key] for key in used if key in self._segments)
            return Run(stream, self.epoch, before, head, tuple(block.raw for block in blocks), segments)

    def acknowledge(self, stream: Stream, epoch: bytes, upto: Head) -> Acked:
        """Take the depot's word that it has committed ``stream`` up to ``upto`` of the file ``epoch``."""
        with self._using():
            if epoch != self.epoch:
                return Acked.GONE
            return self._tables[stream].acknowledge(upto)

    def read_epoch(self) -> bytes:
        """That of the file in place: after damage the new one's, which ``epoch`` has at the next use only."""
        with self._using():
            return self.epoch

    def stats(self) -> dict[Stream, StreamStats]:
        with self._using():
            return {stream: table.stats for stream, table in self._tables.items()}

    def reseal(self, sealer: Sealer) -> None:
        """Seal what comes from now on to another fleet key: a new segment, saved with its first block."""
        self._sealer = sealer
        self._blocks = BlockWriter(self._boot_id, sealer)
        self._run_saved = False

    def heads(self) -> dict[Stream, Head]:
        return {stream: stats.head for stream, stats in self.stats().items()}

    def close(self) -> None:
        """Write what is only in memory and let go of the file. A store that cannot is closed all the same."""
        if self._db is not None:
            with contextlib.suppress(StoreError):
                self.append(())
        self._drop()
        self._owner.release()

    # --- the file -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """The open database; after an error it is opened, and read, anew at the next use."""
        try:
            yield self._db or self._open()
        except sqlite3.ProgrammingError:
            raise  # used wrongly (another thread): says nothing about the file
        except (sqlite3.Error, RemoteProtocolError) as error:
            self._drop()
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if isinstance(error, sqlite3.Error) and code not in _DAMAGED:
                raise StoreError(f"queue {self._path}: {error}; {ADVICE.get(code, LOOK)}") from error
            name = self._put_aside()
            raise StoreDamaged(f"queue {self._path} was damaged ({error}); it is kept as {name}") from error
        except BaseException:
            self._drop()
            raise

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[tuple[sqlite3.Connection, Stamp]]:
        with self._using() as db:
            stamp = self._clock()
            if not self._log_settled:
                self._settle_log(db)
            db.execute("BEGIN IMMEDIATE")
            if not self._run_saved:
                self._save_run(db, stamp)
            yield db, stamp
            for table in self._tables.values():
                table.save(self._powered_s(stamp) - self._keep_acked_s)
            schema.give_back(db)
            db.execute("COMMIT")
            self._run_saved = True

    def _open(self) -> sqlite3.Connection:
        try:
            self._rebuild()
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(
                f"queue {self._path}: cannot be opened: {error.strerror}; expected a file that user "
                f"{os.geteuid()} may read and write, in a folder of its own"
            ) from error
        db = self._db = schema.connect(self._path)
        schema.bring_up(db, self._path, self._device, self._entropy(EPOCH_BYTES))
        self._load(db)
        self._run_saved = self._log_settled = False
        if self._sure is None or self._sure.epoch != self.epoch:
            self._sure = self._found()
        elif self._sure != self._found():
            self._take_back(db, self._sure)
        return db

    def _load(self, db: sqlite3.Connection) -> None:
        """Read what is kept in memory."""
        device, self.epoch, self.remembered, boot_id, base_s = intact(
            db.execute("SELECT device, epoch, remembered, boot_id, powered_base_s FROM store").fetchone(),
            str, bytes, bytes | None, bytes | None, int,
        )  # fmt: skip
        if device != self._device:
            raise StoreError(
                f"queue {self._path} belongs to device {device!r}, not {self._device!r}: move the file away"
            )
        self._tables = self._fresh_tables(db, self.epoch)
        self._segments = {
            row[0]: Segment(*intact(row, bytes, bytes, int))
            for row in db.execute("SELECT id, ephemeral, generation FROM segment")
        }
        if boot_id != self._boot_id:
            base_s = max(table.powered_s for table in self._tables.values())
        self._powered_base_s = base_s

    def _found(self) -> _Sure:
        return _Sure(self.epoch, self.remembered, {stream: t.head for stream, t in self._tables.items()})

    def _settle_log(self, db: sqlite3.Connection) -> None:
        """Bring what an earlier connection left in SQLite's log into the database, before anything is added.

        If a sync of it failed, the kernel shows it and will never write it (fsync(2)): what is added behind
        it would be lost with it at a power cut.
        """
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._log_settled = True

    def _take_back(self, db: sqlite3.Connection, sure: _Sure) -> None:
        """Undo a commit of this run that failed at its sync, and that SQLite found whole in its log.

        Whoever asked for it was told that it was not made, and asks again. Nobody has read it. What it shed
        stays shed: the alarm about that goes with the next commit.
        """
        if not all(self._tables[stream].holds(head) for stream, head in sure.heads.items()):
            log.warning("a commit that had failed is there, and stays: it shed what was before it")
            self._sure = self._found()
            return
        self._settle_log(db)
        db.execute("BEGIN IMMEDIATE")
        for stream, head in sure.heads.items():
            self._tables[stream].take_back(head)
        db.execute("UPDATE store SET remembered = ?", (sure.remembered,))
        db.execute("COMMIT")
        self._reports = self._said.copy()
        self._load(db)

    def _save_run(self, db: sqlite3.Connection, stamp: Stamp) -> None:
        """Note this run's boot and segment, and forget segments that no row can need any more."""
        db.execute("UPDATE store SET boot_id = ?, powered_base_s = ?", (self._boot_id, self._powered_base_s))
        if self._sealer is not None:
            segment = self._sealer.segment
            self._segments[segment.id] = segment
            db.execute(
                "INSERT OR IGNORE INTO segment VALUES (?, ?, ?, ?)",
                (segment.id, segment.ephemeral, segment.generation, self._powered_s(stamp)),
            )
        ages = [table.oldest_powered_s for table in self._tables.values()]
        oldest = min((age for age in ages if age is not None), default=0)
        db.execute(
            "DELETE FROM segment WHERE powered_s < (SELECT max(powered_s) FROM segment WHERE powered_s < ?)",
            (oldest,),
        )

    def _powered_s(self, stamp: Stamp) -> int:
        """Boot time summed over boots, in s: an age that no wall clock can falsify."""
        return self._powered_base_s + stamp.boot_ns // _SECOND

    def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def _put_aside(self) -> str:
        """Rename a corrupt file; the next use salvages it into a fresh one. Its new name."""
        try:
            aside = self._quarantine.put_aside()
        except OSError as error:
            raise StoreError(f"queue {self._path} is damaged and cannot be renamed: {error}") from error
        log.error("queue was damaged and is put aside", path=str(self._path), kept_as=aside.name)
        self.damaged = aside.name
        self._reports = []
        return aside.name

    def _rebuild(self) -> None:
        """Make the file anew from the one that was put aside last, if there is none in its place."""
        aside = self._quarantine.waiting()
        if aside is None:
            return
        try:
            self._fill(aside, rows=True)
        except (sqlite3.Error, OSError) as error:
            self._quarantine.drop_new()
            self._salvages_failed += 1
            if self._salvages_failed < SALVAGE_TRIES:  # the disk may answer again
                raise StoreError(f"queue {self._path}: {aside.name} is not salvaged yet: {error}") from error
            log.error("nothing could be salvaged", kept_as=aside.name, detail=str(error))
            self._fill(aside, rows=False)
        self._salvages_failed = 0
        self._quarantine.take_place()
        self.damaged = aside.name

    def _fill(self, aside: Path, *, rows: bool) -> None:
        """Write a fresh file with what is true of ``aside``, and alarms with the counts of each stream."""
        epoch, stamp, new = self._entropy(EPOCH_BYTES), self._clock(), self._quarantine.new
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db, Carver(aside) as carver:
            new.chmod(0o600)
            schema.prepare(db)
            db.execute("PRAGMA synchronous = FULL")
            schema.migrate(db, 0, self._device, epoch)
            carved = carver.read() if rows else Carved()
            if carved.device not in (None, self._device):
                carved = Carved()
            self._tables = self._fresh_tables(db, epoch)
            self._segments = {}
            db.execute("BEGIN IMMEDIATE")
            saved = pour(db, list(self._tables.values()), carver, carved, self._blocks, stamp)
            alarms = [each.as_alarm(aside.name, carved, stamp) for each in saved]
            self._powered_base_s = max(table.powered_s for table in self._tables.values())
            self._save_run(db, stamp)
            while alarms:
                alarms = self._put(Stream.ALARM, alarms, stamp)
            db.execute("COMMIT")

    def _fresh_tables(self, db: sqlite3.Connection, epoch: bytes) -> dict[Stream, Table]:
        return {
            stream: Table(db, stream, self._quotas[stream], genesis(self._device, stream, epoch))
            for stream in Stream
        }
