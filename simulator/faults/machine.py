"""Faults of the tablet itself: its clock, its sleep, its processes, its session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from agent.core.types import SECOND
from simulator.faults.base import Fault, Span, span
from simulator.faults.knobs import FaultyWorld, Step

FAMILY = "tablet"
DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class WallClockJump(Fault):
    """Somebody, or a bad time server, sets the wall clock; at the end it is set right."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"clock.wall"})
    length_ms: ClassVar[Span] = Span(50, 3_600_000)
    by_s: int = span(-400 * DAY_S, 400 * DAY_S)

    def start(self, world: FaultyWorld) -> None:
        world.clock.step_wall(self.by_s * SECOND)

    def stop(self, world: FaultyWorld) -> None:
        world.clock.step_wall(-self.by_s * SECOND)


@dataclass(frozen=True, slots=True)
class SuspendAndResume(Fault):
    """The lid closes, and opens at the end."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"tablet.machine"})
    length_ms: ClassVar[Span] = Span(500, 14_400_000)

    def start(self, world: FaultyWorld) -> None:
        world.tablet.suspend()

    def stop(self, world: FaultyWorld) -> None:
        world.tablet.switch_on()


@dataclass(frozen=True, slots=True)
class ShutDown(Fault):
    """Somebody shuts the tablet down from its menu, whatever the ignition says, and later switches it on."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"tablet.machine"})
    length_ms: ClassVar[Span] = Span(500, 3_600_000)
    weight: ClassVar[int] = 5

    def start(self, world: FaultyWorld) -> None:
        world.tablet.shut_down()

    def stop(self, world: FaultyWorld) -> None:
        world.tablet.switch_on()


@dataclass(frozen=True, slots=True)
class KillAgent(Fault):
    """SIGKILL between two effects or two writes of the agent."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"tablet.machine"})
    length_ms: ClassVar[Span] = Span(1_000, 60_000)
    weight: ClassVar[int] = 20
    of: Step = field(metadata={"choice": Step})
    after: int = span(0, 200)

    def start(self, world: FaultyWorld) -> None:
        world.tablet.kill_agent(self.after, self.of)

    def stop(self, world: FaultyWorld) -> None:
        world.tablet.spare_agent()


@dataclass(frozen=True, slots=True)
class LockIgnored(Fault):
    """A screen locker that crashed: the lock request returns well and nothing is locked."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"session.ignores_lock"})
    length_ms: ClassVar[Span] = Span(50, 60_000)

    def start(self, world: FaultyWorld) -> None:
        world.session.ignores_lock = True

    def stop(self, world: FaultyWorld) -> None:
        world.session.ignores_lock = False
