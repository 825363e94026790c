"""What came of the dock's latch, light and buzzer: recorded once for each dock and answer after each change.

They are repeated at each proof, since a reset dock has forgotten them; only what is news is recorded.
"""

from __future__ import annotations

from agent.core.catalogue import LOCK_OUTCOME
from agent.core.evolve import evolve
from agent.core.state import State
from agent.core.types import CommandOutcome, DockCommandDone, DriveOutputs, Effect, Write

TOLD_MAX = 32  # docks times answers, ours: 8 docks can be configured

_ANSWERS = {
    CommandOutcome.DONE: "the dock did it",
    CommandOutcome.REFUSED: "the dock refused; see its fault bits",
    CommandOutcome.LOST: "no answer from the dock",
}


def asked(state: State, wanted: DriveOutputs) -> State:
    """The state in which ``wanted`` is asked of the docks; a change of what people notice is news."""
    if _noticed(wanted) == _noticed(state.outputs):
        return evolve(state, outputs=wanted)
    return evolve(state, outputs=wanted, outputs_asked=state.now, outputs_told=())


def answered(state: State, obs: DockCommandDone, effects: list[Effect]) -> State:
    """Record a dock's answer, unless it is old news or to an older wish."""
    told = (obs.dock, obs.outcome)
    old_news = told in state.outputs_told or len(state.outputs_told) >= TOLD_MAX
    if obs.command != "outputs" or not obs.newest or state.outputs_asked is None or old_news:
        return state
    record = LOCK_OUTCOME.make(
        state.now,
        decision=state.decision,
        action=f"dock_outputs:{obs.dock}",
        ok=obs.outcome is CommandOutcome.DONE,
        took_us=(state.now - state.outputs_asked) // 1000,
        detail=f"{_words(state.outputs)}: {_ANSWERS[obs.outcome]}",
    )
    effects.append(Write(record))
    return evolve(state, outputs_told=(*state.outputs_told, told))


def _noticed(outputs: DriveOutputs) -> tuple[bool | None, ...]:
    """Power outputs are no part of enforcement."""
    return (outputs.latch, outputs.led, outputs.buzzer)


def _words(outputs: DriveOutputs) -> str:
    latch = "held" if outputs.latch else "free"
    light, buzzer = ("on" if on else "off" for on in (outputs.led, outputs.buzzer))
    return f"latch {latch}, light {light}, buzzer {buzzer}"
