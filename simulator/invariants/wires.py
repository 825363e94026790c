"""What comes over the wires, and what must never go out on one."""

from __future__ import annotations

from typing import ClassVar

from agent.core.types import MS, SECOND, BootNs, Release
from simulator.invariants.base import Invariant, Violation
from simulator.invariants.facts import Implausible, Overgranted
from simulator.virtual.events import CanSent, Effected, Event

PROOF_WAIT_NS = SECOND  # 2-behaviour: a loosening by proof waits at most so long for its commit
TRANSIT_NS = 50 * MS  # ours: the longest frame at 115200 baud takes 20 ms


class OnlyItsDockLoosens(Invariant):
    """Only what the paired dock says itself, from where it is, counts as its word."""

    number = 3
    statement = (
        "Only its own dock's new frames, or a grant, loosen; noise, copies, late, foreign ones never do."
    )
    kinds: ClassVar[tuple[type[Event], ...]] = (Effected, Implausible, Overgranted)

    def observe(self, event: Event) -> Violation | None:
        match event:
            case Implausible():
                return self.broken(
                    event.at,
                    f"the agent took {event.what} for the paired dock's word; the tablet was not in it then",
                )
            case Overgranted():
                return self.broken(event.at, f"the agent granted {event.what}")
            case Effected(effect=Release()):
                limits = self.facts.limits
                within = limits.status_fresh_ns + PROOF_WAIT_NS + TRANSIT_NS
                granted = self.facts.leave.until >= event.at
                if not granted and not self.facts.held_within(BootNs(event.at - within)):
                    return self.broken(
                        event.at,
                        f"released although the tablet was not in its own dock within {within / MS:.0f} ms",
                    )
            case _:
                pass
        return None


class ListenOnly(Invariant):
    """The agent listens to a vehicle and says nothing to it."""

    number = 12
    statement = "The tablet puts no frame on the vehicle's bus."
    kinds: ClassVar[tuple[type[Event], ...]] = (CanSent,)

    def observe(self, event: Event) -> Violation | None:
        if isinstance(event, CanSent):
            return self.broken(event.at, f"{event.by} put a frame on the vehicle's bus")
        return None
