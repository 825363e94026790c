"""Events of the input subsystem as their bytes stand on the descriptor, for either end. Sans-IO.

linux/input.h, ``struct input_event``: two longs of time, type u16, code u16, value s32, in the machine's byte
order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

EV_SYN, EV_SW = 0x00, 0x05  # linux/input-event-codes.h
SYN_REPORT, SYN_DROPPED = 0, 3
SW_DOCK = 0x05
EVENT = struct.Struct("@llHHi")


@dataclass(frozen=True, slots=True)
class Event:
    """One event without its time, which is that of another clock."""

    type: int
    code: int
    value: int

    def encode(self) -> bytes:
        return EVENT.pack(0, 0, self.type, self.code, self.value)


def switched(docked: bool) -> bytes:
    """The events of a dock switch that moved, as the kernel sends them."""
    return Event(EV_SW, SW_DOCK, int(docked)).encode() + Event(EV_SYN, SYN_REPORT, 0).encode()


class Decoder:
    """Bytes to events, however they are cut: every 24 bytes are one."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, data: bytes) -> Iterator[Event]:
        data = self._begun + data
        whole = len(data) - len(data) % EVENT.size
        self._begun = data[whole:]
        for _, _, kind, code, value in EVENT.iter_unpack(data[:whole]):
            yield Event(kind, code, value)
