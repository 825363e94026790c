"""What every fault is: a frozen dataclass with bounded parameters, drawn from a seed, printed, read back.

A fault is one class in any module of this package. Its parameters are fields: a whole number between bounds
(``span``), one of an enum E (``field(metadata={"choice": E})``), or a plain boolean; from them come ``draw``,
the check of bounds, JSON and the line of text. ``start`` turns knobs, ``stop`` puts them back, ``tick`` may
turn them in between.
"""

from __future__ import annotations

import dataclasses
import enum
import random
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from simulator.faults.knobs import FaultyWorld


@dataclass(frozen=True, slots=True)
class Span:
    """Bounds of a whole number, both included. Drawn so that each order of magnitude is as likely."""

    least: int
    most: int

    def draw(self, rng: random.Random) -> int:
        if self.least < 0:
            return rng.choice((-1, 1)) * Span(1, min(-self.least, self.most)).draw(rng)
        # Whole numbers only: a logarithm need not be the same on every machine.
        bits = rng.randint(self.least.bit_length(), self.most.bit_length())
        return rng.randint(max(self.least, 1 << bits >> 1), min(self.most, (1 << bits) - 1))

    def __contains__(self, value: object) -> bool:
        return type(value) is int and self.least <= value <= self.most

    def __str__(self) -> str:
        return f"a whole number from {self.least} to {self.most}"


def span(least: int, most: int) -> Any:
    """A field that holds a whole number between bounds; its unit stands in its name."""
    return dataclasses.field(metadata={"span": Span(least, most)})


class FaultError(ValueError):
    """A fault that cannot be: what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Fault(ABC):
    """Something that goes wrong for a while.

    ``holds`` names what it turns, "part.knob" each, "tablet.machine" for all of the tablet's methods: no two
    faults hold one at a time. ``length_ms`` bounds how long it lasts; ``weight`` is how often it is drawn
    within its family.
    """

    family: ClassVar[str]
    holds: ClassVar[frozenset[str]]
    length_ms: ClassVar[Span] = Span(50, 120_000)
    weight: ClassVar[int] = 10

    def __post_init__(self) -> None:
        for parameter in dataclasses.fields(self):
            value, expected = getattr(self, parameter.name), _expected(parameter)
            if not _fits(value, parameter):
                raise FaultError(f"{self.name()}: {parameter.name} is {expected}, not {value!r}")

    @classmethod
    def name(cls) -> str:
        """Its class's name in words: ByteLoss is byte-loss."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(**{parameter.name: _draw(parameter, rng) for parameter in dataclasses.fields(cls)})

    @abstractmethod
    def start(self, world: FaultyWorld) -> None:
        """Turn the knobs that it holds."""

    @abstractmethod
    def stop(self, world: FaultyWorld) -> None:
        """Put them all back to rest."""

    def tick(self, world: FaultyWorld, since_ns: int) -> int | None:
        """Called right after ``start``; returns in how many ns to call it again while it lasts, or None."""
        return None

    def to_json(self) -> dict[str, Any]:
        values = {parameter.name: getattr(self, parameter.name) for parameter in dataclasses.fields(self)}
        plain = {key: value.value if isinstance(value, enum.Enum) else value for key, value in values.items()}
        return {"fault": self.name(), **plain}

    def __str__(self) -> str:
        name, *values = self.to_json().items()
        return " ".join([name[1], *(f"{key}={str(value).lower()}" for key, value in values)])


def _expected(parameter: dataclasses.Field[Any]) -> str:
    if "span" in parameter.metadata:
        return str(parameter.metadata["span"])
    if "choice" in parameter.metadata:
        return f"one of {[word.value for word in parameter.metadata['choice']]}"
    return "true or false"


def _fits(value: object, parameter: dataclasses.Field[Any]) -> bool:
    if "span" in parameter.metadata:
        return value in parameter.metadata["span"]
    if "choice" in parameter.metadata:
        return isinstance(value, parameter.metadata["choice"])
    return isinstance(value, bool)


def _draw(parameter: dataclasses.Field[Any], rng: random.Random) -> Any:
    if "span" in parameter.metadata:
        return parameter.metadata["span"].draw(rng)
    if "choice" in parameter.metadata:
        return rng.choice([*parameter.metadata["choice"]])
    return rng.random() < 0.5
