"""Use without the dock by leave: what officers ask for, as often as they like and with what they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.faults.base import Fault, Span, span
from simulator.faults.knobs import FaultyWorld, Wish

FAMILY = "grants"


@dataclass(frozen=True, slots=True)
class OverrideTaken(Fault):
    """Somebody takes the safety override, undocked or not, a third time or not."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"tablet.wish"})
    length_ms: ClassVar[Span] = Span(1_000, 60_000)

    def start(self, world: FaultyWorld) -> None:
        world.tablet.officer(Wish())

    def stop(self, world: FaultyWorld) -> None:
        world.tablet.officer(None)


@dataclass(frozen=True, slots=True)
class PermitLoaded(Fault):
    """A permit is loaded: of few, so that one comes again that was used before."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"tablet.wish"})
    length_ms: ClassVar[Span] = Span(1_000, 60_000)
    number: int = span(1, 12)
    minutes: int = span(1, 600)

    def start(self, world: FaultyWorld) -> None:
        world.tablet.officer(Wish(self.number, self.minutes))

    def stop(self, world: FaultyWorld) -> None:
        world.tablet.officer(None)
