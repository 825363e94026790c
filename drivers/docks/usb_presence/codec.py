"""What udev says of USB devices as lines of text, for either end. Sans-IO. docs/docks.md.

``=`` begins a new list, ``+1209:0d0c 1-1.2 SERIAL`` a device that is there (the serial may be missing),
``-1-1.2`` one that went, ``.`` the end of what came at once. Each ends in a newline. A decoder never raises.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

LINE_MAX = 256  # bytes; a USB serial has 126 characters at most
_THERE = re.compile(r"\+([0-9a-f]{4}):([0-9a-f]{4}) ([0-9]+-[0-9.]+)(?: ([^\x00-\x1f]+))?")
_GONE = re.compile(r"-([0-9]+-[0-9.]+)")


@dataclass(frozen=True, slots=True)
class There:
    """A device is plugged in at a port path."""

    vendor: str
    product: str
    path: str
    serial: str = ""

    def encode(self) -> bytes:
        """One line; a serial that does not fit one counts as none."""
        serial = "" if not self.serial.isprintable() else self.serial[:126]
        return f"+{self.vendor}:{self.product} {self.path} {serial}".rstrip().encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing is at a port path any more."""

    path: str

    def encode(self) -> bytes:
        return f"-{self.path}\n".encode()


@dataclass(frozen=True, slots=True)
class Mark:
    """``=``: forget what was there, a new list comes. ``.``: that was all."""

    sign: str

    def encode(self) -> bytes:
        return f"{self.sign}\n".encode()


BEGIN, END = Mark("="), Mark(".")
Said = There | Gone | Mark


class Decoder:
    """Bytes to what they say, however they are cut; a line that says nothing is dropped and counted."""

    def __init__(self) -> None:
        self._begun = b""
        self._skipping = False
        self.dropped: Counter[str] = Counter()

    def feed(self, data: bytes) -> Iterator[Said]:
        *lines, rest = (self._begun + data).split(b"\n")
        for line in lines:
            said = None if self._skipping or len(line) > LINE_MAX else _parse(line)
            self._skipping = False
            if said is None:
                self.dropped["line"] += 1
            else:
                yield said
        if len(rest) > LINE_MAX:
            rest, self._skipping = b"", True
        self._begun = rest


def _parse(line: bytes) -> Said | None:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return None
    if text in (BEGIN.sign, END.sign):
        return Mark(text)
    if found := _THERE.fullmatch(text):
        vendor, product, path, serial = found.groups()
        return There(vendor, product, path, serial or "")
    found = _GONE.fullmatch(text)
    return None if found is None else Gone(found[1])
