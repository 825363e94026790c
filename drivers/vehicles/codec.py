"""CAN frames that carry a vehicle's signals: how a value is read from a frame and put into one.

Sans-IO and role-agnostic: the agent unpacks, and a simulated vehicle packs the same frames. Whether a
frame counts on a live bus (bus, counter, checksum, freshness) is the work of ``drivers.vehicles.watch``.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

from agent.core.types import KeyPosition, SignalKind

# struct can_frame of linux/can.h: id with flag bits, length, three bytes that mean nothing here, data.
CAN_FRAME = struct.Struct("=IB3x8s")
EXTENDED = 0x8000_0000  # CAN_EFF_FLAG: 29-bit id
REMOTE = 0x4000_0000  # CAN_RTR_FLAG
ERROR = 0x2000_0000  # CAN_ERR_FLAG
# struct canfd_frame: the same head, whose sixth byte are flags, and up to 64 bytes of data.
CANFD_FRAME = struct.Struct("=IB3x64s")
MAX_LENGTH = 8  # bytes of data, classic CAN
FD_LENGTHS = (*range(1, 9), 12, 16, 20, 24, 32, 48, 64)  # ISO 11898-1: what a CAN FD frame can be long
DATA = 8  # where the data begin in a struct can_frame

Value: TypeAlias = int | bool | KeyPosition


class Missing(enum.Enum):
    """Why a right frame gave no value."""

    NOT_AVAILABLE = "not_available"  # the sender says that it does not know
    RANGE = "range"  # what came cannot be


@dataclass(frozen=True, slots=True)
class Bits:
    """Where a number is in the data, numbered as in DBC files: byte n has bits 8n (lowest) to 8n + 7.

    ``start`` is the number's lowest bit if ``order`` is little (Intel), its highest if big (Motorola).
    """

    start: int
    length: int
    order: Literal["little", "big"] = "little"
    signed: bool = False

    def shift(self, size: int) -> int:
        """Place of the lowest bit in ``size`` bytes of data read as one number of this order."""
        if self.order == "little":
            return self.start
        byte, bit = divmod(self.start, 8)
        return 8 * size - (8 * byte + 7 - bit) - self.length

    def places(self, size: int) -> frozenset[int]:
        """The bits that the number takes; with any outside 0 to 8 * size - 1 it does not fit."""
        if self.order == "little":
            return frozenset(range(self.start, self.start + self.length))
        first = self.start // 8 * 8 + 7 - self.start % 8
        return frozenset(n // 8 * 8 + 7 - n % 8 for n in range(first, first + self.length))

    def reader(self, size: int) -> Callable[[bytes], int]:
        """A function from ``size`` bytes of data to the number."""
        from_bytes, order = int.from_bytes, self.order
        shift, mask, sign = self.shift(size), (1 << self.length) - 1, 1 << (self.length - 1)
        if self.signed:
            return lambda data: ((from_bytes(data, order) >> shift & mask) ^ sign) - sign
        return lambda data: from_bytes(data, order) >> shift & mask

    def put(self, data: bytes, number: int) -> bytes:
        shift, mask = self.shift(len(data)), (1 << self.length) - 1
        whole = int.from_bytes(data, self.order) & ~(mask << shift)
        return (whole | (number & mask) << shift).to_bytes(len(data), self.order)


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal of a frame: its place, its meaning, and what it can be.

    A measured kind is ``number * scale + offset`` in the unit of its kind, rounded, and within ``lowest``
    to ``highest``. A switched kind (ignition, ready) is either read from ``meanings``, or, where
    ``on_from`` is given, from such a measured voltage: at least ``on_from`` mV is ON, at most ``off_to``
    mV is OFF, and between them is no evidence.
    """

    kind: SignalKind
    bits: Bits
    mask: int = -1  # of the number, for meanings
    meanings: tuple[tuple[Value, tuple[int, ...]], ...] = ()
    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)
    lowest: int = 0
    highest: int = 0
    on_from: int | None = None
    off_to: int | None = None
    not_available: tuple[tuple[int, int], ...] = ()  # numbers, first and last

    def decoder(self, size: int) -> Callable[[bytes], Value | Missing]:
        """A function from ``size`` bytes of data to the value, or why there is none."""
        read = self.bits.reader(size)
        if self.meanings:
            mask = self.mask
            table: dict[int, Value] = {n: value for value, numbers in self.meanings for n in numbers}
            return lambda data: table.get(read(data) & mask, Missing.RANGE)
        measure = self._measured(read)
        if self.on_from is None or self.off_to is None:
            return measure
        on_from, off_to = self.on_from, self.off_to

        def switched(data: bytes) -> Value | Missing:
            mv = measure(data)
            if isinstance(mv, Missing):
                return mv
            if mv >= on_from:
                return KeyPosition.ON
            return KeyPosition.OFF if mv <= off_to else Missing.RANGE

        return switched

    def _measured(self, read: Callable[[bytes], int]) -> Callable[[bytes], int | Missing]:
        # Integers only, as value = (number * up + plus) // down: exact, and much faster than a Fraction.
        down = self.scale.denominator * self.offset.denominator * 2
        up, plus = int(self.scale * down), int(self.offset * down) + down // 2
        lowest, highest, not_available = self.lowest, self.highest, self.not_available

        def measure(data: bytes) -> int | Missing:
            number = read(data)
            for first, last in not_available:
                if first <= number <= last:
                    return Missing.NOT_AVAILABLE
            value = (number * up + plus) // down
            return value if lowest <= value <= highest else Missing.RANGE

        return measure

    def number(self, value: Value) -> int:
        """The number that stands for ``value``.

        Raises:
            ValueError: this signal cannot say that.
        """
        if self.meanings:
            for meaning, numbers in self.meanings:
                if meaning == value:
                    return numbers[0]
            raise ValueError(f"{self.kind.value}: the profile has no number for {value}")
        if isinstance(value, KeyPosition):
            value = (self.on_from if value in (KeyPosition.ON, KeyPosition.START) else self.off_to) or 0
        return round((value - self.offset) / self.scale)


