"""A profile at work on one bus: frames in, signals out, and all that does not count is counted.

Sans-IO. A frame counts only with the right id, format and length and, where the profile has them, a right
checksum and a counter that advanced: ids collide across makes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from agent.core.types import MS, BootNs, CanSignal, Counters, SignalKind
from drivers.vehicles.codec import (
    CAN_FRAME,
    CANFD_FRAME,
    ERROR,
    EXTENDED,
    REMOTE,
    Frame,
    Missing,
    Profile,
    Signal,
    Value,
)
from drivers.vehicles.tables import ProfileError

# Up to two frames lost between two that came. Ours: openpilot wants exactly one; a full socket may lose some.
MAX_COUNTER_STEP = 3
# How many times within its freshness a value that does not change is sent again. Ours.
SENT_PER_FRESHNESS = 4
# Ids whose meaning is remembered; a bus has some hundred, only noise has more. Ours.
MAX_IDS = 4096
# Frames of an id whose reading is remembered: an idling engine says some twenty things under sixteen
# counters, and to read one anew takes ten times as long. Ours.
MAX_READINGS = 512
SWITCHED = frozenset({SignalKind.IGNITION, SignalKind.READY})

ID_BITS = {False: 0x7FF, True: 0x1FFF_FFFF}  # linux/can.h CAN_SFF_MASK, CAN_EFF_MASK
BUS_OFF = 0x40  # linux/can/error.h CAN_ERR_BUSOFF, a bit of an error frame's id
RESTARTED = 0x100  # CAN_ERR_RESTARTED, likewise: the controller is back after bus-off
PDU2_PF = 0xF0  # J1939-21: from this PF on the next byte belongs to the PGN, else it is a destination


# A frame's counter, and the values of its signals.
_Reading: TypeAlias = tuple[int, tuple[Value | Missing, ...]]


class CompiledProfile:
    """What of a profile is on one bus, compiled. Keeps the last value of each signal.

    Raises:
        ProfileError: the profile has nothing on this bus.
    """

    def __init__(self, profile: Profile, bus: str) -> None:
        self.name = profile.name
        self.bus_off = False  # an error frame said so; for the owner to see and reset
        self.controller_changed = False  # an error frame told of the controller's state; likewise
        self._bus = bus
        self._frames = profile.frames
        self._counts: dict[str, int] = {}
        self._watches = {
            frame.name: _Watch(frame, self._counts) for frame in profile.frames if frame.bus == bus
        }
        if not self._watches:
            buses = ", ".join(sorted({frame.bus for frame in profile.frames}))
            raise ProfileError(f"vehicle profile {profile.name}: expected a bus named {buses}, came {bus}")
        # By the id's four bytes as they lie in the frame: a frame that counts, why it does not, or not ours.
        self._known: dict[bytes, _Watch | _Choice | str | None] = {}

    @property
    def counters(self) -> Counters:
        """Frames in all, and those that did not count, by reason."""
        return Counters(dict(self._counts))

    def filters(self) -> list[tuple[int, int]]:
        """Id and mask of each frame, for CAN_RAW_FILTER: the kernel then wakes nobody for the rest."""
        return list(dict.fromkeys(_filter(watch.frame) for watch in self._watches.values()))

    @property
    def fd(self) -> bool:
        """Whether a frame of it on this bus is a CAN FD one; if none is, the kernel need not hand any out."""
        return any(watch.frame.fd for watch in self._watches.values())

    def feed(self, frames: Iterable[bytes], at: BootNs) -> list[CanSignal]:
        """Take in frames (struct can_frame each) that were read at ``at``; give what they say that is new.

        Of a measured signal only the last value of the batch; of a switch every change.
        """
        signals: list[CanSignal] = []
        measured: dict[_Slot, Value] = {}
        known = self._known
        count = 0
        for raw in frames:
            count += 1
            try:
                meaning = known[raw[:4]]
            except KeyError:
                meaning = self._resolve(raw[:4])
            if meaning is None:
                continue
            if isinstance(meaning, str):
                self._counts[meaning] = self._counts.get(meaning, 0) + 1
                continue
            for slot, value in meaning.take(raw, at):
                if slot.switched:
                    signals.append(CanSignal(at, self._bus, slot.kind, value))
                else:
                    measured[slot] = value
        self._counts["frames"] = self._counts.get("frames", 0) + count
        if measured:
            signals += [CanSignal(at, self._bus, slot.kind, value) for slot, value in measured.items()]
        return signals

    def _resolve(self, key: bytes) -> _Watch | _Choice | str | None:
        word = int.from_bytes(key, sys.byteorder)
        if word & ERROR:
            self.bus_off = self.bus_off or bool(word & BUS_OFF)
            self.controller_changed = True
            return "restarted" if word & RESTARTED else "error_frame"
        meaning: _Watch | _Choice | str | None = "remote_frame" if word & REMOTE else self._meaning(word)
        if len(self._known) < MAX_IDS:
            self._known[key] = meaning
        return meaning

    def _meaning(self, word: int) -> _Watch | _Choice | str | None:
        extended = bool(word & EXTENDED)
        number = word & ID_BITS[extended]
        reason: str | None = None
        found: list[_Watch] = []
        for frame in self._frames:
            if frame.pgn is not None:
                if not extended or _pgn(number) != frame.pgn:
                    continue
                if number & 0xFF not in frame.senders:
                    reason = "other_sender"
                    continue
            elif number != frame.can_id:
                continue
            if extended != frame.extended:
                reason = "wrong_format"
            elif frame.bus != self._bus:
                reason = "wrong_bus"
            else:
                found.append(self._watches[frame.name])
        if len(found) == 1 and not found[0].frame.match:
            return found[0]
        return _Choice(tuple(found)) if found else reason


class _Slot:
    """A signal of a frame, with the value last taken over."""

    __slots__ = ("decode", "kind", "switched", "value")

    def __init__(self, signal: Signal, size: int) -> None:
        self.kind = signal.kind
        self.switched = signal.kind in SWITCHED
        self.decode = signal.decoder(size)
        self.value: Value | None = None


class _Watch:
    """A frame on the bus: its checks, and what it last said."""

    def __init__(self, frame: Frame, counts: dict[str, int]) -> None:
        self.frame = frame
        self._counts = counts
        self._end = 8 + frame.length
        self._size = CANFD_FRAME.size if frame.fd else CAN_FRAME.size
        self._slots = tuple(_Slot(signal, frame.length) for signal in frame.signals)
        self._counter = None if frame.counter is None else frame.counter.bits.reader(frame.length)
        self._modulus = 0 if frame.counter is None else 1 << frame.counter.bits.length
        self._checksum = None if frame.checksum is None else frame.checksum.bits.reader(frame.length)
        self._resend_ns = frame.freshness_ms * MS // SENT_PER_FRESHNESS
        self._stale_ns = frame.freshness_ms * MS
        self._due = 0
        self._last = b""
        self._readings: dict[bytes, _Reading] = {}
        self._count = 0
        self._counted_at: int | None = None

    def take(self, raw: bytes, at: BootNs) -> Sequence[tuple[_Slot, Value]]:
        """What of the frame is new, or due to be said again."""
        if self._counter is None and raw == self._last and at < self._due:
            return ()
        reading = self._readings.get(raw) or self._read(raw)
        if reading is None:
            return ()
        count, values = reading
        if self._counter is not None and not self._advanced(count, at):
            return ()
        self._last = raw
        again = at >= self._due
        if again:
            self._due = at + self._resend_ns
        news: list[tuple[_Slot, Value]] = []
        for slot, value in zip(self._slots, values, strict=True):
            if isinstance(value, Missing):
                self._refuse(value.value)
                slot.value = None
            elif again or value != slot.value:
                slot.value = value
                news.append((slot, value))
        return news

    def _read(self, raw: bytes) -> _Reading | None:
        """What a frame of the right length and checksum says; it depends on nothing but its bytes."""
        if len(raw) != self._size or raw[4] != self.frame.length:
            other = CAN_FRAME.size if self.frame.fd else CANFD_FRAME.size
            self._refuse("wrong_format" if len(raw) == other else "wrong_length")
            return None
        data, checksum = raw[8 : self._end], self.frame.checksum
        if (
            self._checksum is not None
            and checksum is not None
            and self._checksum(data) != checksum.expected(data)
        ):
            self._refuse("checksum")
            return None
        count = 0 if self._counter is None else self._counter(data)
        reading = count, tuple(slot.decode(data) for slot in self._slots)
        if len(self._readings) >= MAX_READINGS:
            self._readings.clear()
        self._readings[raw] = reading
        return reading

    def _advanced(self, count: int, at: BootNs) -> bool:
        before, counted_at = self._count, self._counted_at
        self._count, self._counted_at = count, at
        if counted_at is None or at - counted_at > self._stale_ns:
            return False  # the first after a silence: nothing to advance from, and nothing wrong with it
        if not 1 <= (count - before) % self._modulus <= MAX_COUNTER_STEP:
            self._refuse("counter")
            return False
        return True

    def _refuse(self, reason: str) -> None:
        self._counts[reason] = self._counts.get(reason, 0) + 1


class _Choice:
    """The frames that share an id, told apart by bytes in their data; what is none of them is not ours."""

    def __init__(self, watches: tuple[_Watch, ...]) -> None:
        self._watches = watches

    def take(self, raw: bytes, at: BootNs) -> Sequence[tuple[_Slot, Value]]:
        if len(raw) >= CAN_FRAME.size:
            for watch in self._watches:
                if watch.frame.matches(raw):
                    return watch.take(raw, at)
        return ()


def _pgn(number: int) -> int:
    return number >> 8 & (0x3FFFF if number >> 16 & 0xFF >= PDU2_PF else 0x3FF00)


def _filter(frame: Frame) -> tuple[int, int]:
    if frame.pgn is not None:
        pdu2 = frame.pgn >> 8 & 0xFF >= PDU2_PF
        # The priority is left free; the sender is left free too, so that others are counted.
        return frame.pgn << 8 | EXTENDED, (0x3FFFF00 if pdu2 else 0x3FF0000) | EXTENDED | REMOTE
    return (
        frame.can_id | (EXTENDED if frame.extended else 0),
        ID_BITS[frame.extended] | EXTENDED | REMOTE,
    )
