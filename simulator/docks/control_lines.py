"""A dock with control lines only, as its maker wires it: switches drive lines, lines drive parts.

Written from a wiring diagram such as docs/docks.md shows, not from the session. ``levels`` is what stands on
the wire; ``drive`` is what the tablet puts on it. With ``look`` its levels are bytes for the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drivers.docks.control_lines.codec import NO_INPUT, NO_OUTPUT, Input, Look, Output

INPUTS = {"cts": Input.CTS, "dsr": Input.DSR, "dcd": Input.DCD, "ri": Input.RI}
OUTPUTS = {"dtr": Output.DTR, "rts": Output.RTS}


@dataclass
class ControlLinesDock:
    """``wiring`` says by line what is on it: an input's switch, an output's part; "!" before it inverts.

    A dock without power drives nothing: every line reads as not asserted, whatever its polarity.
    """

    wiring: Mapping[str, str]
    powered: bool = True
    switches: dict[str, bool] = field(default_factory=dict)  # seated, mated, locked, kl15, supply_ok
    edges: dict[str, int] = field(default_factory=lambda: dict.fromkeys(INPUTS, 0))
    outputs: Output = NO_OUTPUT

    def levels(self) -> Input:
        found = NO_INPUT
        for name, line in INPUTS.items():
            what = self.wiring.get(name)
            if what is None or not self.powered:
                continue
            on = self.switches.get(what.lstrip("!"), False)
            if on is not what.startswith("!"):
                found |= line
        return found

    def put(self, **switches: bool) -> None:
        """Move switches; each line that moves has an edge."""
        before = self.levels()
        self.switches.update(switches)
        self._edges(before)

    def power(self, on: bool) -> None:
        before = self.levels()
        self.powered = on
        self._edges(before)

    def pulse(self, name: str) -> None:
        """A switch bounces: there and back, faster than anybody looks."""
        for line, what in self.wiring.items():
            if what.lstrip("!") == name and line in self.edges:
                self.edges[line] += 2

    def _edges(self, before: Input) -> None:
        moved = before ^ self.levels()
        for name, line in INPUTS.items():
            if moved & line:
                self.edges[name] += 1

    def drive(self, outputs: Output) -> None:
        self.outputs = outputs

    def parts(self) -> dict[str, bool]:
        """What the outputs do: latch, LED, buzzer, ..."""
        found = {}
        for name, line in OUTPUTS.items():
            what = self.wiring.get(name)
            if what is not None:
                found[what.lstrip("!")] = bool(self.outputs & line) is not what.startswith("!")
        return found

    def look(self, moved: Input = NO_INPUT) -> bytes:
        """A look at the lines as a port takes it."""
        return Look(self.levels(), self.outputs, moved).encode()