@dataclass(frozen=True, slots=True)
class Counter:
    """A running number that a live sender advances by one in each frame, modulo 2 ** length."""

    bits: Bits


@dataclass(frozen=True, slots=True)
class Checksum:
    """A check value over the rest of the data; ``constant`` is the sender's own, by its message."""

    bits: Bits
    algorithm: str
    constant: int

    def expected(self, data: bytes) -> int:
        return ALGORITHMS[self.algorithm](self.bits.put(data, 0), self.constant)


def _crc8h2f_table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc << 1 ^ 0x2F if crc & 0x80 else crc << 1) & 0xFF
        table.append(crc)
    return tuple(table)


_CRC8H2F = _crc8h2f_table()  # AUTOSAR CRC8H2F: polynomial 0x2F


def vw_mqb(data: bytes, constant: int) -> int:
    """CRC8H2F (initial value and final xor 0xFF) over all but the first byte, then the constant.

    Source: opendbc, volkswagen/mqbcan.py; frames of LWI_01 from a car check it in the tests.
    """
    crc, table = 0xFF, _CRC8H2F
    for byte in data[1:]:
        crc = table[crc ^ byte]
    return table[crc ^ constant] ^ 0xFF


# A function from the data (with its checksum zero) and the sender's constant to the checksum.
ALGORITHMS: Mapping[str, Callable[[bytes, int], int]] = {"vw-mqb": vw_mqb}


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of the profile. ``pgn`` makes it a J1939 frame, of any priority, from one of ``senders``."""

    name: str
    bus: str
    can_id: int  # for J1939 the id of the first sender at the usual priority
    extended: bool
    length: int  # bytes of data
    period_ms: int  # as the sender sends it
    freshness_ms: int  # older than that, a value says nothing
    signals: tuple[Signal, ...]
    pgn: int | None = None
    senders: tuple[int, ...] = ()
    counter: Counter | None = None
    checksum: Checksum | None = None
    fill: int = 0  # byte that a sender puts where it has nothing to say
    match: tuple[
        tuple[int, int], ...
    ] = ()  # (byte's place, value): what else the id carries is another frame
    fd: bool = False  # a CAN FD frame; a classic one with this id is another frame, and the other way round

    def matches(self, raw: bytes) -> bool:
        """Whether a struct can_frame with this frame's id is this frame, by what stands in its data."""
        return all(raw[DATA + place] == value for place, value in self.match)

    def data(self, values: Mapping[SignalKind, Value], counter: int = 0) -> bytes:
        """The frame's data with what ``values`` has for it; ``counter`` may run on without end."""
        filled = bytearray([self.fill]) * self.length
        for place, value in self.match:
            filled[place] = value
        data = bytes(filled)
        for signal in self.signals:
            if signal.kind in values:
                data = signal.bits.put(data, signal.number(values[signal.kind]))
        if self.counter is not None:
            data = self.counter.bits.put(data, counter)
        if self.checksum is not None:
            data = self.checksum.bits.put(data, self.checksum.expected(data))
        return data

    def encode(self, values: Mapping[SignalKind, Value], counter: int = 0) -> bytes:
        """The same as a struct can_frame, for a socket."""
        return pack(self.can_id, self.data(values, counter), extended=self.extended, fd=self.fd)


@dataclass(frozen=True, slots=True)
class Profile:
    """Which frames of a vehicle carry which signals, and where that is known from."""

    name: str
    title: str
    sources: tuple[str, ...]
    frames: tuple[Frame, ...]
    recordings: tuple[
        str, ...
    ] = ()  # of real vehicles, which show that it is right; without any it is unproven

    def encode(self, kind: SignalKind, value: Value, counter: int = 0) -> tuple[int, bytes]:
        """CAN id and data of the frame that carries ``kind``, alone.

        Raises:
            LookupError: no frame of the profile does.
        """
        for frame in self.frames:
            if any(signal.kind is kind for signal in frame.signals):
                return frame.can_id, frame.data({kind: value}, counter)
        raise LookupError(f"profile {self.name} has no {kind.value}")


def pack(can_id: int, data: bytes, *, extended: bool, fd: bool = False) -> bytes:
    """A struct can_frame of 16 bytes, or a struct canfd_frame of 72."""
    shape = CANFD_FRAME if fd else CAN_FRAME
    return shape.pack(can_id | (EXTENDED if extended else 0), len(data), data)
