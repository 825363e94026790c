"""What waits for a commit, and when: the durability classes of the streams as deadlines. Pure.

Alarm, audit and whatever is to be remembered are due at once, state within 50 ms, telemetry within its
group time. Order within a stream is that of arrival, whatever is taken together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.records import Record, Stream
from agent.core.types import MS
from sync.errors import StoreError

STATE_GROUP_NS = 50 * MS  # design, queue: the loss window of the state stream
GROUP_RECORDS = 2_000  # ours: bounds the time of one commit
# Ours: what part of the inbox a stream may fill; telemetry is refused first, alarms last.
_TELEMETRY_SHARE, _STATE_SHARE = 0.5, 0.75
_TELEMETRY, _STATE = Stream.TELEMETRY, Stream.STATE


class InboxFull(StoreError):
    """Refused because too much waits for the disk; nothing of it was kept."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Durable: first and last sequence number in each stream."""

    seqs: dict[Stream, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Item:
    """What one producer wants committed in one transaction."""

    records: Sequence[Record]
    remember: bytes | None
    future: asyncio.Future[Receipt]


class Inbox:
    """Two queues: ``prompt``, and ``lazy`` for what is telemetry only. Times are ns of the caller's clock."""

    def __init__(self, capacity: int, telemetry_group_ns: int) -> None:
        self._capacity = capacity
        self._telemetry_ns = telemetry_group_ns
        self._prompt: deque[tuple[int, Item]] = deque()
        self._lazy: deque[tuple[int, Item]] = deque()
        self._prompt_due: int | None = None
        self._lazy_due: int | None = None
        self._not_before = 0
        self._arrivals = 0
        self.waiting = 0  # records
        self.due: int | None = None  # when to take next; None while nothing waits

    def add(self, item: Item, now: int) -> None:
        """Let it wait as long as its most urgent stream allows.

        Raises:
            InboxFull: the streams in it have no room left.
        """
        stream = _most_urgent(item.records)
        share = _TELEMETRY_SHARE if stream is _TELEMETRY else _STATE_SHARE if stream is _STATE else 1.0
        if self.waiting + len(item.records) > self._capacity * share:
            raise InboxFull(
                f"{self.waiting} records wait for the disk; {len(item.records)} more were refused"
            )
        self._arrivals += 1
        self.waiting += len(item.records)
        if stream is _TELEMETRY and item.remember is None:
            self._lazy.append((self._arrivals, item))
            due = now + self._telemetry_ns
            if self._lazy_due is None or due < self._lazy_due:
                self._lazy_due = due
                self._reckon()
        else:
            self._prompt.append((self._arrivals, item))
            due = now + STATE_GROUP_NS if stream is _STATE and item.remember is None else now
            if self._prompt_due is None or due < self._prompt_due:
                self._prompt_due = due
                self._reckon()

    def hurry(self, now: int) -> None:
        """Make everything that waits due, even what failed a moment ago."""
        self._not_before = 0
        if self._prompt:
            self._prompt_due = _earlier(self._prompt_due, now)
        if self._lazy:
            self._lazy_due = _earlier(self._lazy_due, now)
        self._reckon()

    def take(self, now: int) -> list[Item]:
        """What to commit together now.

        Telemetry goes along only when it is due itself, or when a prompt item has some too: blocks of a
        whole group time compress best, and the order within the stream must hold.
        """
        if self.due is None or self.due > now:
            return []
        both = self._lazy_due is not None and self._lazy_due <= now
        both = both or any(
            record.kind.stream is _TELEMETRY for _, item in self._prompt for record in item.records
        )
        items: list[Item] = []
        count = 0
        while count < GROUP_RECORDS:
            queue = self._prompt
            if both and self._lazy and (not queue or self._lazy[0] < queue[0]):
                queue = self._lazy
            if not queue:
                break
            item = queue.popleft()[1]
            items.append(item)
            count += len(item.records)
        self.waiting -= count
        self._prompt_due = self._prompt_due if self._prompt else None
        self._lazy_due = self._lazy_due if self._lazy else None
        self._reckon()
        return items

    def put_back(self, items: Sequence[Item], now: int, not_before: int) -> None:
        """Undo ``take`` after a commit that failed; nothing is due again until ``not_before``."""
        # Smaller arrival numbers than any that waits: they were taken first.
        oldest = min(
            (queue[0][0] for queue in (self._prompt, self._lazy) if queue), default=self._arrivals + 1
        )
        self._prompt.extendleft((oldest - n, item) for n, item in enumerate(reversed(items), 1))
        self.waiting += sum(len(item.records) for item in items)
        self._prompt_due = now
        self._not_before = not_before
        self._reckon()

    def _reckon(self) -> None:
        dues = [due for due in (self._prompt_due, self._lazy_due) if due is not None]
        self.due = max(min(dues), self._not_before) if dues else None


def _most_urgent(records: Sequence[Record]) -> Stream | None:
    """Alarm or audit before state before telemetry; None of no records. A loop: it runs for each commit."""
    urgent = _TELEMETRY if records else None
    for record in records:
        stream = record.kind.stream
        if stream is not _TELEMETRY:
            urgent = stream
            if stream is not _STATE:
                break
    return urgent


def _earlier(known: int | None, due: int) -> int:
    return due if known is None else min(known, due)
