"""Faults of the disk under the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agent.core.types import MS
from simulator.faults.base import Fault, Span, span
from simulator.faults.knobs import FaultyWorld, Step

FAMILY = "disk"
LENGTH_MS = Span(50, 3_600_000)


@dataclass(frozen=True, slots=True)
class DiskFull(Fault):
    """Nothing is left for a file to grow."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"disk.full"})
    length_ms: ClassVar[Span] = LENGTH_MS

    def start(self, world: FaultyWorld) -> None:
        world.disk.full = True

    def stop(self, world: FaultyWorld) -> None:
        world.disk.full = False


@dataclass(frozen=True, slots=True)
class DiskReadOnly(Fault):
    """The kernel remounted the file system read-only; a mount puts it right."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"disk.read_only"})
    length_ms: ClassVar[Span] = LENGTH_MS

    def start(self, world: FaultyWorld) -> None:
        world.disk.read_only = True

    def stop(self, world: FaultyWorld) -> None:
        world.disk.read_only = False


@dataclass(frozen=True, slots=True)
class DiskErrors(Fault):
    """Writes and syncs fail with EIO."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"disk.io_errors"})

    def start(self, world: FaultyWorld) -> None:
        world.disk.io_errors = True

    def stop(self, world: FaultyWorld) -> None:
        world.disk.io_errors = False


@dataclass(frozen=True, slots=True)
class SlowDisk(Fault):
    """Worn flash that collects its garbage: every sync takes long."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"disk.slow_ns"})
    length_ms: ClassVar[Span] = LENGTH_MS
    sync_ms: int = span(1, 20_000)

    def start(self, world: FaultyWorld) -> None:
        world.disk.slow_ns = self.sync_ms * MS

    def stop(self, world: FaultyWorld) -> None:
        world.disk.slow_ns = 0


@dataclass(frozen=True, slots=True)
class TornWrites(Fault):
    """Power goes while pages are on their way: sectors of one page are new, the others old."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"disk.torn", "tablet.machine"})
    length_ms: ClassVar[Span] = Span(1_000, 600_000)
    weight: ClassVar[int] = 20
    after_writes: int = span(0, 100)

    def start(self, world: FaultyWorld) -> None:
        world.disk.torn = True
        world.tablet.cut_power(self.after_writes, Step.WRITES)

    def stop(self, world: FaultyWorld) -> None:
        world.tablet.switch_on()
        world.disk.torn = False
