"""Attacks on the dock's line by somebody without the key. What only damages or delays is in dock_wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.faults.base import Fault, Span, span
from simulator.faults.knobs import Behind, FaultyWorld

FAMILY = "dock-attack"
LENGTH_MS = Span(500, 1_800_000)
AFTER_BYTES = (0, 400)  # as simulator.faults.dock_plug


@dataclass(frozen=True, slots=True)
class ForgingDock(Fault):
    """A board in the dock's place that speaks the protocol, says what the dock would say, and has no key."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.plugged"})
    length_ms: ClassVar[Span] = LENGTH_MS
    after_bytes: int = span(*AFTER_BYTES)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.plug(Behind.FORGER, self.after_bytes)

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.plug(None)


@dataclass(frozen=True, slots=True)
class TwinDock(Fault):
    """A working dock with the paired one's serial and vehicle id, and another key."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.plugged"})
    length_ms: ClassVar[Span] = LENGTH_MS
    after_bytes: int = span(*AFTER_BYTES)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.plug(Behind.TWIN, self.after_bytes)

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.plug(None)


@dataclass(frozen=True, slots=True)
class Reflector(Fault):
    """A loop in the dock's place: the tablet hears itself."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.plugged"})
    length_ms: ClassVar[Span] = LENGTH_MS
    after_bytes: int = span(*AFTER_BYTES)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.plug(Behind.REFLECTOR, self.after_bytes)

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.plug(None)


@dataclass(frozen=True, slots=True)
class SecondDock(Fault):
    """Two docks on one line: another one hears all that the tablet says, and talks in between."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.bystander"})
    length_ms: ClassVar[Span] = LENGTH_MS

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.bystander = True

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.bystander = False


@dataclass(frozen=True, slots=True)
class ChangedFrames(Fault):
    """Somebody on the line turns bits of frames and makes their crc right."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.change_permille"})
    permille: int = span(1, 1000)

    def start(self, world: FaultyWorld) -> None:
        world.dockwire.change_permille = self.permille

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.change_permille = 0


@dataclass(frozen=True, slots=True)
class VersionDowngrade(Fault):
    """Somebody on the line gives every frame another version of the protocol, and makes its crc right."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"dockwire.version"})
    version: int = span(0, 255)

    def start(self, world: FaultyWorld) -> None:
        # The version that is spoken would change nothing.
        world.dockwire.version = 0 if self.version == 1 else self.version

    def stop(self, world: FaultyWorld) -> None:
        world.dockwire.version = None
