"""What a soak has met: cells of (state, kind of observation) in each part of the core, and faults.

What was never met says more than what was: a clean soak proves nothing about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from simulator.virtual.events import Agent, Events, Fault, Observed

Cell = tuple[str, str, str]  # part of the core, its state, kind of the observation that came in it
START = "not started"


class Coverage:
    """Cells and faults of one or many runs."""

    def __init__(self, cells: Iterable[Cell] = (), faults: Mapping[str, int] | None = None) -> None:
        self.cells = set(cells)
        self.faults = Counter(faults or {})

    def add(self, other: Coverage) -> None:
        self.cells |= other.cells
        self.faults += other.faults

    def never(self, states: Mapping[str, Iterable[str]], observations: Iterable[str]) -> list[Cell]:
        """Cells that were not met, of all that there are."""
        kinds = list(observations)
        every = {(part, state, kind) for part, values in states.items() for state in values for kind in kinds}
        return sorted(every - self.cells)


class Watch:
    """Watches the events of one run. An observation counts for the states that it came in."""

    def __init__(self, events: Events) -> None:
        self._met: set[tuple[Any, Any, Any, type]] = set()
        self._states: tuple[Any, Any, Any] = (None, None, None)
        self._faults: Counter[str] = Counter()
        events.subscribe(self._observed, Observed)
        events.subscribe(self._started, Agent)
        events.subscribe(self._fault, Fault)

    def coverage(self) -> Coverage:
        cells: set[Cell] = set()
        for tether, ignition, power, kind in self._met:
            for part, state in (("tether", tether), ("ignition", ignition), ("power", power)):
                cells.add((part, START if state is None else state.value, kind.__name__))
        return Coverage(cells, self._faults)

    def _observed(self, event: Any) -> None:
        state = event.state
        self._met.add((*self._states, type(event.observation)))
        self._states = (state.tether.state, state.ignition.state, state.power.mode)

    def _started(self, event: Any) -> None:
        self._states = (None, None, None)

    def _fault(self, event: Any) -> None:
        if event.on:
            self._faults[event.name] += 1
