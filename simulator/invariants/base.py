"""What every invariant is: a small class that watches events and says, in words, what it saw broken.

An invariant is one class in any module of this package. It sees wires, disk, depot, lock state and power, and
never asks the agent what it thinks. Times are the world's, in ns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from agent.core.types import BootNs
from simulator.invariants.facts import Facts
from simulator.virtual.events import Event


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant was broken at a time; ``words`` say what was expected and what was seen."""

    invariant: str
    at: BootNs
    words: str

    def __str__(self) -> str:
        return f"{self.at / 1e9:12.3f} s  {self.invariant}: {self.words}"


class Invariant(ABC):
    """``number`` is that of docs/invariants.md. ``kinds`` are the events that it is told of.

    ``facts`` have taken an event in before the invariant is told of it.
    """

    number: ClassVar[int]
    statement: ClassVar[str]
    kinds: ClassVar[tuple[type[Event], ...]]

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    @classmethod
    def name(cls) -> str:
        return f"{cls.number} {cls.__name__}"

    @abstractmethod
    def observe(self, event: Event) -> Violation | None:
        """Take an event in."""

    def check(self, at: BootNs) -> Violation | None:
        """The run ends at ``at``: is something overdue, or left undone?"""
        return None

    def broken(self, at: BootNs, words: str) -> Violation:
        return Violation(self.name(), at, words)
