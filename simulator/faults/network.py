"""Faults of the way between tablet and broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agent.core.types import MS
from simulator.faults.base import Fault, Span, span
from simulator.faults.knobs import FaultyWorld

FAMILY = "network"
LENGTH_MS = Span(500, 7_200_000)


@dataclass(frozen=True, slots=True)
class NetworkCut(Fault):
    """Connections end and none can be made."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"network.cut"})
    length_ms: ClassVar[Span] = LENGTH_MS

    def start(self, world: FaultyWorld) -> None:
        world.network.cut = True

    def stop(self, world: FaultyWorld) -> None:
        world.network.cut = False


@dataclass(frozen=True, slots=True)
class SilentPeer(Fault):
    """The broker takes everything and answers nothing."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"network.stall_down"})
    length_ms: ClassVar[Span] = LENGTH_MS

    def start(self, world: FaultyWorld) -> None:
        world.network.stall_down = True

    def stop(self, world: FaultyWorld) -> None:
        world.network.stall_down = False


@dataclass(frozen=True, slots=True)
class HalfOpen(Fault):
    """A car park: the connection stands at both ends and nothing passes."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"network.stall_up", "network.stall_down"})
    length_ms: ClassVar[Span] = LENGTH_MS

    def start(self, world: FaultyWorld) -> None:
        world.network.stall_up = world.network.stall_down = True

    def stop(self, world: FaultyWorld) -> None:
        world.network.stall_up = world.network.stall_down = False


@dataclass(frozen=True, slots=True)
class SlowNetwork(Fault):
    """The edge of a cell: everything takes long."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"network.delay_ns"})
    length_ms: ClassVar[Span] = LENGTH_MS
    delay_ms: int = span(10, 30_000)

    def start(self, world: FaultyWorld) -> None:
        world.network.delay_ns = self.delay_ms * MS

    def stop(self, world: FaultyWorld) -> None:
        world.network.delay_ns = 0


@dataclass(frozen=True, slots=True)
class Reconnects(Fault):
    """A modem that loses its address again and again: each connection ends soon after it was made."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"network.drops"})
    length_ms: ClassVar[Span] = Span(1_000, 600_000)
    period_ms: int = span(50, 60_000)

    def start(self, world: FaultyWorld) -> None:
        """The first connection ends in ``tick``."""

    def tick(self, world: FaultyWorld, since_ns: int) -> int | None:
        world.network.drop()
        return self.period_ms * MS

    def stop(self, world: FaultyWorld) -> None:
        """The last connection stays."""
