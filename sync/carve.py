"""Reads rows out of a SQLite file that SQLite itself refuses: page by page, whatever is left of it.

Follows the file format (sqlite.org/fileformat2.html, 1.5 and 1.6, and 4.1 for the log) as far as the tables
of ``sync/schema.py`` need it. Every leaf page of a table is looked at, in the database and in its log, with
no use of the schema or the tree above it, so one bad page costs the rows on it and those that overflow
into it. Nothing is written. Whether a row is true is for the caller to see, by its chain.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.core.records import Stream
from sync.blocks import HASH_BYTES, Block, Head, parse_block
from sync.columns import MAX_BODY
from sync.envelope import EPOCH_BYTES
from sync.errors import RemoteProtocolError
from sync.keys import KEY_BYTES
from sync.sealing import SEGMENT_BYTES, Segment

_OUR_PAGE = 1024  # bytes; what the store makes, where the file's own word is gone
_TABLE_LEAF = 0x0D
_LOG_HEADER, _FRAME_HEADER = 32, 24
_LOG_MAGIC = {b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"}
_MAX_PAYLOAD = MAX_BODY + 1024
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_STREAMS = {stream.value: stream for stream in Stream}

_Value = int | bytes | str | None


class _Unreadable(Exception):
    """A cell that is not one, or not whole."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row's cell is: the log's frames come after the database's pages."""

    in_log: bool
    page_at: int
    cell_at: int


@dataclass(frozen=True, slots=True)
class Found:
    """A row of a stream, as it was written or as damage left it."""

    hash: bytes
    powered_s: int
    block: Block


@dataclass(slots=True)
class Carved:
    """What is in a file. ``rows``: by stream and sequence number, all versions, the newest last."""

    device: str | None = None
    epoch: bytes | None = None
    acked: dict[Stream, Head] = field(default_factory=dict)
    segments: dict[bytes, tuple[Segment, int]] = field(default_factory=dict)  # with powered_s
    rows: dict[Stream, dict[int, list[Place]]] = field(
        default_factory=lambda: {stream: {} for stream in Stream}
    )


