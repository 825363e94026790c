"""Blocks: the records of one commit of one stream, as stored, chained, sent and verified.

A block is a clear header of 68 bytes and a stored body. The body of records is compressed columns
(sync/columns.py), sealed if a fleet key is configured (sync/sealing.py). The body of a gap says why rows are
missing and carries the chain across them. The bytes of a block never change after its commit: the same ones
are hashed, kept, sent, verified and kept again. docs/queue-and-sync.md describes every field.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from agent.core.records import Record, Stream
from sync.columns import MAX_BODY, MAX_RECORDS, ColumnEncoder, Row, read_body
from sync.errors import LocalProtocolError, RemoteProtocolError

VERSION = 1
# version, stream, flags, quality, first seq, last seq, boot id, boot ns, wall ns, segment, nonce counter
_HEADER = struct.Struct(">BBBBQQ16sQq8sQ")
HEADER_BYTES = _HEADER.size
HASH_BYTES = 32
_MAX_I64 = 2**63 - 1  # what SQLite can hold; 292 years in ns

NO_SEGMENT = bytes(8)

# The numbers of the streams on the wire. Never reused.
STREAM_CODES = {Stream.ALARM: 1, Stream.AUDIT: 2, Stream.STATE: 3, Stream.TELEMETRY: 4}
_STREAMS = {code: stream for stream, code in STREAM_CODES.items()}


class Flags(enum.IntFlag):
    NONE = 0
    SEALED = 1
    GAP = 2


class Quality(enum.IntEnum):
    """How far the wall clock of a record can be trusted."""

    UNSET = 0  # never set since power-on: before any plausible date
    RTC = 1  # plausible, from the hardware clock or set by hand
    SYNCED = 2  # the kernel says that a time service keeps it


@dataclass(frozen=True, slots=True)
class Stamp:
    """Boot clock and wall clock read together."""

    boot_ns: int
    wall_ns: int
    quality: Quality


@dataclass(frozen=True, slots=True)
class Header:
    """What stays readable without any key. ``boot_ns`` and ``wall_ns`` are of the first record."""

    stream: Stream
    flags: Flags
    quality: Quality
    first_seq: int
    last_seq: int
    boot_id: bytes
    boot_ns: int
    wall_ns: int
    segment: bytes = NO_SEGMENT
    counter: int = 0

    def pack(self) -> bytes:
        return _HEADER.pack(
            VERSION, STREAM_CODES[self.stream], self.flags, self.quality, self.first_seq, self.last_seq,
            self.boot_id, self.boot_ns, self.wall_ns, self.segment, self.counter,
        )  # fmt: skip

    @property
    def count(self) -> int:
        return self.last_seq - self.first_seq + 1


@dataclass(frozen=True, slots=True)
class Block:
    """A block as stored: ``raw`` is the header and the body."""

    header: Header
    raw: bytes

    @property
    def body(self) -> bytes:
        return self.raw[HEADER_BYTES:]


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: the last sequence number and the hash over all up to it."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """What a gap block says: why rows are missing, and the chain before and after them."""

    reason: str
    before: bytes
    after: bytes


class BlockSealer(Protocol):
    """Encrypts bodies; see sync.sealing.Sealer."""

    @property
    def segment_id(self) -> bytes: ...
    def next_counter(self) -> int: ...
    def seal(self, plain: bytes, header: bytes, counter: int) -> bytes: ...


class BlockOpener(Protocol):
    """Decrypts bodies; see sync.sealing.Opener."""

    def open(self, block: Block) -> bytes: ...


# --- chain ------------------------------------------------------------------------------------------


def genesis(device: str, stream: Stream, epoch: bytes) -> Head:
    """The head of a chain before its first block. ``epoch`` is new with each fresh store file."""
    label = b"ivma-chain/1\0" + device.encode() + b"\0" + bytes([STREAM_CODES[stream]])
    return Head(0, hashlib.sha256(label + epoch).digest())


def link(previous: bytes, raw: bytes) -> bytes:
    """The chain's hash after a block of records: SHA-256(previous | header | stored body)."""
    return hashlib.sha256(previous + raw).digest()


def follow(head: Head, block: Block) -> Head:
    """The head after ``block``, which must continue the chain at ``head``.

    A gap may begin before the head's end: the tablet may have dropped what it did not yet know to be safe.

    Raises:
        RemoteProtocolError: ``sequence`` (numbers do not meet) or ``chain`` (hashes do not).
    """
    header = block.header
    if not header.flags & Flags.GAP:
        if header.first_seq != head.seq + 1:
            raise RemoteProtocolError(
                "sequence", f"{header.stream.value} block begins at {header.first_seq}, after {head.seq}"
            )
        return Head(header.last_seq, link(head.hash, block.raw))
    if not header.first_seq <= head.seq + 1 <= header.last_seq:
        raise RemoteProtocolError(
            "sequence",
            f"{header.stream.value} gap {header.first_seq} to {header.last_seq} does not meet {head.seq}",
        )
    gap = read_gap(block)
    if header.first_seq == head.seq + 1 and gap.before != head.hash:
        raise RemoteProtocolError("chain", f"{header.stream.value} gap after {head.seq} is of another chain")
    return Head(header.last_seq, gap.after)


