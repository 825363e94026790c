"""The queue's accounts, kept from outside: what was handed in, what was promised, and what the depot has.

A record is known by its content until it is promised a sequence number, then by that. Pure: told of events,
answers in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from agent.core.records import Record, Stream
from agent.core.types import MS, SECOND, BootNs
from simulator.faults.registry import families
from simulator.virtual.events import (
    Acknowledged,
    Agent,
    Attempted,
    Committed,
    Delivered,
    Event,
    Fault,
    Power,
    Refused,
    Row,
)

# The stated loss windows (design, queue): what may be lost that was handed in and not promised.
WINDOW_NS = {
    Stream.ALARM: 0,
    Stream.AUDIT: 0,
    Stream.STATE: 50 * MS,
    Stream.TELEMETRY: 5 * SECOND,
}
COMMIT_NS = SECOND  # ours: how long a commit may take on a disk that nothing is wrong with
OWN_KINDS = {"queue.shed", "queue.damaged"}  # the kinds that the store makes itself

Content = tuple[str, int, tuple[Any, ...]]
Place = tuple[bytes, Stream, int]  # epoch, stream, sequence number


@dataclass(frozen=True, slots=True)
class Account:
    """Counts of records. ``lost`` were promised and are not at the depot; at rest it is 0."""

    attempted: int
    acknowledged: int
    delivered: int
    lost: int
    unexpected: int
    duplicated: int

    def __str__(self) -> str:
        return (
            f"attempted {self.attempted}, acknowledged {self.acknowledged}, delivered {self.delivered}, "
            f"lost {self.lost}, unexpected {self.unexpected}, duplicated {self.duplicated}"
        )


@dataclass(slots=True)
class _Waiting:
    """What a producer handed in and was told nothing about."""

    at: BootNs
    contents: list[tuple[Stream, Content]]


class Oracle:
    """One tablet's queue and its depot."""

    kinds: ClassVar[tuple[type[Event], ...]] = (
        Attempted, Committed, Refused, Delivered, Acknowledged, Agent, Power, Fault,
    )  # fmt: skip

    def __init__(self) -> None:
        self._waiting: dict[int, _Waiting] = {}
        self._unheard: Counter[Content] = Counter()  # may be at the depot: handed in, nothing told
        self._promised: dict[tuple[Stream, int], Content] = {}  # and not delivered
        self._newest: dict[Stream, int] = {}  # promised sequence number
        self._held: dict[Place, int] = {}  # what the depot has or had, each with its content's hash
        self._contents: set[int] = set()  # hashes of what the depot has or had
        self._heads: dict[tuple[bytes, Stream], int] = {}
        self._troubled_until: BootNs | None = None  # the disk had a fault; a number while none is on
        self._disk_faults = {fault.name() for fault in families().get("disk", ())}
        self._on: Counter[str] = Counter()
        self._awake_since = BootNs(0)
        self._asleep_since: BootNs | None = None  # nothing is committed in a sleep
        self._attempted = self._acknowledged = self._delivered = 0
        self._unexpected = self._duplicated = 0

    def account(self) -> Account:
        return Account(
            self._attempted,
            self._acknowledged,
            self._delivered,
            len(self._promised),
            self._unexpected,
            self._duplicated,
        )

    def missing(self) -> str:
        """In words, what was promised and has not arrived; empty if nothing."""
        if not self._promised:
            return ""
        streams = Counter(stream.value for stream, _ in self._promised)
        first = min(self._promised, key=lambda place: (place[0].value, place[1]))
        example = f"{first[0].value} {first[1]}, {self._promised[first][0]}"
        counts = ", ".join(f"{count} of {stream}" for stream, count in sorted(streams.items()))
        return f"{counts} were promised to be durable and never arrived, such as {example}"

    def take(self, event: Event) -> Iterator[str]:
        """Take an event in; gives what is wrong about it, in words."""
        match event:
            case Attempted():
                self._attempted += len(event.records)
                contents = [(record.kind.stream, content_of(record)) for record in event.records]
                self._waiting[event.ticket] = _Waiting(event.at, contents)
            case Committed():
                yield from self._committed(event)
            case Refused():
                self._waiting.pop(event.ticket, None)
            case Delivered():
                yield from self._arrived(event)
            case Acknowledged():
                head = max((h for (_, s), h in self._heads.items() if s is event.stream), default=0)
                if event.upto > head:
                    yield (
                        f"the tablet lets go of {event.stream.value} up to {event.upto}; "
                        f"the depot never had more than {head}"
                    )
            case Agent(what="started"):
                self._awake_since = event.at
            case Agent():
                yield from self._run_ended(event)
            case Power(state="on"):
                self._awake_since, self._asleep_since = event.at, None
            case Power(state="suspended"):
                self._asleep_since = event.at
            case Fault() if event.name in self._disk_faults:
                self._on[event.name] += 1 if event.on else -1
                self._troubled_until = None if any(self._on.values()) else event.at
            case _:
                pass

    def _committed(self, event: Committed) -> Iterator[str]:
        waiting = self._waiting.pop(event.ticket, None)
        if waiting is None:
            yield f"the queue promised ticket {event.ticket} twice, or to nobody"
            return
        for stream, first, last in event.seqs:
            newest = self._newest.get(stream, 0)
            if first <= newest:
                yield f"{stream.value} {first} was given away again; {newest} had been promised"
            contents = [content for where, content in waiting.contents if where is stream]
            if len(contents) != last - first + 1:
                yield f"{len(contents)} records of {stream.value} were promised {first} to {last}"
            self._newest[stream] = max(newest, last)
            for seq, content in enumerate(contents, first):
                self._acknowledged += 1
                yield from self._promise(stream, seq, content)

    def _promise(self, stream: Stream, seq: int, content: Content) -> Iterator[str]:
        for (_epoch, where, number), known in self._delivered_at(stream, seq):
            if known != hash(content):
                yield f"{where.value} {number} is promised for {content[0]}; the depot has another there"
            return
        self._promised[stream, seq] = content

    def _delivered_at(self, stream: Stream, seq: int) -> Iterator[tuple[Place, int]]:
        """A depot may have a block before its producer was told that it is durable."""
        for epoch, where in self._heads:
            if where is stream and (place := (epoch, stream, seq)) in self._held:
                yield place, self._held[place]

    def _run_ended(self, event: Agent) -> Iterator[str]:
        """What nothing was told about may be lost, if it is young, and may have been kept."""
        end = event.at if self._asleep_since is None else self._asleep_since
        for waiting in self._waiting.values():
            for stream, content in waiting.contents:
                waited = end - max(waiting.at, self._awake_since)
                allowed = WINDOW_NS[stream] + COMMIT_NS
                if waited > allowed and not self._had_trouble(waiting.at):
                    yield (
                        f"{content[0]} waited {waited / SECOND:.3f} s and was not durable when "
                        f"the agent {event.what}; the loss window of {stream.value} is "
                        f"{WINDOW_NS[stream] / SECOND:g} s"
                    )
                self._unheard[content] += 1
        self._waiting.clear()

    def _had_trouble(self, since: BootNs) -> bool:
        return any(self._on.values()) or (
            self._troubled_until is not None and since <= self._troubled_until + COMMIT_NS
        )

    # --- the depot ------------------------------------------------------------------------------------

    def _arrived(self, event: Delivered) -> Iterator[str]:
        chain = event.epoch, event.stream
        head = self._heads.get(chain, 0)
        if event.first > head + 1:
            yield f"{event.stream.value}: {event.first} came after {head}, with nothing between them"
        self._heads[chain] = max(head, event.last)
        if event.rows is None:
            for seq in range(event.first, event.last + 1):
                self._promised.pop((event.stream, seq), None)
            yield f"{event.stream.value} {event.first} to {event.last} came as a gap; nothing was to be shed"
            return
        for seq, row in event.rows:
            yield from self._row(event, seq, content_of_row(row))

    def _row(self, event: Delivered, seq: int, content: Content) -> Iterator[str]:
        stream, place, key = event.stream, (event.epoch, event.stream, seq), hash(content)
        known = self._held.get(place)
        if known is not None:
            if known != key:
                yield f"{stream.value} {seq} came again as another record, {content[0]}"
            return  # a depot from a backup asked for it again
        self._held[place] = key
        self._delivered += 1
        promised = self._promised.pop((stream, seq), None)
        if promised is not None:
            if promised != content:
                yield f"{stream.value} {seq} was promised for {promised} and came as {content}"
        elif not self._was_handed_in(content):
            if key in self._contents:
                self._duplicated += 1
                yield f"{content[0]} of {content[1]} ns came twice, the second time as {stream.value} {seq}"
            elif content[0] not in OWN_KINDS:
                self._unexpected += 1
                yield f"{stream.value} {seq}, {content[0]}, arrived and nobody had handed it in"
        self._contents.add(key)

    def _was_handed_in(self, content: Content) -> bool:
        """By a run that ended without an answer, or by this one, whose answer is on its way."""
        if self._unheard[content] > 0:
            self._unheard[content] -= 1
            return True
        return any(content == other for waiting in self._waiting.values() for _, other in waiting.contents)


def content_of(record: Record) -> Content:
    return record.kind.name, record.at, record.body


def content_of_row(row: Row) -> Content:
    return row.kind, row.at, tuple(row.fields.values())
