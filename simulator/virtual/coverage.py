"""What a soak has met: cells of (state, kind of observation) in each part of the core, and faults.

What was never met says more than what was: a clean soak proves nothing about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from simulator.virtual.events import Agent, Events, Fault

Cell = tuple[str, str, str]  # part of the core, its state, kind of the observation that came in it
START, STARTED = "not started", "Started"  # that state, and the one observation that comes in it alone


class Coverage:
    """Cells and faults of one or many runs."""

    def __init__(self, cells: Iterable[Cell] = (), faults: Mapping[str, int] | None = None) -> None:
        self.cells = set(cells)
        self.faults = Counter(faults or {})

    def add(self, other: Coverage) -> None:
        self.cells |= other.cells
        self.faults += other.faults

    def never(self, states: Mapping[str, Iterable[str]], observations: Iterable[str]) -> list[Cell]:
        """Cells that were not met, of all that there are; a start comes in no state at all."""
        kinds = [kind for kind in observations if kind != STARTED]
        every = {(part, state, kind) for part, values in states.items() for state in values for kind in kinds}
        return sorted(every - self.cells)


class Watch:
    """Watches the events of one run. An observation counts for the states that it came in."""

    def __init__(self, events: Events) -> None:
        self._met: dict[tuple[Any, Any, Any], set[type]] = {}
        self._enter(None, None, None)
        self._faults: Counter[str] = Counter()
        events.subscribe_steps(self._observed)
        events.subscribe(self._started, Agent)
        events.subscribe(self._fault, Fault)

    def coverage(self) -> Coverage:
        cells: set[Cell] = set()
        for states, kinds in self._met.items():
            for part, state in zip(("tether", "ignition", "power"), states, strict=True):
                value = START if state is None else state.value
                cells |= {(part, value, kind.__name__) for kind in kinds}
        return Coverage(cells, self._faults)

    def _enter(self, tether: Any, ignition: Any, power: Any) -> None:
        self._tether, self._ignition, self._power = tether, ignition, power
        self._kinds = self._met.setdefault((tether, ignition, power), set())

    def _observed(self, _at: int, observation: object, state: Any) -> None:
        self._kinds.add(type(observation))
        tether, ignition, power = state.tether.state, state.ignition.state, state.power.mode
        if tether is not self._tether or ignition is not self._ignition or power is not self._power:
            self._enter(tether, ignition, power)

    def _started(self, event: Any) -> None:
        self._enter(None, None, None)

    def _fault(self, event: Any) -> None:
        if event.on:
            self._faults[event.name] += 1
