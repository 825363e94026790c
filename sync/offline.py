"""A queue's file that no agent has open: looked at, proved, copied out and salvaged, and never written to.

SQLite opens it for reading alone, with its log, and leaves both as they are; what it refuses is carved.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.core.records import Stream
from sync import schema
from sync.blocks import BlockWriter, Flags, Head, Stamp, follow, genesis, parse_block, read_gap
from sync.carve import Carved, Carver
from sync.envelope import EPOCH_BYTES
from sync.errors import RemoteProtocolError, StoreError, StoreInUse
from sync.quarantine import Quarantine
from sync.salvage import Saved, pour
from sync.table import Table, intact

_ROWS = "SELECT seq, hash, block FROM {} ORDER BY seq"
_PROBLEMS = 20  # of SQLite's own check, ours: more say no more
_Line = dict[str, Any]


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep an agent from opening the queue at ``path`` meanwhile.

    Raises:
        StoreInUse: an agent has it open.
        StoreError: there is no such file.
    """
    if not path.is_file():
        raise StoreError(f"queue {path}: there is no such file")
    lock = path.with_name(f"{path.name}.lock")
    with contextlib.ExitStack() as closing:
        if lock.exists():  # of a copy there is none, and none is made: it could be another user's
            descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            closing.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 64).decode(errors="replace").strip() or "unknown"
                raise StoreInUse(f"queue {path} is in use by process {holder}") from None
        yield


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, read-only; SQLite's errors are the caller's."""
    shared = path.with_name(f"{path.name}-shm")
    new = not shared.exists()
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if not 1 <= version <= schema.VERSION:
            raise StoreError(f"queue {path} has format {version}; this program reads 1 to {schema.VERSION}")
        yield db
    finally:
        db.close()
        if new:
            shared.unlink(missing_ok=True)


def stats(path: Path) -> _Line:
    """Where each stream stands, and what the file takes of the disk.

    Raises:
        sqlite3.Error, RemoteProtocolError: the file is damaged.
    """
    with _opened(path) as db:
        device, epoch = _identity(db)
        streams = {}
        for stream in Stream:
            now = Table(db, stream, 0, genesis(device, stream, epoch)).stats
            streams[stream.value] = {
                "head": now.head.seq, "hash": now.head.hash.hex(), "acknowledged": now.acked.seq,
                "pending": now.pending, "oldest": now.base.seq + 1, "bytes": now.size,
            }  # fmt: skip
        page, free = (db.execute(f"PRAGMA {word}").fetchone()[0] for word in ("page_size", "freelist_count"))
        log = path.with_name(f"{path.name}-wal")
        return {
            "device": device, "epoch": epoch.hex(),
            "format": db.execute("PRAGMA user_version").fetchone()[0],
            "file_bytes": path.stat().st_size, "free_bytes": page * free,
            "log_bytes": log.stat().st_size if log.exists() else 0, "streams": streams,
        }  # fmt: skip


def verify(path: Path) -> _Line:
    """Whether every row is as it was written: SQLite's own check, each chain, and what the log hides."""
    problems: list[str] = []
    streams: dict[str, _Line] = {}
    try:
        with _opened(path) as db:
            for (word,) in db.execute(f"PRAGMA integrity_check({_PROBLEMS})"):
                if word != "ok":
                    problems.append(f"file: {word}")
            device, epoch = _identity(db)
            for stream in Stream:
                streams[stream.value] = _walk(db, stream, genesis(device, stream, epoch), problems)
    except (sqlite3.Error, RemoteProtocolError) as error:
        problems.append(f"file: {error}")
    with Carver(path) as carver:
        carved = carver.read()
    for stream in Stream:
        newest = max(carved.rows[stream], default=0)
        known = streams.get(stream.value, {}).get("last_seq", 0)
        if newest > known:
            problems.append(f"{stream.value}: traces of records up to {newest}, but {known} is the last row")
    return {"ok": not problems, "problems": problems, "streams": streams}


