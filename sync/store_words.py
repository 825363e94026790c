"""What the store says of errors, and how records are sorted before they are stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from agent.core.catalogue import CATALOGUE
from agent.core.records import Record, RecordKind, Stream
from sync.errors import LocalProtocolError

# What to do about a code of SQLite's; ``LOOK`` about any other.
ADVICE = {
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_READONLY: "the disk or the file is read-only: check the mount and the permissions",
    sqlite3.SQLITE_IOERR: "the disk reports errors: check it and the kernel's log",
    sqlite3.SQLITE_CANTOPEN: "check that the folder exists and may be written to",
    sqlite3.SQLITE_BUSY: "another program has the file open: close it",
}
LOOK = "look at the folder and the kernel's log"


def by_stream(records: Sequence[Record]) -> dict[Stream, list[Record]]:
    """The records of each stream, in order.

    Raises:
        LocalProtocolError: one is not of the catalogue.
    """
    groups: dict[Stream, list[Record]] = {}
    kind: RecordKind | None = None
    group: list[Record] = []
    for record in records:
        if record.kind is not kind:
            kind = record.kind
            if CATALOGUE.get(kind.name) is not kind:
                raise LocalProtocolError(f"record {kind.name} is not declared in the catalogue")
            group = groups.setdefault(kind.stream, [])
        group.append(record)
    return groups
