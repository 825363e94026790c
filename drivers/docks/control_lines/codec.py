"""Looks at the control lines of a serial port as bytes, for either end. Sans-IO. docs/docks.md.

There is no protocol on such a port, only levels. So that they can be recorded and replayed like any other
wire, each look is two bytes: ``1 0 RTS DTR RI DCD DSR CTS`` with the levels, then ``0 0 0 0 ri dcd dsr cts``
with the inputs that moved since the look before, also where they are back again: a pulse. What the tablet
sets is one byte: ``0 1 0 0 0 0 RTS DTR``. A decoder never raises on bytes.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass


class Input(enum.IntFlag):
    """What a dock may drive."""

    CTS = 1
    DSR = 2
    DCD = 4
    RI = 8


class Output(enum.IntFlag):
    """What the tablet drives."""

    DTR = 1
    RTS = 2


INPUTS, OUTPUTS = 0x0F, 0x03
NO_INPUT, NO_OUTPUT = Input(0), Output(0)
_LEVELS, _LEVELS_MASK = 0x80, 0xC0  # the first byte of a look, and the bits that say so
_SET, _SET_MASK = 0x40, 0xFC
_OUTPUT_SHIFT = 4


@dataclass(frozen=True, slots=True)
class Look:
    """The lines as they stand, the outputs as they are read back, and which inputs moved before that."""

    inputs: Input
    outputs: Output
    moved: Input = NO_INPUT

    def encode(self) -> bytes:
        return bytes((_LEVELS | int(self.outputs) << _OUTPUT_SHIFT | int(self.inputs), int(self.moved)))


def encode_set(outputs: Output) -> bytes:
    """What the tablet asks of its own lines."""
    return bytes((_SET | int(outputs),))


class LookDecoder:
    """Bytes to looks, however they are cut; what is no look is dropped and counted."""

    def __init__(self) -> None:
        self._first: int | None = None
        self.dropped: Counter[str] = Counter()

    def feed(self, data: bytes) -> Iterator[Look]:
        for byte in data:
            if byte & _LEVELS_MASK == _LEVELS:
                if self._first is not None:
                    self.dropped["cut_short"] += 1
                self._first = byte
            elif self._first is None or byte & ~INPUTS:
                self.dropped["no_look"] += 1
                self._first = None
            else:
                first, self._first = self._first, None
                yield Look(Input(first & INPUTS), Output(first >> _OUTPUT_SHIFT & OUTPUTS), Input(byte))


def decode_set(data: bytes) -> Output | None:
    """The last of what the tablet asked for; None if that is nothing. For a dock's side."""
    asked = [byte for byte in data if byte & _SET_MASK == _SET]
    return Output(asked[-1] & OUTPUTS) if asked else None
