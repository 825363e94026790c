"""What is said of the ignition, and how often anything may change."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from agent.core.types import MS, SECOND, BootNs, Lock, Release
from simulator.invariants.base import Invariant, Violation
from simulator.invariants.facts import Facts
from simulator.virtual.events import Agent, Attempted, Effected, Event

WINDOW_NS = 10 * SECOND  # ours
LEASE_NS = (
    450 * MS
)  # docs/dock-link.md: a STATUS is as old as the lease before it, so it becomes fresh so often
LEAST_NS = SECOND // 10  # ours: a policy without any delay is counted as if it had this


class StaleIsUnknown(Invariant):
    """Whoever says OFF has heard OFF."""

    number = 5
    statement = "A source that went silent never makes the ignition OFF."
    kinds: ClassVar[tuple[type[Event], ...]] = (Attempted,)

    def observe(self, event: Event) -> Violation | None:
        if not isinstance(event, Attempted):
            return None
        for record in event.records:
            if record.kind.name != "ignition.changed":
                continue
            fields = record.as_dict()
            if fields["verdict"] != "off" or self.facts.says_off(event.at):
                continue
            return self.broken(
                event.at, f"ignition is said to be off ({fields['rule']}) and no fresh source says so"
            )
        return None


class BoundedChatter(Invariant):
    """Inputs that flap make a bounded number of changes: debounced, each way."""

    number = 6
    statement = "However an input chatters, the verdict changes only so often in a minute."
    kinds: ClassVar[tuple[type[Event], ...]] = (Attempted, Effected, Agent)

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        # A way into a state and out of it again takes at least the delay that the way in has.
        returns = 2 * (WINDOW_NS // max(facts.limits.return_ns, LEAST_NS) + 1)
        self._most = {
            "enforcement.changed": returns,
            "lock or release": returns,
            "tether.changed": 2 * (WINDOW_NS // LEASE_NS + 1),  # no delay: it is lost and found, not returned
            "ignition.changed": 2 * (WINDOW_NS // max(facts.limits.on_debounce_ns, LEAST_NS) + 1),
            "power.changed": 20,  # ours: each mode once, and shedding
        }
        self._seen: dict[str, deque[BootNs]] = {name: deque() for name in self._most}

    def observe(self, event: Event) -> Violation | None:
        match event:
            case Attempted():
                for record in event.records:
                    if record.kind.name in self._seen and (found := self._count(record.kind.name, event.at)):
                        return found
            case Effected(effect=Lock() | Release()):
                return self._count("lock or release", event.at)
            case _:
                pass
        return None

    def _count(self, what: str, at: BootNs) -> Violation | None:
        seen = self._seen[what]
        seen.append(at)
        while seen[0] <= at - WINDOW_NS:
            seen.popleft()
        if len(seen) <= self._most[what]:
            return None
        count = len(seen)
        seen.clear()
        return self.broken(
            at, f"{count} times {what} within {WINDOW_NS // SECOND} s; {self._most[what]} at most"
        )
