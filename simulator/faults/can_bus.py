"""Faults of the vehicle bus as the tablet hears it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agent.core.types import MS
from simulator.faults.base import Fault, Span, span
from simulator.faults.knobs import FaultyWorld

FAMILY = "can-bus"
LENGTH_MS = Span(50, 1_800_000)  # up to half an hour: longer than any rule of ignition waits


@dataclass(frozen=True, slots=True)
class BusOff(Fault):
    """The controller leaves the bus after too many errors."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"canwire.bus_off"})

    def start(self, world: FaultyWorld) -> None:
        world.canwire.bus_off = True

    def stop(self, world: FaultyWorld) -> None:
        world.canwire.bus_off = False


@dataclass(frozen=True, slots=True)
class SilentBus(Fault):
    """Our cable is cut: it looks the same as a vehicle that sleeps."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"canwire.silent"})
    length_ms: ClassVar[Span] = LENGTH_MS

    def start(self, world: FaultyWorld) -> None:
        world.canwire.silent = True

    def stop(self, world: FaultyWorld) -> None:
        world.canwire.silent = False


@dataclass(frozen=True, slots=True)
class FrozenCounter(Fault):
    """A gateway goes on sending the last thing it heard, counter and all."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"canwire.frozen"})
    length_ms: ClassVar[Span] = LENGTH_MS

    def start(self, world: FaultyWorld) -> None:
        world.canwire.frozen = True

    def stop(self, world: FaultyWorld) -> None:
        world.canwire.frozen = False


@dataclass(frozen=True, slots=True)
class ForeignFrames(Fault):
    """Frames of another make come under the ids of our profile."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"canwire.foreign_period_ns"})
    length_ms: ClassVar[Span] = Span(50, 600_000)
    period_ms: int = span(5, 2_000)

    def start(self, world: FaultyWorld) -> None:
        world.canwire.foreign_period_ns = self.period_ms * MS

    def stop(self, world: FaultyWorld) -> None:
        world.canwire.foreign_period_ns = 0
