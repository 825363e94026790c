"""The tables of the queue's file. Imported only when the file is new or old: sqlite-utils takes its time."""

from __future__ import annotations

import sqlite3

import sqlite_utils

from agent.core.records import Stream


def migrate(connection: sqlite3.Connection, version: int, device: str, epoch: bytes) -> None:
    """Bring a file of ``version`` (0: empty) to the newest one.

    Each version adds its step here, and a step never changes after a release. A step may run again after
    a crash: the version is written last, with what must be there once.
    """
    if version < 1:
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
