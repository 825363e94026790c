"""Faults of the two processes that one another's absence is to be survived by: agent and guard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.faults.base import Fault, Span
from simulator.faults.knobs import FaultyWorld

FAMILY = "guard"


@dataclass(frozen=True, slots=True)
class AgentStopped(Fault):
    """SIGSTOP, or a loop that hangs: the agent is there and does nothing, until it goes on as if nothing was.

    Shorter than the service manager's watchdog, which would end it.
    """

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"tablet.machine"})
    length_ms: ClassVar[Span] = Span(200, 25_000)

    def start(self, world: FaultyWorld) -> None:
        world.tablet.stop_agent()

    def stop(self, world: FaultyWorld) -> None:
        world.tablet.go_on_agent()


@dataclass(frozen=True, slots=True)
class GuardDown(Fault):
    """The guard is killed; the service manager starts it again at the end."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"tablet.guard_down"})
    length_ms: ClassVar[Span] = Span(250, 60_000)

    def start(self, world: FaultyWorld) -> None:
        world.tablet.guard_down = True

    def stop(self, world: FaultyWorld) -> None:
        world.tablet.guard_down = False
