"""The black box: what the core saw and decided and what went over the docks' wires, in a ring of files.

A watcher of the runtime, called after a step's effects have run: it encodes into memory and hands full
batches to ``agent.trace_ring``, whose thread writes them. It never wakes up by itself, raises nothing and
waits for nothing. What could not be kept is counted, and the trace says where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.core.policy import Policy
from agent.core.state import State
from agent.core.types import SECOND, BootNs, Effects, Lock, Observation, Release, RequestPower
from agent.trace_format import Entry, Gap, Head, Policed, Wire, encode, step_entry

# Ours. A kill costs so much of the trace at most; a dock at 5 Hz makes 5 KB in that time.
BATCH_NS = 10 * SECOND
BATCH_BYTES = 64 * 1024
# With one of these the batch goes out at once: what follows may be the last that this tablet does.
_DECISIVE = (Lock, Release, RequestPower)


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded entries in order; ``begins`` with a head, so that a segment may begin with it."""

    entries: list[bytes]
    begins: bool


class Shelf(Protocol):
    """Where batches go."""

    @property
    def fresh(self) -> bool:
        """The next batch is to begin a segment."""

    @property
    def lost(self) -> int:
        """Entries that were handed over and not written, since the start; the shelf writes gaps for them."""

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
        self._held: list[bytes] = []
        self._size = 0
        self._flush_at = 0
        self._lost = 0  # by the shelf, when the last batch began
        self._headed = False  # what is held begins with a head
        self._torn = False  # an entry is missing just here
        self._unencodable = 0

    def begin(self, identity: Mapping[str, str], policy: Callable[[], Policy]) -> None:
        """Name the run; ``policy`` says which one is in force. To be called before the first step."""
        self._identity = dict(identity)
        self._policy_now = policy

    def watch(self, observation: Observation, state: State, effects: Effects) -> None:
        """A watcher of the runtime."""
        if self._held and self._policy_now() is not self._policy:
            self._policy = self._policy_now()
            self._keep(Policed(self._policy))
        self._add(step_entry(observation, effects), observation.at)
        self._state = state
        for effect in effects:
            if isinstance(effect, _DECISIVE):
                self.flush()
                break

    def tap(self, dock: str) -> Callable[[str, BootNs, object], None]:
        """What a dock's tapped session calls: act, time, and what it was about."""

        def note(act: str, at: BootNs, what: object) -> None:
            self._add(Wire(dock, act, at, what), at)

        return note

    def flush(self) -> None:
        """Hand over what is held."""
        if self._held:
            self._shelf.put(Batch(self._held, self._headed))
            self._held, self._size, self._headed = [], 0, False

    def status(self) -> dict[str, object]:
        """What `ivmactl status` shows of it."""
        return {"held": len(self._held), "lost": self._shelf.lost, "unencodable": self._unencodable}

    def _add(self, entry: Entry, at: BootNs) -> None:
        if not self._held:
            self._flush_at = at + BATCH_NS
            self._open()
        elif self._torn:
            self._open()
        self._keep(entry)
        if self._size >= BATCH_BYTES or at >= self._flush_at:
            self.flush()

    def _open(self) -> None:
        """Begin a batch, with how things stand where one may or must begin to read anew."""
        lost = self._shelf.lost
        policy = self._policy_now()
        if self._shelf.fresh or lost != self._lost or self._torn:
            self._headed = self._headed or not self._held
            self._torn = False
            self._keep(Head(self._identity, self._now(), self._wall_ns(), policy, self._state))
        elif policy is not self._policy:
            self._keep(Policed(policy))
        self._lost, self._policy = lost, policy

    def _keep(self, entry: Entry) -> None:
        try:
            data = encode(entry)
        except (TypeError, ValueError, OverflowError):
            # Such as text of the system that is no UTF-8. The trace must not end the agent.
            self._unencodable += 1
            self._torn = True
            data = encode(Gap(1))
        self._held.append(data)
        self._size += len(data)
