"""`ivmactl trace show | export`: the agent's black box, read from its folder, also when the agent is dead."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli import text
from agent.cli.client import NOT_RUNNING, NOT_WELL, OK, REFUSED, USAGE, Client, ClientError

if TYPE_CHECKING:
    from agent.trace_format import Damage, Entry

DEFAULT_FOLDER = Path("/var/lib/ivma/trace")  # [paths] state_dir by default
ALONE = "is the agent dead, and its state folder elsewhere? name the folder of its trace with --folder"


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    trace = commands.add_parser("trace", help="the black box: what the agent saw and decided")
    what = trace.add_subparsers(required=True, metavar="WHAT")
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument(
        "--folder", type=Path, default=DEFAULT_FOLDER, metavar="PATH",
        help=f"where the trace of an agent is that does not run [{DEFAULT_FOLDER}]",
    )  # fmt: skip
    show = what.add_parser("show", parents=[common, folder], help="the newest entries")
    show.add_argument("-n", "--last", type=_count, default=50, metavar="N", help="how many [50]")
    show.set_defaults(run=_show, connect=if_running)
    export = what.add_parser("export", parents=[common, folder], help="all of it into one file")
    export.add_argument("file", type=Path, metavar="FILE", help="made, readable by you alone")
    export.set_defaults(run=_export, connect=if_running)


def if_running(path: Path, user: str) -> contextlib.AbstractContextManager[Client | None]:
    """A client of the agent, which records who looks and writes what it still holds; None when it is dead."""
    try:
        return Client(path, user=user)
    except ClientError as error:
        if error.code != NOT_RUNNING:
            raise
        return contextlib.nullcontext()


def _count(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, came {number}")
    return number


def _folder(client: Client | None, options: argparse.Namespace) -> Path:
    if client is None:
        return Path(options.folder)
    return Path(client.ask("trace", options.reason, {})["folder"])


def _show(client: Client | None, options: argparse.Namespace) -> int:
    from agent.trace_format import Damage, read_path  # 50 ms of imports that no other verb needs
    from agent.trace_text import lines

    newest: deque[Entry | Damage] = deque(maxlen=options.last)
    damaged = False
    with _readable():
        for entry in read_path(_folder(client, options)):
            newest.append(entry)
            damaged = damaged or isinstance(entry, Damage)
    for entry in newest:
        if options.json:
            text.show_json(_plain(entry))
        else:
            print("\n".join(lines(entry)))
    return NOT_WELL if damaged or not newest else OK


def _export(client: Client | None, options: argparse.Namespace) -> int:
    from agent.trace_format import files  # as above

    with _readable():
        segments = files(_folder(client, options))
    part = options.file.with_name(f"{options.file.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            for segment in segments:
                # The ring may give up its oldest segment meanwhile.
                with contextlib.suppress(FileNotFoundError), _readable(), segment.open("rb") as into:
                    shutil.copyfileobj(into, out)
            size = out.tell()
        part.replace(options.file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ClientError(USAGE, f"{options.file}: cannot be written: {error.strerror}", "") from error
    result = {"file": str(options.file), "segments": len(segments), "bytes": size}
    if options.json:
        text.show_json(result)
    else:
        print(text.details(result))
    return OK


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """What goes wrong with reading a trace, as the client's errors."""
    from agent.trace_format import TraceError  # as above

    try:
        yield
    except PermissionError as error:
        raise ClientError(
            REFUSED, f"{error.filename}: permission denied", "ask as root, or as the agent's own user"
        ) from error
    except TraceError as error:
        raise ClientError(NOT_WELL, str(error), ALONE) from error


def _plain(entry: Entry | Damage) -> dict[str, Any]:
    """An entry as JSON: its kind, and its fields by name; bytes as hexadecimal digits."""
    from agent.trace_format import Damage  # as above

    if isinstance(entry, Damage):
        return {"entry": "damage", "offset": entry.offset, "size": entry.size, "problem": entry.problem}
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return {"entry": type(entry).__name__.lower(), **{name: _json(value) for name, value in fields.items()}}


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(name): _json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json(each) for each in value]
    return value
