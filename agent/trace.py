"""The black box: what the core saw and decided and what went over the docks' wires, in a ring of files.

A watcher of the runtime, called after a step's effects have run: it keeps what it is given, which nobody
changes any more, and hands it in batches to ``agent.trace_ring``, whose thread encodes and writes. It never
wakes up by itself, raises nothing and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.core.policy import Policy
from agent.core.state import State
from agent.core.types import SECOND, BootNs, Effects, Lock, Observation, Release, RequestPower
from agent.trace_format import Head, Held, Policed, Wire

# Ours. A kill costs so much of the trace at most. A dock at 5 Hz makes 200 entries in that time; noise may
# make large ones.
BATCH_NS = 10 * SECOND
BATCH_ENTRIES = 500
BATCH_BYTES = 64 * 1024  # of the wires
# With one of these the batch goes out at once: what follows may be the last that this tablet does.
_DECISIVE = (Lock, Release, RequestPower)


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries in order; ``begins`` with a head, so that a segment may begin with it."""

    entries: list[Held]
    begins: bool


class Shelf(Protocol):
    """Where batches go."""

    @property
    def fresh(self) -> bool:
        """The next batch is to begin a segment."""

    @property
    def lost(self) -> int:
        """Entries that were handed over and not written, since the start. The shelf writes gaps for them."""

    def put(self, batch: Batch) -> None:
        """Take a batch, at once."""


class Recorder:
    """Records one run of the agent. ``wall_ns`` reads the wall clock, for people."""

    def __init__(self, shelf: Shelf, now: Callable[[], BootNs], wall_ns: Callable[[], int]) -> None:
        self._shelf = shelf
        self._now = now
        self._wall_ns = wall_ns
        self._identity: dict[str, str] = {}
        self._policy_now: Callable[[], Policy] = Policy
        self._policy: Policy | None = None  # the one that the trace says is in force
        self._state: State | None = None  # after the last step
        self._held: list[Held] = []
        self._size = 0  # of the wires' bytes in it
        self._flush_at = 0
        self._lost = 0  # by the shelf, when the last batch began
        self._headed = False  # what is held begins with a head

    def begin(self, identity: Mapping[str, str], policy: Callable[[], Policy]) -> None:
        """Name the run; ``policy`` says which one is in force. To be called before the first step."""
        self._identity = dict(identity)
        self._policy_now = policy

    def watch(self, observation: Observation, state: State, effects: Effects) -> None:
        """A watcher of the runtime."""
        at = observation.at
        if not self._held:
            self._open(at)
        elif self._policy_now() is not self._policy:
            self._policy = self._policy_now()
            self._held.append(Policed(self._policy))
        self._held.append((observation, effects))
        self._state = state
        if at >= self._flush_at or len(self._held) >= BATCH_ENTRIES:
            self.flush()
        for effect in effects:
            if isinstance(effect, _DECISIVE):
                self.flush()
                break

    def tap(self, dock: str) -> Callable[[str, BootNs, object], None]:
        """What a dock's tapped session calls: act, time, and what it was about."""

        def note(act: str, at: BootNs, what: object) -> None:
            if not self._held:
                self._open(at)
            self._held.append(Wire(dock, act, at, what))
            if isinstance(what, bytes):
                self._size += len(what)
            if at >= self._flush_at or self._size >= BATCH_BYTES or len(self._held) >= BATCH_ENTRIES:
                self.flush()

        return note

    def flush(self) -> None:
        """Hand over what is held."""
        if self._held:
            self._shelf.put(Batch(self._held, self._headed))
            self._held, self._size, self._headed = [], 0, False

    def status(self) -> dict[str, object]:
        """What `ivmactl status` shows of it."""
        return {"held": len(self._held), "lost": self._shelf.lost}

    def _open(self, at: BootNs) -> None:
        """Begin a batch, with how things stand where one may or must begin to read anew."""
        self._flush_at = at + BATCH_NS
        lost, policy = self._shelf.lost, self._policy_now()
        if self._shelf.fresh or lost != self._lost:
            self._headed = True
            self._held.append(Head(self._identity, self._now(), self._wall_ns(), policy, self._state))
        elif policy is not self._policy:
            self._held.append(Policed(policy))
        self._lost, self._policy = lost, policy
