"""The tables of the queue's file. sqlite-utils is imported only for a new or old file."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from agent.core.records import Stream

if TYPE_CHECKING:
    import sqlite_utils

_OURS = {"store", "segment", "cursor", *(stream.value for stream in Stream)}


def foreign(connection: sqlite3.Connection) -> str | None:
    """A table that no version of the queue has, in a file that says nothing of its version."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return next((name for (name,) in rows if name not in _OURS and not name.startswith("sqlite_")), None)


def migrate(connection: sqlite3.Connection, version: int, device: str, epoch: bytes) -> None:
    """Bring a file of ``version`` (0: empty) to the newest one.

    Each version adds its step here, and a step never changes after a release. A step may run again after
    a crash: the version is written last, with what must be there once.
    """
    if version < 1:
        import sqlite_utils

        _first(sqlite_utils.Database(connection, execute_plugins=False))
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO store (device, epoch, powered_base_s) VALUES (?, ?, 0)", (device, epoch)
        )
        connection.execute("PRAGMA user_version = 1")
        connection.execute("COMMIT")


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
