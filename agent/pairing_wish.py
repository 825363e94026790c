"""What a caller of `dock.pair` wants, checked; and the key that `--key-file` hands over past the socket."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.control import Refusal
from agent.pairings import KEY_BYTES

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
HANDOVER = re.compile(r"handover-[0-9a-f]{16}")
VEHICLE_MAX = 17  # characters; docs/dock-link.md
KEY_FILE_MAX = 256  # bytes that are read of a key file; ours


@dataclass(frozen=True, slots=True)
class Wish:
    model: str = "reference"
    port: str | None = None
    name: str | None = None
    vehicle_id: str | None = None
    replace: bool = False  # the name may be that of another dock, which is gone
    key: bytes | None = field(default=None, repr=False)  # None: a new one is made


def wish(args: Mapping[str, Any], runtime_dir: Path) -> Wish:
    """Read the arguments; a key that was handed over is taken in, and its file removed. Raises Refusal."""
    unknown = set(args) - {"model", "port", "name", "vehicle_id", "handover", "replace", "token"}
    replace = args.get("replace", False)
    bad = [name for name, value in args.items() if name != "replace" and not isinstance(value, str)]
    bad += [] if isinstance(replace, bool) else ["replace"]
    if unknown or bad:
        raise Refusal("bad_request", f"expected text and known names; came {sorted({*unknown, *bad})}")
    name, vehicle_id, port = args.get("name"), args.get("vehicle_id"), args.get("port")
    if name is not None and not NAME.fullmatch(name):
        raise Refusal("bad_request", f"name {name!r}: expected letters, digits, `.`, `_` and `-`, at most 64")
    if vehicle_id is not None and not (
        0 < len(vehicle_id) <= VEHICLE_MAX and vehicle_id.isascii() and vehicle_id.isprintable()
    ):
        raise Refusal("bad_request", f"vehicle {vehicle_id!r}: expected 1 to {VEHICLE_MAX} ASCII characters")
    if port is not None and not port.startswith("/"):
        raise Refusal("bad_request", f"port {port!r}: expected a path such as /dev/ttyACM0")
    key = _handed_over(args["handover"], runtime_dir) if "handover" in args else None
    return Wish(args.get("model", "reference"), port, name, vehicle_id, replace, key)


def _handed_over(name: str, runtime_dir: Path) -> bytes:
    if not HANDOVER.fullmatch(name):
        raise Refusal("bad_request", "handover: expected the name of a file that ivmactl made")
    file = runtime_dir / name
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as handed:
            told = os.fstat(descriptor)
            private = stat.S_ISREG(told.st_mode) and told.st_uid == os.geteuid() and not told.st_mode & 0o077
            text = handed.read(KEY_FILE_MAX)
        file.unlink()
    except OSError as error:
        raise Refusal("no_key", f"the key cannot be taken over: {error.strerror}", "try again") from None
    if not private:
        raise Refusal("no_key", "the key was handed over in a file that is not ours alone", "try again")
    try:
        key = bytes.fromhex(text.decode().strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        # Without the text: it may be most of a key.
        raise Refusal(
            "bad_request", f"the key file does not hold a key of {2 * KEY_BYTES} hex digits"
        ) from None
    return key
