"""Devices that come to the tablet's serial path and are no dock. Sans-IO, in the world's time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from agent.core.types import MS, SECOND, BootNs
from drivers.docks.reference.auth import DOCK_NONCE_SIZE, MAC_SIZE
from drivers.docks.reference.codec import (
    Ack,
    Challenge,
    Decoder,
    Frame,
    Hello,
    Ident,
    Message,
    Nak,
    NakReason,
    Proof,
    Status,
    StatusBit,
    Trailer,
    encode,
)

SENTENCE = b"$GPGGA,092750.000,5321.6802,N,00630.3372,W,1,8,1.03,61.7,M,55.2,M,,*76\r\n"  # NMEA 0183
SENTENCE_NS = SECOND  # ours: a GPS receiver says where it is once a second
LEAST_GAP_NS = 200 * MS  # the pace of STATUS (docs/dock-link.md), for a recording of one write


class Chatter:
    """A GPS receiver: talks to whoever listens, and hears nothing."""

    def __init__(self, at: BootNs) -> None:
        self._due = at
        self._out = b""

    def feed(self, data: bytes, at: BootNs) -> None:
        """Deaf."""

    def timer(self, at: BootNs) -> None:
        if at >= self._due:
            self._out += SENTENCE
            self._due = BootNs(at + SENTENCE_NS)

    def next_deadline(self) -> BootNs | None:
        return self._due

    def next_actuation(self) -> BootNs | None:
        return None

    def outgoing(self) -> bytes:
        data, self._out = self._out, b""
        return data


class Replayer:
    """Plays what was recorded of a dock, over and over, at the old pace. ``record``: times and writes."""

    def __init__(self, record: Sequence[tuple[BootNs, bytes]], at: BootNs) -> None:
        self._writes = [data for _, data in record]
        times = [time for time, _ in record]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        # A dock that was not heard for an hour is not waited for: the loop would be silent.
        self._gaps = [min(gap, SECOND) for gap in gaps] + [LEAST_GAP_NS]
        self._next = 0
        self._due = at
        self._out = b""

    def feed(self, data: bytes, at: BootNs) -> None:
        """It has no key: nothing that it could answer."""

    def timer(self, at: BootNs) -> None:
        while self._writes and at >= self._due:
            self._out += self._writes[self._next]
            self._due = BootNs(at + max(self._gaps[self._next], MS))
            self._next = (self._next + 1) % len(self._writes)

    def next_deadline(self) -> BootNs | None:
        return self._due if self._writes else None

    def next_actuation(self) -> BootNs | None:
        return None

    def outgoing(self) -> bytes:
        data, self._out = self._out, b""
        return data


class Reflector:
    """A loop: what it hears it sends back."""

    def __init__(self) -> None:
        self._out = b""

    def feed(self, data: bytes, at: BootNs) -> None:
        self._out += data

    def timer(self, at: BootNs) -> None:
        """Nothing of its own."""

    def next_deadline(self) -> BootNs | None:
        return None

    def next_actuation(self) -> BootNs | None:
        return None

    def outgoing(self) -> bytes:
        data, self._out = self._out, b""
        return data


class Forger:
    """Says what the paired dock would say, under its name, with macs and tags that it makes up."""

    def __init__(self, serial: bytes, vehicle_id: bytes, rng: random.Random, at: BootNs) -> None:
        self._ident = Ident(0, 1, 0, serial, vehicle_id, "dock")
        self._rng = rng
        self._decoder = Decoder()
        self._due = at
        self._sequence = self._counter = 0
        self._out = b""

    def feed(self, data: bytes, at: BootNs) -> None:
        for item in self._decoder.feed(data):
            if isinstance(item, Frame):
                self._answer(item)

    def timer(self, at: BootNs) -> None:
        if at >= self._due:
            self._due = BootNs(at + LEAST_GAP_NS)
            bits = StatusBit.SEATED | StatusBit.MATED | StatusBit.KL15
            self._say(
                Status(0, self._counter, bits, bits, 12_600, 12_000, 900, 250, 0), self._rng.random() < 0.5
            )
            if self._rng.random() < 0.1:
                self._say(self._rng.choice((self._ident, Nak(self._sequence, NakReason.BAD_TAG))), False)

    def next_deadline(self) -> BootNs | None:
        return self._due

    def next_actuation(self) -> BootNs | None:
        return None

    def outgoing(self) -> bytes:
        data, self._out = self._out, b""
        return data

    def _answer(self, frame: Frame) -> None:
        match frame.message:
            case Hello():
                self._say(self._ident, False)
            case Challenge():
                mac, nonce = self._rng.randbytes(MAC_SIZE), self._rng.randbytes(DOCK_NONCE_SIZE)
                self._say(Proof(self._counter, nonce, mac), False)
            case _:
                self._say(Ack(frame.sequence), True)
                self._say(Ack(frame.sequence), False)

    def _say(self, message: Message, tagged: bool) -> None:
        self._sequence = (self._sequence + 1) % 256
        self._counter += 1
        trailer = Trailer(self._counter, self._rng.randbytes(8)) if tagged else None
        self._out += encode(Frame(message, self._sequence, trailer=trailer))
