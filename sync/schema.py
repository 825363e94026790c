"""The queue's file: its tables, how it is opened, and how an older one becomes one of today.

sqlite-utils is imported only for a new or old file.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.records import Stream
from sync.errors import RemoteProtocolError, StoreError

if TYPE_CHECKING:
    import sqlite_utils

VERSION = 2
# Measured (tests/bench/bench_store.py): 1,024 writes the fewest bytes a commit, for one record as for a
# hundred, at the rate of 4,096. It counts only when the file is made.
_PAGE_BYTES = 1024
# SQLite copies its log into the database after so many pages, and then begins at the log's start again.
_LOG_PAGES = 1000
# Ours: what a commit larger than that leaves of the log when it begins again. Truncating costs a write of
# the file's inode, so what an everyday log reaches is left alone.
LOG_BYTES = 2 * 1024 * 1024
# Ours: free pages that stay in the file for the next rows; what is beyond goes back to the disk.
FREE_PAGES = 2048
_RETURN_PAGES = 256  # ours: at most so many pages go back with one commit, which bounds its time
_INCREMENTAL = 2
_OURS = {"store", "segment", "cursor", *(stream.value for stream in Stream)}


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the file at ``path`` that nobody else has."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        if path.stat().st_size == 0:
            prepare(db)  # SQLite would write into an old one at each start
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # no shared memory file: a tenth faster
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    except BaseException:
        db.close()  # else whoever keeps the error keeps the file locked
        raise
    return db


def prepare(db: sqlite3.Connection) -> None:
    """Say what can only be said of a file before it has anything in it."""
    db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    db.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")


def bring_up(db: sqlite3.Connection, path: Path, device: str, epoch: bytes) -> None:
    """Make the tables of a new file; bring an old one to this version.

    Raises:
        StoreError: a newer agent wrote it.
        RemoteProtocolError: ``foreign``: another program did.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise StoreError(
            f"queue {path} has format {version}, newer than {VERSION}: "
            "install the agent that wrote it, or move the file away"
        )
    if version < VERSION:
        if found := foreign(db):
            raise RemoteProtocolError("foreign", f"it is no queue: it has a table {found}")
        migrate(db, version, device, epoch)


def foreign(connection: sqlite3.Connection) -> str | None:
    """A table that no version of the queue has, in a file that says nothing of its version."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return next((name for (name,) in rows if name not in _OURS and not name.startswith("sqlite_")), None)


def migrate(connection: sqlite3.Connection, version: int, device: str, epoch: bytes) -> None:
    """Bring a file of ``version`` (0: empty) to the newest one.

    Each version adds its step here, and a step never changes after a release. A step may run again after
    a crash: the version is written last, with what must be there once.
    """
    import sqlite_utils

    database = sqlite_utils.Database(connection, execute_plugins=False)
    if version < 1:
        _first(database)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO store (device, epoch, powered_base_s) VALUES (?, ?, 0)", (device, epoch)
        )
        connection.execute("PRAGMA user_version = 1")
        connection.execute("COMMIT")
    if version < 2:
        _second(database)


def _first(database: sqlite_utils.Database) -> None:
    tables: dict[str, dict[str, type]] = {
        "store": {
            "device": str, "epoch": bytes, "remembered": bytes, "boot_id": bytes, "powered_base_s": int,
        },
        "segment": {"id": bytes, "ephemeral": bytes, "generation": int, "powered_s": int},
        "cursor": {
            "stream": str, "acked_seq": int, "acked_hash": bytes, "base_seq": int, "base_hash": bytes,
        },
    }  # fmt: skip
    for stream in Stream:
        # The row id is the block's last sequence number. The hash stands before the block, so that a walk
        # over the rows never reads a block's overflow pages.
        tables[stream.value] = {"seq": int, "total": int, "powered_s": int, "hash": bytes, "block": bytes}
    keys = {"store": None, "segment": "id", "cursor": "stream"}
    for name, columns in tables.items():
        database.table(name).create(columns, pk=keys.get(name, "seq"), if_not_exists=True)


def _second(database: sqlite_utils.Database) -> None:
    """A file that can give pages back to the disk: SQLite writes it anew for that.

    Where the disk has no room for that the file stays as it is, and works: the next start tries again.
    """
    db = database.conn
    if db.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
        try:
            db.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
            database.vacuum()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise
            return
    db.execute("PRAGMA user_version = 2")


def give_back(db: sqlite3.Connection) -> None:
    """Return some of the free pages to the disk, if there are many. Part of a transaction of the caller."""
    excess = db.execute("PRAGMA freelist_count").fetchone()[0] - FREE_PAGES
    for _ in range(min(excess, _RETURN_PAGES)):
        # One at a time: Python's sqlite3 takes one step of a statement that has no columns.
        db.execute("PRAGMA incremental_vacuum(1)")