# --- making blocks ----------------------------------------------------------------------------------


class BlockWriter:
    """Makes blocks of one device's boot. Not thread-safe: the compressor keeps its buffers."""

    def __init__(self, boot_id: bytes, sealer: BlockSealer | None = None) -> None:
        self._boot_id = boot_id
        self._sealer = sealer
        self._columns = ColumnEncoder()

    def records(self, stream: Stream, first_seq: int, records: Sequence[Record], stamp: Stamp) -> bytes:
        """One block of ``records``, in order, numbered from ``first_seq``.

        Raises:
            LocalProtocolError: a value that no block can hold, or more than fits one block.
        """
        body = self._columns.encode(records)
        at = records[0].at
        sealer = self._sealer
        header = Header(
            stream, Flags.SEALED if sealer else Flags.NONE, stamp.quality,
            first_seq, first_seq + len(records) - 1,
            self._boot_id, at, stamp.wall_ns - (stamp.boot_ns - at),
            sealer.segment_id if sealer else NO_SEGMENT, sealer.next_counter() if sealer else 0,
        )  # fmt: skip
        try:
            head = header.pack()
        except struct.error as error:
            raise LocalProtocolError(f"a record of {stream.value} at {at} ns cannot be stored") from error
        return head + (sealer.seal(body, head, header.counter) if sealer else body)

    def gap(self, stream: Stream, first_seq: int, last_seq: int, gap: Gap, stamp: Stamp) -> bytes:
        """A block in place of ``first_seq`` to ``last_seq``; it is never sealed."""
        header = Header(
            stream, Flags.GAP, stamp.quality, first_seq, last_seq, self._boot_id, stamp.boot_ns, stamp.wall_ns
        )
        return header.pack() + msgspec.msgpack.encode((gap.reason, gap.before, gap.after))


# --- reading blocks ---------------------------------------------------------------------------------


class _GapBody(msgspec.Struct, array_like=True, frozen=True):
    reason: str
    before: bytes
    after: bytes


_decode_gap = msgspec.msgpack.Decoder(_GapBody).decode


def parse_block(raw: bytes) -> Block:
    """Read the clear header. The body is not looked at.

    Raises:
        RemoteProtocolError: ``version`` or ``header``.
    """
    if len(raw) <= HEADER_BYTES or len(raw) > HEADER_BYTES + MAX_BODY + 64:
        raise RemoteProtocolError("header", f"a block of {len(raw)} bytes")
    (version, code, flags, quality, first, last, boot_id, boot_ns, wall_ns, segment, counter) = (
        _HEADER.unpack_from(raw)
    )
    if version != VERSION:
        raise RemoteProtocolError("version", f"block version {version}; this side reads {VERSION}")
    stream = _STREAMS.get(code)
    if stream is None or quality > Quality.SYNCED or flags not in (Flags.NONE, Flags.SEALED, Flags.GAP):
        raise RemoteProtocolError("header", f"stream {code}, flags {flags}, clock quality {quality}")
    if not 1 <= first <= last <= _MAX_I64 or boot_ns > _MAX_I64:
        raise RemoteProtocolError("header", f"sequence {first} to {last}, boot time {boot_ns} ns")
    if flags != Flags.GAP and last - first >= MAX_RECORDS:
        raise RemoteProtocolError("header", f"{last - first + 1} records, {MAX_RECORDS} at most")
    header = Header(
        stream, Flags(flags), Quality(quality), first, last, boot_id, boot_ns, wall_ns, segment, counter
    )
    return Block(header, raw)


def read_gap(block: Block) -> Gap:
    """What a gap block says.

    Raises:
        RemoteProtocolError: ``body``.
    """
    if not block.header.flags & Flags.GAP:
        raise RemoteProtocolError("body", "a block of records, not a gap")
    try:
        body = _decode_gap(block.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError("body", f"gap: {error}") from error
    if len(body.before) != HASH_BYTES or len(body.after) != HASH_BYTES:
        raise RemoteProtocolError("body", "gap: a hash is not 32 bytes long")
    return Gap(body.reason, body.before, body.after)


def read_rows(block: Block, opener: BlockOpener | None = None) -> list[tuple[int, Row]]:
    """The records of a block with their sequence numbers, in order; none for a gap.

    Raises:
        RemoteProtocolError: ``sealed`` (no key), ``seal`` (wrong key or altered) or ``body``.
    """
    if block.header.flags & Flags.GAP:
        return []
    stored = block.body
    if block.header.flags & Flags.SEALED:
        if opener is None:
            raise RemoteProtocolError("sealed", "the fleet's private key is needed to read this block")
        stored = opener.open(block)
    rows = read_body(stored, block.header.count, block.header.boot_ns)
    return list(enumerate(rows, block.header.first_seq))


def record_id(device: str, epoch: bytes, stream: Stream, seq: int) -> str:
    """The identity of a record, the same wherever it is computed: 32 hex digits."""
    name = f"ivma-record/1\0{device}\0{epoch.hex()}\0{stream.value}\0{seq}"
    return hashlib.sha256(name.encode()).hexdigest()[:32]
