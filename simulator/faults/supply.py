"""Faults of what the vehicle gives to the dock and the tablet: voltage and the ignition line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from agent.core.types import MS
from simulator.faults.base import Fault, Span, span
from simulator.faults.knobs import FaultyWorld, Step

FAMILY = "supply"
RAMP_STEPS = 20  # ours: 450 mV each at the deepest, well under the fall that a dock reports at once


@dataclass(frozen=True, slots=True)
class BrownOutRamp(Fault):
    """The dock's feed sinks slowly, so low that its microcontroller may reset; back at a stroke."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"wiring.sag_mv"})
    depth_mv: int = span(200, 9_000)
    ramp_ms: int = span(20, 60_000)

    def start(self, world: FaultyWorld) -> None:
        world.wiring.sag_mv = 0

    def tick(self, world: FaultyWorld, since_ns: int) -> int | None:
        ramp_ns = self.ramp_ms * MS
        world.wiring.sag_mv = self.depth_mv * min(since_ns, ramp_ns) // ramp_ns
        return ramp_ns // RAMP_STEPS if since_ns < ramp_ns else None

    def stop(self, world: FaultyWorld) -> None:
        world.wiring.sag_mv = 0


@dataclass(frozen=True, slots=True)
class IgnitionBounce(Fault):
    """A loose terminal: the dock's KL15 input chatters."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"wiring.kl15"})
    length_ms: ClassVar[Span] = Span(50, 30_000)
    period_ms: int = span(5, 5_000)

    def start(self, world: FaultyWorld) -> None:
        world.wiring.kl15 = False

    def tick(self, world: FaultyWorld, since_ns: int) -> int | None:
        period_ns = self.period_ms * MS
        world.wiring.kl15 = since_ns // period_ns % 2 == 1
        return period_ns

    def stop(self, world: FaultyWorld) -> None:
        world.wiring.kl15 = None


@dataclass(frozen=True, slots=True)
class StuckIgnition(Fault):
    """The dock's KL15 input is short to the feed or to ground."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"wiring.kl15"})
    length_ms: ClassVar[Span] = Span(500, 7_200_000)
    on: bool

    def start(self, world: FaultyWorld) -> None:
        world.wiring.kl15 = self.on

    def stop(self, world: FaultyWorld) -> None:
        world.wiring.kl15 = None


@dataclass(frozen=True, slots=True)
class PowerCut(Fault):
    """Everything loses power at an instant, the tablet's own battery too; later somebody switches it on."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"tablet.machine"})
    length_ms: ClassVar[Span] = Span(1_000, 600_000)
    weight: ClassVar[int] = 20
    of: Step = field(metadata={"choice": Step})
    after: int = span(0, 100)

    def start(self, world: FaultyWorld) -> None:
        world.tablet.cut_power(self.after, self.of)

    def stop(self, world: FaultyWorld) -> None:
        world.tablet.switch_on()
