"""Frames of the reference dock link: bytes to frames and back, for either end. Sans-IO.

On the wire: COBS( header | payload | trailer | crc32 ) 0x00, little-endian; docs/dock-link.md has the tables.
A decoder never raises on bytes. Tag and counter of a frame need the session's key: ``auth`` checks them.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import ClassVar, Self

from agent.core.quick import quick

VERSION = 1  # the version of the link that this module speaks
MAX_PAYLOAD = 200  # bytes; docs/dock-link.md
HEADER_SIZE, TRAILER_SIZE, TAG_SIZE, CRC_SIZE = 4, 12, 8, 4  # bytes; docs/dock-link.md
MAX_WHOLE = HEADER_SIZE + MAX_PAYLOAD + TRAILER_SIZE + CRC_SIZE
MAX_PACKET = MAX_WHOLE + 1  # COBS adds one byte to anything shorter than 254
ACK_WANTED, AUTHENTICATED = 1, 2  # flag bits; docs/dock-link.md
NOT_AVAILABLE_U16, NOT_AVAILABLE_I16 = 0xFFFF, 0x7FFF  # docs/dock-link.md
CANCEL_POWER_CUT = 0xFFFF  # seconds of POWER_CUT_IN; docs/dock-link.md
SERIAL_SIZE, VEHICLE_ID_SIZE, MAX_MODEL = 12, 17, 32  # bytes; docs/dock-link.md

_HEADER = struct.Struct("<BBBB")
_TRAILER = struct.Struct("<I8s")
_CRC = struct.Struct("<I")


class LocalProtocolError(ValueError):
    """We tried to make a frame that the link does not have. What a peer sends never raises."""


class Reason(enum.Enum):
    """Why a frame was dropped. A decoder and a session check in this order; the first failure counts."""

    COBS = "cobs"
    LENGTH = "length"
    CRC = "crc"
    VERSION = "version"
    FLAGS = "flags"
    TYPE = "type"
    TEXT = "text"
    TRAILER = "trailer"
    TAG = "tag"
    COUNTER = "counter"


class NakReason(enum.IntEnum):
    UNKNOWN_TYPE = 1
    BAD_LENGTH = 2
    BAD_TAG = 3
    REFUSED = 4
    NOT_AUTHENTICATED = 5


class Output(enum.IntFlag):
    """Bits of OUTPUTS, the same in mask and values."""

    LATCH = 1  # 1 is held closed
    LED = 2
    BUZZER = 4
    POWER_HOLD = 8
    SUPPLY_ENABLE = 16


class StatusBit(enum.IntFlag):
    """Bits of STATUS, the same in bits and known."""

    SEATED = 1
    MATED = 2
    LOCKED = 4
    KL15 = 8


@dataclass(frozen=True, slots=True)
class Message:
    """A payload of one type. Fields are what stands on the wire, in its order and units."""

    TYPE: ClassVar[int]
    LAYOUT: ClassVar[struct.Struct]
    HANDSHAKE: ClassVar[bool] = False  # never carries a trailer

    def payload(self) -> bytes:
        """The payload's bytes.

        Raises:
            LocalProtocolError: a field does not fit its place.
        """
        try:
            return _PACKERS[type(self)](self)
        except struct.error as error:
            raise LocalProtocolError(f"{self} does not fit its layout: {error}") from None

    @classmethod
    def parse(cls, payload: bytes) -> Self | Reason:
        if len(payload) != cls.LAYOUT.size:
            return Reason.LENGTH
        return cls(*cls.LAYOUT.unpack(payload))


@dataclass(frozen=True, slots=True)
class Hello(Message):
    TYPE, LAYOUT, HANDSHAKE = 0x01, struct.Struct("<BB8s"), True
    lowest: int
    highest: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Challenge(Message):
    TYPE, LAYOUT, HANDSHAKE = 0x02, struct.Struct("<16s"), True
    nonce: bytes


@quick
@dataclass(frozen=True, slots=True)
class Lease(Message):
    TYPE, LAYOUT = 0x03, struct.Struct("<I")
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Outputs(Message):
    TYPE, LAYOUT = 0x04, struct.Struct("<BB")
    mask: int
    values: int


@dataclass(frozen=True, slots=True)
class PowerCutIn(Message):
    TYPE, LAYOUT = 0x05, struct.Struct("<H")
    seconds: int


@dataclass(frozen=True, slots=True)
class Ping(Message):
    TYPE, LAYOUT = 0x06, struct.Struct("<I")
    opaque: int


@dataclass(frozen=True, slots=True)
class Pair(Message):
    TYPE, LAYOUT = 0x07, struct.Struct("<32s17s")
    key: bytes = field(repr=False)
    vehicle_id: bytes


@dataclass(frozen=True, slots=True)
class Unpair(Message):
    TYPE, LAYOUT = 0x08, struct.Struct("<")


@dataclass(frozen=True, slots=True)
class Ident(Message):
    TYPE, LAYOUT, HANDSHAKE = 0x81, struct.Struct("<BBB12s17s"), True
    reset_cause: int
    firmware_major: int
    firmware_minor: int
    dock_serial: bytes
    vehicle_id: bytes
    model: str

    def payload(self) -> bytes:
        model = self.model.encode()
        if len(model) > MAX_MODEL:
            raise LocalProtocolError(f"model {self.model!r} takes {len(model)} bytes; at most {MAX_MODEL}")
        fixed = (self.reset_cause, self.firmware_major, self.firmware_minor)
        return self.LAYOUT.pack(*fixed, self.dock_serial, self.vehicle_id) + model

    @classmethod
    def parse(cls, payload: bytes) -> Self | Reason:
        size = cls.LAYOUT.size
        if not size <= len(payload) <= size + MAX_MODEL:
            return Reason.LENGTH
        try:
            model = payload[size:].decode()
        except UnicodeDecodeError:
            return Reason.TEXT
        cause, major, minor, dock_serial, vehicle_id = cls.LAYOUT.unpack_from(payload)
        return cls(cause, major, minor, dock_serial, vehicle_id, model)


@dataclass(frozen=True, slots=True)
class Proof(Message):
    TYPE, LAYOUT, HANDSHAKE = 0x82, struct.Struct("<I8s16s"), True
    status_counter: int
    dock_nonce: bytes
    mac: bytes


@quick
@dataclass(frozen=True, slots=True)
class Status(Message):
    TYPE, LAYOUT = 0x83, struct.Struct("<IIBBHHhhH")
    uptime_ms: int
    status_counter: int
    bits: int
    known: int
    vehicle_mv: int
    dock_mv: int
    tablet_ma: int
    temperature_dc: int  # 0.1 degrees Celsius
    faults: int


@quick
@dataclass(frozen=True, slots=True)
class Ack(Message):
    TYPE, LAYOUT = 0x84, struct.Struct("<B")
    sequence: int


@dataclass(frozen=True, slots=True)
class Nak(Message):
    TYPE, LAYOUT = 0x85, struct.Struct("<BB")
    sequence: int
    reason: int


@dataclass(frozen=True, slots=True)
class Pong(Message):
    TYPE, LAYOUT = 0x86, struct.Struct("<I")
    opaque: int


MESSAGES: dict[int, type[Message]] = {
    kind.TYPE: kind
    for kind in (
        *(Hello, Challenge, Lease, Outputs, PowerCutIn, Ping, Pair, Unpair),
        *(Ident, Proof, Status, Ack, Nak, Pong),
    )
}


def _packer(kind: type[Message]) -> Callable[[Message], bytes]:
    """A function from a message to its fields, packed."""
    names: Sequence[str] = kind.__slots__
    pack = kind.LAYOUT.pack
    if not names:
        return lambda message: b""
    read = attrgetter(*names)
    if len(names) == 1:
        return lambda message: pack(read(message))
    return lambda message: pack(*read(message))


_PACKERS = {kind: _packer(kind) for kind in MESSAGES.values()}
TO_TABLET_TYPES = 0x80  # types with this bit go to the tablet; docs/dock-link.md


@quick
@dataclass(frozen=True, slots=True)
class Trailer:
    counter: int
    tag: bytes


@quick
@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. ``sequence`` is 0 to 255; a frame with a trailer has the flag "authenticated".

    ``signed`` is what the tag covers, as it stood on the wire: header and payload. Only a decoder sets it.
    """

    message: Message
    sequence: int
    ack_wanted: bool = False
    trailer: Trailer | None = None
    signed: bytes = field(default=b"", compare=False, repr=False)

    def to_tablet(self) -> bool:
        return bool(self.message.TYPE & TO_TABLET_TYPES)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Bytes that are no frame, and why. ``sequence`` where the header was sound enough to be answered."""

    reason: Reason
    sequence: int | None = None


def signed_bytes(message: Message, sequence: int, *, ack_wanted: bool, authenticated: bool) -> bytes:
    """Header and payload of a frame, as its tag and crc cover them."""
    flags = (ACK_WANTED if ack_wanted else 0) | (AUTHENTICATED if authenticated else 0)
    return _HEADER.pack(VERSION, message.TYPE, sequence, flags) + message.payload()


def encode(frame: Frame) -> bytes:
    """The bytes of a frame on the wire, with the closing 0x00."""
    tagged = frame.trailer is not None
    signed = signed_bytes(frame.message, frame.sequence, ack_wanted=frame.ack_wanted, authenticated=tagged)
    return enclose(signed, frame.trailer)


def enclose(signed: bytes, trailer: Trailer | None) -> bytes:
    """The bytes on the wire of what a tag covers and its trailer."""
    whole = signed if trailer is None else signed + _TRAILER.pack(trailer.counter, trailer.tag)
    return _stuff(whole + _CRC.pack(zlib.crc32(whole))) + b"\0"


def decode(packet: bytes) -> Frame | Dropped:
    """Read what stood between two 0x00."""
    whole = _unstuff(packet)
    if whole is None:
        return Dropped(Reason.COBS)
    if not HEADER_SIZE + CRC_SIZE <= len(whole) <= MAX_WHOLE:
        return Dropped(Reason.LENGTH)
    if zlib.crc32(whole[:-CRC_SIZE]) != _CRC.unpack_from(whole, len(whole) - CRC_SIZE)[0]:
        return Dropped(Reason.CRC)
    version, kind, sequence, flags = _HEADER.unpack_from(whole)
    if version != VERSION:
        return Dropped(Reason.VERSION)
    if flags & ~(ACK_WANTED | AUTHENTICATED):
        return Dropped(Reason.FLAGS)
    message_class = MESSAGES.get(kind)
    if message_class is None:
        return Dropped(Reason.TYPE, sequence)
    end = len(whole) - CRC_SIZE
    trailer: Trailer | None = None
    if flags & AUTHENTICATED:
        end -= TRAILER_SIZE
        if end < HEADER_SIZE:
            return Dropped(Reason.LENGTH, sequence)
        trailer = Trailer(*_TRAILER.unpack_from(whole, end))
    message = message_class.parse(whole[HEADER_SIZE:end])
    if isinstance(message, Reason):
        return Dropped(message, sequence)
    if trailer is not None and message_class.HANDSHAKE:
        return Dropped(Reason.TRAILER, sequence)
    return Frame(message, sequence, bool(flags & ACK_WANTED), trailer, whole[:end])


class Decoder:
    """Cuts a stream into frames. Holds at most one maximal frame; after an error it goes on at the next 0x00.

    How the stream is cut into chunks changes nothing in what comes out.
    """

    def __init__(self) -> None:
        self._held = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[Frame | Dropped]:
        """Take bytes in; return the frames they complete, and what was dropped, in order."""
        if not (self._held or self._skipping) and 0 < data.find(0) == len(data) - 1 <= MAX_PACKET:
            return [decode(data[:-1])]  # one frame and no more: what a dock's STATUS is, nearly always
        out: list[Frame | Dropped] = []
        *ended, begun = data.split(b"\0")
        for part in ended:
            self._hold(part, out)
            if self._held:
                out.append(decode(self._held))
                self._held = b""
            self._skipping = False
        if begun:
            self._hold(begun, out)
        return out

    def _hold(self, part: bytes, out: list[Frame | Dropped]) -> None:
        if self._skipping:
            return
        self._held += part
        if len(self._held) > MAX_PACKET:
            out.append(Dropped(Reason.LENGTH))
            self._held = b""
            self._skipping = True


def padded(text: str, size: int) -> bytes:
    """An identifier as it stands in payloads: ASCII, padded with NUL.

    Raises:
        LocalProtocolError: the text is not ASCII or does not fit.
    """
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError:
        raise LocalProtocolError(f"identifier {text!r} is not ASCII") from None
    if len(raw) > size:
        raise LocalProtocolError(f"identifier {text!r} takes {len(raw)} bytes; at most {size}")
    return raw.ljust(size, b"\0")


def unpadded(raw: bytes) -> str:
    """An identifier of a peer as text; what is not ASCII shows as escapes."""
    return raw.rstrip(b"\0").decode("ascii", "backslashreplace")


_CODES = [bytes((length + 1,)) for length in range(MAX_WHOLE + 1)]  # by the length of a run


def _stuff(whole: bytes) -> bytes:
    """COBS of at most MAX_WHOLE bytes: no run is long enough for the code 255."""
    return b"".join([_CODES[len(run)] + run if run else b"\1" for run in whole.split(b"\0")])


def _unstuff(packet: bytes) -> bytes | None:
    whole = bytearray(packet)
    at, size = 0, len(packet)
    while at < size:
        code = whole[at]
        whole[at] = 0
        if code == 0:
            return None
        at += code
    return bytes(whole[1:]) if at == size else None