def export(path: Path) -> Iterator[_Line]:
    """Everything in the file as `ivma-depot export` has it: chains, their blocks, and segments.

    Raises:
        sqlite3.Error, RemoteProtocolError: the file is damaged.
    """
    with _opened(path) as db:
        device, epoch = _identity(db)
        for stream in Stream:
            table = Table(db, stream, 0, genesis(device, stream, epoch))
            yield {
                "chain": {
                    "device": device, "stream": stream.value, "epoch": epoch.hex(),
                    "after_seq": table.base.seq, "after": table.base.hash.hex(),
                    "last_seq": table.head.seq, "head": table.head.hash.hex(),
                }
            }  # fmt: skip
            for row in db.execute(_ROWS.format(stream.value)):
                seq, digest, raw = intact(row, int, bytes, bytes)
                yield {"block": {"last_seq": seq, "hash": digest.hex(), "raw": b64encode(raw).decode()}}
        for row in db.execute("SELECT id, ephemeral, generation FROM segment"):
            name, ephemeral, generation = intact(row, bytes, bytes, int)
            yield {
                "segment": {
                    "id": name.hex(), "ephemeral": b64encode(ephemeral).decode(), "generation": generation,
                }
            }  # fmt: skip


def salvage(path: Path, into: Path | None, stamp: Stamp, boot_id: bytes, epoch: bytes) -> list[Saved]:
    """What a start of the agent would save of the file; written to ``into``, a new queue, if one is named.

    Raises:
        StoreError: nothing says whose queue it was.
        FileExistsError: ``into`` is there already.
    """
    target: Path | str = ""  # SQLite's name for a database that is gone when it is closed
    part = into.with_name(f"{into.name}.part") if into is not None else None
    if into is not None and part is not None:
        if into.exists():
            raise FileExistsError(f"{into}: is there already")
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        target = part
    with Carver(path) as carver, contextlib.closing(sqlite3.connect(target, isolation_level=None)) as db:
        carved: Carved = carver.read()
        if carved.device is None:
            raise StoreError(f"queue {path}: nothing in it says which device it was of")
        schema.prepare(db)
        db.execute("PRAGMA synchronous = FULL")
        schema.migrate(db, 0, carved.device, epoch[:EPOCH_BYTES])
        tables = [Table(db, stream, 0, genesis(carved.device, stream, epoch)) for stream in Stream]
        db.execute("BEGIN IMMEDIATE")
        saved = pour(db, tables, carver, carved, BlockWriter(boot_id, None), stamp)
        db.execute("COMMIT")
    if into is not None and part is not None:
        part.rename(into)
    return saved


def put_aside(path: Path) -> Path:
    """Rename the file as the agent does with a damaged one: its next start salvages it."""
    return Quarantine(path).put_aside()


def _identity(db: sqlite3.Connection) -> tuple[str, bytes]:
    device, epoch = intact(db.execute("SELECT device, epoch FROM store").fetchone(), str, bytes)
    return device, epoch


def _walk(db: sqlite3.Connection, stream: Stream, start: Head, problems: list[str]) -> _Line:
    """Follow the chain of a stream from its first row to its last; what does not follow is a problem."""
    table = Table(db, stream, 0, start)
    head, records, blocks = table.base, 0, 0
    gaps: list[_Line] = []
    for row in db.execute(_ROWS.format(stream.value)):
        seq, digest, raw = intact(row, int, bytes, bytes)
        blocks += 1
        try:
            block = parse_block(raw)
            found = follow(head, block)
            if found != Head(seq, digest):
                raise RemoteProtocolError("chain", "it is not as it was written")
            if block.header.flags & Flags.GAP:
                first, last = block.header.first_seq, block.header.last_seq
                gaps.append({"first_seq": first, "last_seq": last, "reason": read_gap(block).reason})
            else:
                records += block.header.count
        except RemoteProtocolError as error:
            problems.append(f"{stream.value}: row {seq}: {error}")
        head = Head(seq, digest)  # each row is judged by itself
    if table.acked.seq > head.seq:
        problems.append(
            f"{stream.value}: acknowledged up to {table.acked.seq}, but {head.seq} is the last row"
        )
    return {
        "first_seq": table.base.seq + 1, "last_seq": head.seq, "head": head.hash.hex(),
        "acknowledged": table.acked.seq, "blocks": blocks, "records": records, "gaps": gaps,
    }  # fmt: skip
