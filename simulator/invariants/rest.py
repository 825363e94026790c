"""What the whole comes to: once the faults stop, and whatever the wall clock says."""

from __future__ import annotations

import hashlib
from typing import ClassVar

from agent.core.types import MINUTE, BootNs, Lock, Release, RequestPower
from simulator.invariants.base import Invariant, Violation
from simulator.invariants.facts import Facts
from simulator.virtual.events import Awaited, Effected, Event

# T of invariant 10, ours. The longest waits in series: a broker's session is given up after 90 s, a
# backoff of 60 s with its jitter, a refused commit tried again every second, a boot of 12 s, a log-in.
CONVERGED_NS = 10 * MINUTE


class Converges(Invariant):
    """A healthy vehicle with an officer in it: the tablet can be used. Parked for long: it sleeps."""

    number = 10
    statement = "Some time after the last fault everything is as it should be again."
    kinds: ClassVar[tuple[type[Event], ...]] = (Awaited,)

    def observe(self, event: Event) -> Violation | None:
        facts = self.facts
        match event:
            case Awaited(what="in use"):
                if facts.power != "on":
                    return self.broken(event.at, f"the tablet is {facts.power} with the ignition on")
                if facts.agent_since is None:
                    return self.broken(event.at, "no agent runs")
                if not facts.usable:
                    return self.broken(
                        event.at, "the tablet is docked, the officer has logged in, and it is locked"
                    )
            case Awaited(what="asleep") if facts.power == "on":
                return self.broken(
                    event.at, "the vehicle has been parked for long and the tablet is still on"
                )
            case _:
                pass
        return None


class WallClockIgnored(Invariant):
    """The same life without the jumps of the wall clock has the same decisions at the same times.

    One run cannot show it: ``digest`` is compared with that of a twin.
    """

    number = 9
    statement = "No decision differs because somebody set the wall clock."
    kinds: ClassVar[tuple[type[Event], ...]] = (Effected,)

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._hash = hashlib.sha256()

    def observe(self, event: Event) -> Violation | None:
        match event:
            case Effected(effect=Lock() | Release() as effect):
                self._note(event.at, type(effect).__name__, str(effect.decision), effect.cause.rule)
            case Effected(effect=RequestPower() as effect):
                self._note(event.at, effect.verb.value, effect.cause.rule)
            case _:
                pass
        return None

    def _note(self, at: BootNs, *words: str) -> None:
        self._hash.update(f"{at} {' '.join(words)}\n".encode())

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def compared(self, at: BootNs, twin: WallClockIgnored) -> Violation | None:
        """Compare with the run whose wall clock did not jump."""
        if self.digest == twin.digest:
            return None
        return self.broken(at, "without the jumps of the wall clock other decisions are made")
