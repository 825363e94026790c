"""One stream's way to the depot: where it stands, how large its batches may be, what is held against it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from agent.core.records import Stream
from agent.core.types import BootNs
from sync import session_types as t


@dataclass(frozen=True, slots=True)
class Flight:
    """A published batch that the depot has not acknowledged."""

    after: int
    last: int
    blocks: int
    size: int
    sent_at: BootNs


@dataclass(slots=True)
class Lane:
    """The cursors are sequence numbers."""

    stream: Stream
    head: int  # newest committed
    acked: int  # the store may let go up to here
    depot: int  # the depot's head as it last told us; below ``acked`` when it was restored from a backup
    sent: int
    batch_bytes: int
    flights: deque[Flight] = field(default_factory=deque)
    tries: int = 0  # ack timeouts and refusals running, without progress
    again_from: int | None = None  # the head for which we went back already
    paused_until: BootNs | None = None
    moved_at: BootNs | None = None  # last progress
    settling: t.DepotAck | None = None  # with the store
    waiting: t.DepotAck | None = None  # the newest ack that came meanwhile
    reported: dict[t.Trouble, int] = field(default_factory=dict)  # by the seq that it is about
    suspect_to: int = 0  # batches up to here were on their way when a connection ended
    ended: int = 0  # connections that ended under one lone block, running
    ended_at: int = 0  # which one: its last sequence number
    grow_every: int = 1  # acks until batches become larger
    acks: int = 0  # since they did

    @property
    def suspect(self) -> bool:
        """Its next batch may be what ends connections, so that it must travel alone."""
        return self.suspect_to > self.depot and self.paused_until is None

    def back_to(self, seq: int) -> None:
        self.sent = seq
        self.flights.clear()

    def cleared(self, seq: int) -> None:
        """The broker or the depot has what goes up to ``seq``: it ended no connection."""
        if seq >= self.ended_at:
            self.ended = 0
        if seq >= self.suspect_to:
            self.suspect_to = 0

    def ended_under(self, seq: int) -> int:
        """Count a connection that ended under the lone block up to ``seq``."""
        self.ended = self.ended + 1 if seq == self.ended_at else 1
        self.ended_at = seq
        return self.ended

    def shrink(self, flight: Flight) -> None:
        self.batch_bytes = max(min(flight.size, self.batch_bytes) // 2, 1)

    def grow(self, longest: int) -> None:
        """Count an ack; at each ``grow_every``-th batches may be twice as large."""
        self.acks += 1
        if self.acks < self.grow_every:
            return
        self.acks = 0
        self.batch_bytes = min(self.batch_bytes * 2, longest)
        if self.batch_bytes == longest:
            self.grow_every = 1
