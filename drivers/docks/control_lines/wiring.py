"""Which line means what, and with which polarity, as a configuration says it: ``seated = "!dsr"``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drivers.docks.control_lines.codec import Input, Output

SENSES = ("seated", "mated", "locked", "kl15", "supply_ok")
DRIVES = ("latch", "led", "buzzer", "power_hold", "supply_enable", "power_cut")


@dataclass(frozen=True, slots=True)
class Sense:
    """One meaning of one input; ``inverted``: the meaning is true while the line is not asserted."""

    line: Input
    inverted: bool

    def of(self, inputs: Input) -> bool:
        return bool(inputs & self.line) is not self.inverted


@dataclass(frozen=True, slots=True)
class Drive:
    """One meaning of one output, likewise."""

    line: Output
    inverted: bool

    def put(self, on: bool, outputs: Output) -> Output:
        """The outputs with this one set for its meaning."""
        return outputs | self.line if on is not self.inverted else outputs & ~self.line


@dataclass(frozen=True, slots=True)
class Wiring:
    """A dock's lines. A meaning without a line is not sensed, or not driven."""

    senses: Mapping[str, Sense]
    drives: Mapping[str, Drive]
    debounce_ns: int

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Wiring:
        """From the values of ``[dock.lines]``.

        Raises:
            ValueError: no meaning has an input, or two meanings share an output.
        """
        senses = {
            name: Sense(Input[line], inverted) for name in SENSES for line, inverted in _line(options, name)
        }
        drives = {
            name: Drive(Output[line], inverted) for name in DRIVES for line, inverted in _line(options, name)
        }
        if not senses:
            raise ValueError(f"no line means anything: give at least one of {', '.join(SENSES)} an input")
        used = [drive.line for drive in drives.values()]
        if len(set(used)) < len(used):
            raise ValueError(f"two of {', '.join(drives)} are on the same line; an output has one meaning")
        return cls(senses, drives, int(options.get("debounce_ms", 0)) * 1_000_000)


def _line(options: Mapping[str, Any], name: str) -> list[tuple[str, bool]]:
    text: str | None = options.get(name)
    return [] if not text else [(text.lstrip("!").upper(), text.startswith("!"))]
