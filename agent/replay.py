"""Replay: the observations of a trace through the core, and what was decided against what is decided now.

A trace can be replayed from the start of a run, or from a head whose state this version still reads. Where
entries are missing it goes on at the next head.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agent import trace_format
from agent.core.machine import step
from agent.core.policy import Policy
from agent.core.state import State, initial
from agent.trace_format import Damage, Entry, Gap, Head, Policed, Step, TraceError, Wire
from agent.trace_text import lines, of_effects


@dataclass(frozen=True, slots=True)
class Difference:
    """One step that decides otherwise than the trace says."""

    number: int  # of the step in the trace, from 1
    recorded: Step
    replayed: list[Any]  # effects as a trace would hold them

    def text(self) -> Iterator[str]:
        """The observation, then a diff of the effects, field by field."""
        yield f"step {self.number}: {' '.join(lines(self.recorded, effects=False))}"
        recorded, replayed = of_effects(self.recorded.effects), of_effects(self.replayed)
        diff = difflib.unified_diff(recorded, replayed, "recorded", "replayed", lineterm="", n=2)
        yield from (f"    {line}" for line in diff)


@dataclass(slots=True)
class Replay:
    """The outcome. ``entries`` are those of the trace, with the effects that the core has now."""

    steps: int = 0  # that were replayed
    skipped: int = 0  # between something missing and the next head, or of another version
    runs: int = 0
    gaps: int = 0
    differences: list[Difference] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # why steps were skipped
    entries: list[Entry] = field(default_factory=list)


def replay(entries: Iterable[Entry | Damage]) -> Replay:
    """Replay a trace. Raises nothing for what a trace may hold; what cannot be replayed is counted."""
    outcome = Replay()
    core: tuple[State, Policy] | None = None
    number = 0
    for entry in entries:
        match entry:
            case Head():
                core = _stand(entry, core, outcome)
            case Policed():
                core = _police(entry, core, outcome)
            case Step():
                number += 1
                entry, core = _step(entry, number, core, outcome)
            case Gap() | Damage():
                outcome.gaps += 1
                core = None
            case Wire():
                pass
        if not isinstance(entry, Damage):
            outcome.entries.append(entry)
    return outcome


def _stand(head: Head, core: tuple[State, Policy] | None, outcome: Replay) -> tuple[State, Policy] | None:
    begins = head.state is None
    outcome.runs += begins
    try:
        policy = trace_format.policy(head)
        if begins:
            return initial(policy), policy
        if core is not None:
            return core[0], policy  # our own state proves more than the recorded one
        state = trace_format.state(head)
    except TraceError as error:
        outcome.problems.append(str(error))
        return None
    return None if state is None else (state, policy)


def _police(
    entry: Policed, core: tuple[State, Policy] | None, outcome: Replay
) -> tuple[State, Policy] | None:
    try:
        return None if core is None else (core[0], trace_format.policy(entry))
    except TraceError as error:
        outcome.problems.append(str(error))
        return None


def _step(
    recorded: Step, number: int, core: tuple[State, Policy] | None, outcome: Replay
) -> tuple[Step, tuple[State, Policy] | None]:
    if core is None:
        outcome.skipped += 1
        return recorded, None
    state, policy = core
    try:
        state, effects = step(state, trace_format.observation(recorded), policy)
        made = Step(recorded.kind, recorded.observation, trace_format.plain_effects(effects))
        fresh = trace_format.settled(made)
    except (TraceError, OverflowError) as error:  # OverflowError: no clock gives such times
        outcome.skipped += 1
        outcome.problems.append(f"step {number}: {error}")
        return recorded, None
    outcome.steps += 1
    if trace_format.encode(fresh) != trace_format.encode(recorded):
        outcome.differences.append(Difference(number, recorded, fresh.effects))
    return fresh, (state, policy)
