"""`ivmactl queue verify | salvage | export | stats`: the queue's file of a tablet whose agent is dead."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import sqlite3
import sys
from pathlib import Path
from typing import Any

from sync import offline
from sync.clock import SystemClock, boot_id
from sync.envelope import EPOCH_BYTES
from sync.errors import RemoteProtocolError, StoreError, StoreInUse

OK, NOT_WELL, USAGE, REFUSED = 0, 1, 2, 4  # docs/operating.md
DEFAULT_FILE = Path("/var/lib/ivma/queue.db")  # [paths] state_dir by default
_COLUMNS = ("head", "acknowledged", "pending", "oldest", "bytes")


def add(what: Any, common: argparse.ArgumentParser) -> None:
    """What `ivmactl queue` can do without an agent."""
    file = argparse.ArgumentParser(add_help=False)
    file.add_argument(
        "--file", type=Path, default=DEFAULT_FILE, metavar="PATH", help=f"the queue's file [{DEFAULT_FILE}]"
    )
    parents = [common, file]
    stats = what.add_parser("stats", parents=parents, help="where each stream stands, and the file's size")
    stats.set_defaults(offline=_stats)
    verify = what.add_parser("verify", parents=parents, help="prove every row by its chain")
    verify.set_defaults(offline=_verify)
    export = what.add_parser("export", parents=parents, help="chains, blocks and segments as JSON lines")
    export.add_argument("out", type=Path, metavar="FILE", help="made, readable by you alone")
    export.set_defaults(offline=_export)
    salvage = what.add_parser("salvage", parents=parents, help="what can be saved of a damaged file")
    way = salvage.add_mutually_exclusive_group()
    way.add_argument("--into", type=Path, metavar="FILE", help="write it to a new queue; the old one stays")
    way.add_argument(
        "--put-aside", action="store_true", help="rename the file: the agent's next start makes a new one"
    )
    salvage.set_defaults(offline=_salvage)
    for each in (stats, verify, export, salvage):
        each.set_defaults(run=_run, connect=_nobody)


def _nobody(_path: Path, user: str | None = None) -> contextlib.AbstractContextManager[None]:
    """The agent is dead; if it is not, its lock says so."""
    return contextlib.nullcontext()


def _run(_client: None, options: argparse.Namespace) -> int:
    try:
        with offline.alone(options.file):
            code: int = options.offline(options)
            return code
    except StoreInUse as error:
        return _complain(REFUSED, f"{error}: stop that agent first, or ask it: `ivmactl queue`")
    except PermissionError as error:
        return _complain(REFUSED, f"{error.filename}: permission denied: ask as root, or as the agent's user")
    except (sqlite3.DatabaseError, RemoteProtocolError) as error:
        hint = "`ivmactl queue verify` says more, `ivmactl queue salvage` what can be saved"
        return _complain(NOT_WELL, f"queue {options.file} is damaged: {error}: {hint}")
    except (StoreError, OSError) as error:
        return _complain(USAGE, str(error))


def _complain(code: int, words: str) -> int:
    print(f"ivmactl: {words}", file=sys.stderr)
    return code


def _stats(options: argparse.Namespace) -> int:
    found = offline.stats(options.file)
    if options.json:
        print(json.dumps(found))
        return OK
    print("  ".join(f"{name} {value}" for name, value in found.items() if name != "streams"))
    _table(
        [("stream", *_COLUMNS), *((s, *(each[c] for c in _COLUMNS)) for s, each in found["streams"].items())]
    )
    return OK


def _verify(options: argparse.Namespace) -> int:
    found = offline.verify(options.file)
    if options.json:
        print(json.dumps(found))
    else:
        columns = ("first_seq", "last_seq", "acknowledged", "blocks", "records")
        rows = ((name, *(each[c] for c in columns)) for name, each in found["streams"].items())
        _table([("stream", *(column.replace("_seq", "") for column in columns)), *rows])
        for name, each in found["streams"].items():
            for gap in each["gaps"]:
                print(f"gap: {name} {gap['first_seq']} to {gap['last_seq']}: {gap['reason']}")
        for problem in found["problems"]:
            print(f"problem: {problem}")
    return OK if found["ok"] else NOT_WELL


def _export(options: argparse.Namespace) -> int:
    part = options.out.with_name(f"{options.out.name}.part")
    blocks = 0
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            for line in offline.export(options.file):
                blocks += "block" in line
                out.write(json.dumps(line) + "\n")
        part.replace(options.out)
    finally:
        part.unlink(missing_ok=True)
    print(json.dumps({"file": str(options.out), "blocks": blocks}) if options.json else f"{blocks} blocks")
    return OK


def _salvage(options: argparse.Namespace) -> int:
    saved = offline.salvage(
        options.file, options.into, SystemClock()(), boot_id(), secrets.token_bytes(EPOCH_BYTES)
    )
    kept_as = offline.put_aside(options.file) if options.put_aside else None
    columns = ("acked", "saved", "lost", "first_lost", "last_lost")
    found = {each.stream.value: {column: getattr(each, column) for column in columns} for each in saved}
    if options.json:
        print(json.dumps({"streams": found, "kept_as": None if kept_as is None else str(kept_as)}))
    else:
        _table([("stream", *columns), *((s, *each.values()) for s, each in found.items())])
        if kept_as is not None:
            print(f"kept as {kept_as}; the agent's next start makes a new queue of it")
    return NOT_WELL if any(each.lost for each in saved) else OK


def _table(rows: list[tuple[Any, ...]]) -> None:
    words = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*words, strict=True)]
    for row in words:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