class Carver:
    """An open damaged file. ``read`` looks through all of it once; ``row`` gives one row again.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._closing = contextlib.ExitStack()
        try:
            self._data = self._map(path)
            log = path.with_name(path.name + "-wal")
            self._log = self._map(log) if log.exists() else b""
        except BaseException:
            self._closing.close()
            raise
        self._page = self._page_bytes()
        self._frames = list(self._log_frames())
        self._newest = dict(self._frames)  # page number: its newest frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def read(self) -> Carved:
        """Everything that can be told from the file."""
        carved = Carved()
        for in_log, page_at in self._pages():
            source = self._log if in_log else self._data
            if source[page_at] != _TABLE_LEAF:
                continue
            for cell_at in self._cells(source, page_at):
                place = Place(in_log, page_at, cell_at)
                with contextlib.suppress(_Unreadable, RemoteProtocolError):
                    self._note(carved, place)
        return carved

    def row(self, place: Place) -> Found:
        """The row at a place that ``read`` gave."""
        found = self._as_row(*self._cell(place))
        if found is None:
            raise _Unreadable
        return found

    def _note(self, carved: Carved, place: Place) -> None:
        number, values = self._cell(place)
        match values:
            case [None, int(), int(), bytes(), bytes()]:
                found = self._as_row(number, values)
                if found is not None:
                    rows = carved.rows[found.block.header.stream]
                    rows.setdefault(number, []).append(place)
            case [str() as name, int() as seq, bytes() as digest, int(), bytes()] if name in _STREAMS:
                known = carved.acked.get(_STREAMS[name])
                if len(digest) == HASH_BYTES and (known is None or seq > known.seq):
                    carved.acked[_STREAMS[name]] = Head(seq, digest)
            case [bytes() as key, bytes() as ephemeral, int() as generation, int() as powered_s]:
                if len(key) == SEGMENT_BYTES and len(ephemeral) == KEY_BYTES:
                    carved.segments[key] = (Segment(key, ephemeral, generation), powered_s)
            case [str() as device, bytes() as epoch, *_] if len(values) == 5 and len(epoch) == EPOCH_BYTES:
                carved.device, carved.epoch = device, epoch

    def _as_row(self, number: int, values: list[_Value]) -> Found | None:
        match values:
            case [None, int(), int() as powered_s, bytes() as digest, bytes() as raw]:
                block = parse_block(raw)
                if block.header.last_seq == number and len(digest) == HASH_BYTES:
                    return Found(digest, powered_s, block)
        return None

    # --- files ----------------------------------------------------------------------------------------

    def _map(self, path: Path) -> bytes | mmap.mmap:
        file = self._closing.enter_context(path.open("rb"))
        if path.stat().st_size == 0:
            return b""
        return self._closing.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def _page_bytes(self) -> int:
        said = [int.from_bytes(self._data[16:18], "big"), int.from_bytes(self._log[8:12], "big")]
        sizes = [65536 if size == 1 else size for size in said]
        return next((size for size in sizes if size >= 512 and size & (size - 1) == 0), _OUR_PAGE)

    def _log_frames(self) -> Iterator[tuple[int, int]]:
        """Page number and place of the content of each frame that belongs to the log.

        What a checksum says of a frame is not asked: it covers all frames before it, so one bad bit
        would cost all that follows.
        """
        salts = bytes(self._log[16:24])
        if bytes(self._log[:4]) not in _LOG_MAGIC:
            salts = bytes(self._log[_LOG_HEADER + 8 : _LOG_HEADER + 16])
        step = _FRAME_HEADER + self._page
        for at in range(_LOG_HEADER, len(self._log) - step + 1, step):
            if self._log[at + 8 : at + 16] == salts:
                yield int.from_bytes(self._log[at : at + 4], "big"), at + _FRAME_HEADER

    def _pages(self) -> Iterator[tuple[bool, int]]:
        # The first page holds the schema alone.
        for at in range(self._page, len(self._data) - self._page + 1, self._page):
            yield False, at
        for number, at in self._frames:
            if number != 1:
                yield True, at

    # --- cells ----------------------------------------------------------------------------------------

    def _cells(self, source: bytes | mmap.mmap, page_at: int) -> list[int]:
        """Where the cells of a leaf page are, in it."""
        count = int.from_bytes(source[page_at + 3 : page_at + 5], "big")
        if 8 + 2 * count > self._page:
            return []
        table = source[page_at + 8 : page_at + 8 + 2 * count]
        found = [int.from_bytes(table[n : n + 2], "big") for n in range(0, len(table), 2)]
        return [at for at in found if 8 + 2 * count <= at < self._page]

    def _cell(self, place: Place) -> tuple[int, list[_Value]]:
        """Row id and values."""
        source = self._log if place.in_log else self._data
        page = bytes(source[place.page_at : place.page_at + self._page])
        size, at = _varint(page, place.cell_at)
        number, at = _varint(page, at)
        if size > _MAX_PAYLOAD:
            raise _Unreadable
        local = self._local_bytes(size)
        payload = page[at : at + local]
        if local < size:
            following = int.from_bytes(page[at + local : at + local + 4], "big")
            payload += self._overflow(following, size - local)
        if len(payload) != size:
            raise _Unreadable
        return number, _values(payload)

    def _local_bytes(self, size: int) -> int:
        """How much of a payload is on its leaf page (1.6, "cell payload overflow pages")."""
        if size <= self._page - 35:
            return size
        least = (self._page - 12) * 32 // 255 - 23
        some = least + (size - least) % (self._page - 4)
        return some if some <= self._page - 35 else least

    def _overflow(self, number: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            frame = self._newest.get(number)
            at = (number - 1) * self._page if frame is None else frame
            source = self._data if frame is None else self._log
            if number == 0 or at + self._page > len(source):
                raise _Unreadable
            part = bytes(source[at + 4 : at + 4 + min(size, self._page - 4)])
            number = int.from_bytes(source[at : at + 4], "big")
            size -= len(part)
            parts.append(part)
        return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for n in range(9):
        if at + n >= len(data):
            raise _Unreadable
        byte = data[at + n]
        if n == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + n + 1
    raise _Unreadable


def _values(payload: bytes) -> list[_Value]:
    """The columns of a record (2.1)."""
    end, at = _varint(payload, 0)
    if end > len(payload):
        raise _Unreadable
    kinds = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[_Value] = []
    at = end
    for kind in kinds:
        length = _INTEGER_BYTES.get(kind, 0) if kind < 12 else (kind - 12) // 2
        part = payload[at : at + length]
        at += length
        if len(part) != length or kind in (7, 10, 11):  # a float, which no table of ours has, or reserved
            raise _Unreadable
        if kind in _INTEGER_BYTES:
            values.append(int.from_bytes(part, "big", signed=True))
        elif kind in (8, 9):
            values.append(kind - 8)
        elif kind == 0:
            values.append(None)
        else:
            values.append(part if kind % 2 == 0 else part.decode(errors="replace"))
    return values
