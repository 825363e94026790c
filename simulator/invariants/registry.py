"""The invariants there are: found in the modules of this package, as the faults are."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from typing import TypeVar

import simulator.invariants
from agent.core.types import BootNs
from simulator.invariants.base import Invariant, Violation
from simulator.invariants.facts import Facts, Limits
from simulator.virtual.events import Event, Events

Kind = TypeVar("Kind", bound=Invariant)

MOST_VIOLATIONS = 100  # ours: a broken world breaks the same thing again and again


@cache
def registry() -> tuple[type[Invariant], ...]:
    """Every invariant in the modules of this package, in the order of their numbers."""
    found: set[type[Invariant]] = set()
    for module in pkgutil.iter_modules(simulator.invariants.__path__, "simulator.invariants."):
        for thing in vars(importlib.import_module(module.name)).values():
            if isinstance(thing, type) and issubclass(thing, Invariant) and hasattr(thing, "number"):
                found.add(thing)
    return tuple(sorted(found, key=lambda kind: (kind.number, kind.__name__)))


class Inspector:
    """Watches a world's events with every invariant; ``violations`` are in the order of their finding."""

    def __init__(
        self, events: Events, limits: Limits, kinds: Iterable[type[Invariant]] | None = None
    ) -> None:
        self.facts = Facts(limits, self.tell)
        self.invariants = [kind(self.facts) for kind in (registry() if kinds is None else kinds)]
        self.violations: list[Violation] = []
        self.more = 0  # violations that were not kept
        self._by_kind: dict[type[Event], list[Invariant]] = {}
        for invariant in self.invariants:
            for event in invariant.kinds:
                self._by_kind.setdefault(event, []).append(invariant)
        events.subscribe_steps(self.facts.observed)
        for event in self.facts.kinds:
            events.subscribe(self._taken if event in self._by_kind else self.facts.take, event)
        for event in self._by_kind.keys() - set(self.facts.kinds):
            events.subscribe(self.tell, event)

    def the(self, kind: type[Kind]) -> Kind:
        """The one invariant of that class."""
        return next(invariant for invariant in self.invariants if isinstance(invariant, kind))

    def tell(self, event: Event) -> None:
        """Tell the invariants that want it."""
        for invariant in self._by_kind.get(type(event), ()):
            self._keep(invariant.observe(event))

    def finish(self, at: BootNs) -> None:
        """The run is over."""
        for invariant in self.invariants:
            self._keep(invariant.check(at))

    def _taken(self, event: Event) -> None:
        self.facts.take(event)
        self.tell(event)

    def _keep(self, violation: Violation | None) -> None:
        if violation is None:
            return
        if len(self.violations) < MOST_VIOLATIONS:
            self.violations.append(violation)
        else:
            self.more += 1
