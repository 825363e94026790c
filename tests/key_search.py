"""Looks for keys, and parts of them, in bytes that must hold none: raw, hex, base64, Python's own form."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

PART = 8  # bytes of a key in a row that count as a find: chance would need 2**64 tries


def forms(key: bytes) -> set[bytes]:
    """Every way in which a part of a key may be written."""
    found: set[bytes] = set()
    for start in range(len(key) - PART + 1):
        part = key[start : start + PART]
        found |= {part, part[::-1], part.hex().encode(), part.hex().upper().encode(), part.hex(" ").encode()}
        found |= {part.hex(":").encode(), str(list(part))[1:-1].encode()}
        found |= {json.dumps(list(part), separators=(",", ":"))[1:-1].encode()}
        shown = repr(part)[2:-1].replace("\\'", "'")  # a quote is escaped or not, as the whole has others
        found |= {shown.encode(), shown.replace("'", "\\'").encode()}
        for shift in range(3):
            # Characters that do not depend on what stands before and after the part.
            whole = base64.b64encode(bytes(shift) + part)[-(-shift * 8 // 6) : (shift + PART) * 8 // 6]
            found |= {whole, whole.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def finds(data: bytes, keys: Iterable[bytes]) -> list[bytes]:
    """The forms of the keys that occur in the bytes."""
    return [form for key in keys for form in forms(key) if form in data]
