"""Faults of the serial line between dock and tablet: what is written is not what arrives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agent.core.types import MS
from simulator.faults.base import Fault, Span, span
from simulator.faults.knobs import FaultyWorld

FAMILY = "dock-wire"


@dataclass(frozen=True, slots=True)
class ByteLoss(Fault):
    """A worn contact: bytes get lost; at 1000 all of them, as on a pothole."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.lose_permille"})
    permille: int = span(1, 1000)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.lose_permille = self.permille

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.lose_permille = 0


@dataclass(frozen=True, slots=True)
class BitFlip(Fault):
    """Interference: single bits turn over."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.flip_permille"})
    permille: int = span(1, 200)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.flip_permille = self.permille

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.flip_permille = 0


@dataclass(frozen=True, slots=True)
class SplitWrites(Fault):
    """Frames arrive in small pieces, a wake-up each."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.split_bytes"})
    piece_bytes: int = span(1, 40)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.split_bytes = self.piece_bytes

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.split_bytes = 0


@dataclass(frozen=True, slots=True)
class MergedWrites(Fault):
    """A converter that gathers: several frames arrive as one piece, late."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.merge_ns"})
    within_ms: int = span(1, 2_000)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.merge_ns = self.within_ms * MS

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.merge_ns = 0


@dataclass(frozen=True, slots=True)
class DelayedBytes(Fault):
    """Everything arrives late, in order."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.delay_ns"})
    length_ms: ClassVar[Span] = Span(1_000, 600_000)
    delay_ms: int = span(1, 10_000)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.delay_ns = self.delay_ms * MS

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.delay_ns = 0


@dataclass(frozen=True, slots=True)
class DuplicatedWrites(Fault):
    """A relay that stutters: what was written arrives twice."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.duplicate_permille"})
    permille: int = span(1, 1000)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.duplicate_permille = self.permille

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.duplicate_permille = 0


@dataclass(frozen=True, slots=True)
class ReplayingRelay(Fault):
    """A relay in the line that sends what the dock once said again, between what it says now."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.replay_permille"})
    permille: int = span(1, 1000)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.replay_permille = self.permille

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.replay_permille = 0
