"""Events of a run as lines for a person, who looks for why it failed."""

from __future__ import annotations

from agent.core.records import Record
from agent.core.types import (
    MINUTE,
    SECOND,
    Announce,
    BootNs,
    CanSignal,
    CutPowerIn,
    DeadlineReached,
    DockStatus,
    Effect,
    Lock,
    Observation,
    Release,
    RequestPower,
    Shed,
)
from simulator.virtual.events import (
    Act,
    Agent,
    Attempted,
    Awaited,
    CanSent,
    Committed,
    Delivered,
    Effected,
    Event,
    Fault,
    Held,
    LockState,
    Observed,
    Power,
    Refused,
    Usable,
)

# What goes on all the time and changes nothing.
_STEADY = (DockStatus, CanSignal, DeadlineReached)
_TOLD = (Lock, Release, RequestPower, CutPowerIn, Shed, Announce)


def line(event: Event) -> str | None:
    """One line; None for what is told all the time, and what follows from another line."""
    words = _words(event)
    return None if words is None else f"{clock(event.at)}  {words}"


def clock(at: BootNs) -> str:
    """Days, hours, minutes and seconds of the world."""
    minutes, ns = divmod(at, MINUTE)
    hours, minute = divmod(minutes, 60)
    return f"{hours // 24}d {hours % 24:02}:{minute:02}:{ns / SECOND:06.3f}"


def _words(event: Event) -> str | None:
    match event:
        case Act(what=what):
            return f"person    {what}"
        case Fault(name=name, on=on):
            return f"FAULT     {name} {'begins' if on else 'ends'}"
        case Power(state=state):
            return f"tablet    {state}"
        case Agent(what=what, run=run):
            return f"agent     {what}, run {run}"
        case Held(held=held, linked=linked):
            return f"dock      {'held' if held else 'linked, not seated' if linked else 'gone'}"
        case LockState(locked=locked):
            return f"session   {'locked' if locked else 'opened'}"
        case Usable(usable=usable):
            return f"tablet    {'can' if usable else 'cannot'} be used"
        case CanSent(by=by):
            return f"bus       a frame by {by}"
        case Awaited(what=what):
            return f"rest      by now it should be {what}"
        case Observed(observation=observation):
            return _observation(observation)
        case Effected(effect=effect):
            return _effect(effect)
        case Attempted(ticket=ticket, records=records):
            told = [text for record in records if (text := _record(record)) is not None]
            return f"records   {'; '.join(told)}  (ticket {ticket})" if told else None
        case Committed(ticket=ticket, seqs=seqs):
            spans = ", ".join(f"{stream.value} {first} to {last}" for stream, first, last in seqs)
            return f"durable   ticket {ticket}: {spans}" if spans else None
        case Refused(ticket=ticket, why=why):
            return f"refused   ticket {ticket}: {why}"
        case Delivered(stream=stream, first=first, last=last, rows=rows):
            return f"depot     {stream.value} {first} to {last}{'' if rows else ' as a gap'}"
        case _:
            return None


def _observation(observation: Observation) -> str | None:
    if isinstance(observation, _STEADY):
        return None
    return f"sees      {_plain(observation)}"


def _effect(effect: Effect) -> str | None:
    if isinstance(effect, Lock | Release | RequestPower):
        cause = effect.cause
        verb = effect.verb.value if isinstance(effect, RequestPower) else f"decision {effect.decision}"
        return f"does      {type(effect).__name__} {verb}: {cause.rule}, {cause.because}"
    return f"does      {_plain(effect)}" if isinstance(effect, _TOLD) else None


def _record(record: Record) -> str | None:
    fields = record.as_dict()
    if record.kind.name == "power.sample":
        return None
    told = [str(fields[name]) for name in ("before", "verdict", "because", "detail") if fields.get(name)]
    return f"{record.kind.name} {' > '.join(told)}"


def _plain(thing: Observation | Effect) -> str:
    """Its fields without its time."""
    values = (
        f"{name}={getattr(value, 'value', value)}"
        for name in type(thing).__slots__
        if name != "at" and (value := getattr(thing, name)) is not None
    )
    return f"{type(thing).__name__} {' '.join(values)}"
