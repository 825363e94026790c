"""One heap of everything that is going to happen, and the world's time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Protocol

from agent.core.types import BootNs


class Turning(Protocol):
    """Something with callbacks that are due now: an event loop."""

    def turn(self) -> None:
        """Run all of them, and those that they make due. ``Agenda.busy`` says that there are some."""


class Entry:
    """Something that is going to happen. ``cancel`` it, and it does not."""

    __slots__ = ("at", "call", "owner")

    def __init__(self, at: BootNs, call: Callable[[], None], owner: object) -> None:
        self.at = at
        self.call: Callable[[], None] | None = call
        self.owner = owner

    def cancel(self) -> None:
        self.call = None


class Agenda:
    """Runs entries in the order of their times, and of their making among equals.

    ``now`` is the world's time in ns. It begins at 0, goes on while the tablet sleeps, and never goes back.
    """

    def __init__(self) -> None:
        self.now = BootNs(0)
        self.ran = 0
        self._heap: list[tuple[int, int, Entry]] = []
        self._made = 0
        self._loops: tuple[Turning, ...] = ()
        self.busy = False  # a loop has something ready

    def at(self, at: BootNs, call: Callable[[], None], owner: object = None) -> Entry:
        """Call at a time; one that has passed is the present."""
        entry = Entry(at if at > self.now else self.now, call, owner)
        self._made += 1
        heappush(self._heap, (entry.at, self._made, entry))
        return entry

    def after(self, delay_ns: int, call: Callable[[], None], owner: object = None) -> Entry:
        entry = Entry(BootNs(self.now + delay_ns) if delay_ns > 0 else self.now, call, owner)
        self._made += 1
        heappush(self._heap, (entry.at, self._made, entry))
        return entry

    def take_away(self, owner: object) -> list[Entry]:
        """Take everything of an owner off the agenda; in the order in which it would have happened."""
        mine = sorted(item for item in self._heap if item[2].owner is owner)
        self._heap[:] = [item for item in self._heap if item[2].owner is not owner]
        heapify(self._heap)
        return [entry for _, _, entry in mine if entry.call is not None]

    def give_back(self, entries: Iterable[Entry], later_ns: int) -> None:
        """Put on again what was taken away, so much later than it was to happen."""
        for entry in entries:
            if entry.call is not None:
                entry.at = BootNs(max(entry.at + later_ns, self.now))
                self._made += 1
                heappush(self._heap, (entry.at, self._made, entry))

    def add_loop(self, loop: Turning) -> None:
        self._loops = (*self._loops, loop)

    def remove_loop(self, loop: Turning) -> None:
        self._loops = tuple(each for each in self._loops if each is not loop)

    def next_at(self) -> BootNs | None:
        """When something happens next."""
        while self._heap and self._heap[0][2].call is None:
            heappop(self._heap)
        return self._heap[0][2].at if self._heap else None

    def step(self) -> None:
        """Let the next thing happen."""
        _, _, entry = heappop(self._heap)
        call = entry.call
        if call is None:
            return
        entry.call = None
        self.now = entry.at
        self.ran += 1
        call()
        if self.busy:
            self._turn()

    def run_until(self, at: BootNs) -> None:
        """Let everything happen that is due up to and at ``at``; it is then that time."""
        self._turn()
        heap = self._heap  # the same list always
        while heap and heap[0][0] <= at:  # ``step``, without a call for each
            entry = heappop(heap)[2]
            call = entry.call
            if call is None:
                continue
            entry.call = None
            self.now = entry.at
            self.ran += 1
            call()
            if self.busy:
                self._turn()
        self.now = BootNs(max(self.now, at))

    def _turn(self) -> None:
        """No time passes while a loop has something ready, also by what another one did."""
        self.busy = True
        while self.busy:
            self.busy = False
            for loop in self._loops:
                loop.turn()
