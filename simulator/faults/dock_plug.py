"""Faults at the end of the serial line: the dock goes, or something else answers in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.faults.base import Fault, Span, span
from simulator.faults.knobs import Behind, FaultyWorld

# Up to some seven STATUS frames of the reference dock: every place within a frame is met.
AFTER_BYTES = (0, 400)


@dataclass(frozen=True, slots=True)
class Unplug(Fault):
    """The cable comes out, in mid-frame as a rule, and goes in again at the end."""

    family: ClassVar[str] = "dock-plug"
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.plugged"})
    weight: ClassVar[int] = 20
    after_bytes: int = span(*AFTER_BYTES)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.plug(Behind.NOTHING, self.after_bytes)

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.plug(None)


@dataclass(frozen=True, slots=True)
class OtherDevice(Fault):
    """Another device enumerates on the dock's path and talks."""

    family: ClassVar[str] = "dock-plug"
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.plugged"})
    after_bytes: int = span(*AFTER_BYTES)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.plug(Behind.CHATTER, self.after_bytes)

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.plug(None)


@dataclass(frozen=True, slots=True)
class ForeignDock(Fault):
    """A working dock answers that is not the paired one."""

    family: ClassVar[str] = "dock-plug"
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.plugged"})
    length_ms: ClassVar[Span] = Span(500, 1_800_000)
    after_bytes: int = span(*AFTER_BYTES)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.plug(Behind.FOREIGN, self.after_bytes)

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.plug(None)


@dataclass(frozen=True, slots=True)
class ReplayedDock(Fault):
    """A thief's recorder in the dock's place: it plays what the dock once said."""

    family: ClassVar[str] = "dock-plug"
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.plugged"})
    length_ms: ClassVar[Span] = Span(500, 1_800_000)
    after_bytes: int = span(*AFTER_BYTES)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.plug(Behind.REPLAYER, self.after_bytes)

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.plug(None)
