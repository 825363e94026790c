"""Devices that come to the tablet's serial path and are no dock. Sans-IO, in the world's time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from agent.core.types import MS, SECOND, BootNs

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
