"""Hints: what sources without a key say of the seat. Shown with their age; what else they do is policy.

Anybody can fake a hint: a bridge on two pins, a USB gadget with the right ids. So a hint never turns proof
into none by itself and never makes good what is not proved, unless policy says so for its kind:

- ``report``: a contradiction to what is proved is shown and recorded.
- ``restrict``: the word "out" that lasts restricts as well, whatever else is proved.
- ``allow``, control lines only: the word "in" stands for proof and STATUS. The word "out" is then the loss of
  evidence, bridged by the ride-through like any other: lines drop when a dock browns out in a crank.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.core.catalogue import TETHER_CONFLICT
from agent.core.evolve import evolve
from agent.core.notes import note
from agent.core.policy import DockBit, HintUse, TetherPolicy
from agent.core.state import NEVER, Hint, Tether, TetherState
from agent.core.types import (
    MS,
    BootNs,
    DockHint,
    DockLinkLost,
    Effect,
    Effects,
    Evidence,
    HintKind,
    Write,
)

MAX_SOURCES = 8  # ours: as many docks as a configuration may name
SOURCES = {
    HintKind.LINES: "control lines",
    HintKind.USB: "USB presence",
    HintKind.SWITCH: "dock switch",
    HintKind.SUPPLY: "supply",
}


def use(kind: HintKind, policy: TetherPolicy) -> HintUse:
    """What policy lets a kind of source do."""
    match kind:
        case HintKind.LINES:
            return policy.hint_lines
        case HintKind.USB:
            return policy.hint_usb
        case HintKind.SWITCH:
            return policy.hint_switch
        case HintKind.SUPPLY:
            return HintUse.REPORT


def inside(said: DockHint) -> bool | None:
    """Whether a source says that the tablet is in: what it senses of seat and contact, taken together."""
    if said.seated is False or said.mated is False:
        return False
    return True if said.seated or said.mated else None


# --- evidence -------------------------------------------------------------------------------------


def take(tether: Tether, obs: DockHint, now: BootNs) -> Tether:
    """The tether with the newest word of a source; one older than its last says nothing."""
    before = _of(tether, obs.dock)
    if before is not None and not before.lost and obs.at < before.said.at:
        return tether
    if before is None and len(tether.hints) >= MAX_SOURCES:
        return tether
    out_since = None
    if inside(obs) is False:
        out_since = now if before is None or before.out_since is None else before.out_since
    if before is None:
        return _with(tether, Hint(obs, out_since))
    return _with(tether, Hint(obs, out_since, False, before.against_since, before.reported))


def lose(tether: Tether, obs: DockLinkLost) -> Tether:
    """The tether once the way to a source is gone.

    Its last "in" says nothing any more. Its last "out" does: to pull the source must not end a restriction.
    """
    before = _of(tether, obs.dock)
    if before is None:
        return tether
    return _with(tether, Hint(before.said, before.out_since, True, before.against_since, before.reported))


def _of(tether: Tether, dock: str) -> Hint | None:
    return next((hint for hint in tether.hints if hint.said.dock == dock), None)


def _with(tether: Tether, hint: Hint) -> Tether:
    others = [each for each in tether.hints if each.said.dock != hint.said.dock]
    return evolve(tether, hints=tuple(sorted([*others, hint], key=lambda each: each.said.dock)))


# --- what policy makes of it ----------------------------------------------------------------------


def restricts(tether: Tether, now: BootNs, policy: TetherPolicy, *, cranking: bool) -> bool:
    """A source that may restrict has said "out" for long enough.

    A crank window keeps it from beginning to restrict, not from going on: a dip of the supply is no release.
    """
    if cranking and tether.state is not TetherState.RESTRICTED:
        return False
    return any(
        hint.out_since is not None
        and use(hint.said.kind, policy) is HintUse.RESTRICT
        and now >= hint.out_since + policy.hint_hold_ms * MS
        for hint in tether.hints
    )


def held_at(tether: Tether, now: BootNs, policy: TetherPolicy) -> BootNs | None:
    """The time of the fresh word of control lines that stands for proof, with every required bit set.

    Not beside a dock with a key: once one has proved itself in this run, only proof holds.
    """
    if policy.hint_lines is not HintUse.ALLOW or tether.dock:
        return None
    found: BootNs | None = None
    for hint in tether.hints:
        said = hint.said
        if said.kind is not HintKind.LINES or hint.lost:
            continue
        if hint.out_since is not None:
            return None  # of two cradles one says out: none holds
        fresh = tether.barrier <= said.at <= now < said.at + policy.hint_fresh_ms * MS
        if fresh and all(word(said, bit) for bit in policy.required) and (found is None or said.at > found):
            found = said.at
    return found


def word(said: DockHint, bit: DockBit) -> bool | None:
    """What a hint says of a bit; None is "not known"."""
    match bit:
        case DockBit.SEATED:
            return said.seated
        case DockBit.MATED:
            return said.mated
        case DockBit.LOCKED:
            return said.locked


def stale_at(tether: Tether, now: BootNs, policy: TetherPolicy) -> int:
    """When control lines that stand for proof go stale; ``NEVER`` if none do."""
    at = held_at(tether, now, policy)
    return NEVER if at is None else at + policy.hint_fresh_ms * MS


def standing(tether: Tether, policy: TetherPolicy) -> Iterator[BootNs]:
    """Times at which a hint begins to restrict, or its contradiction is reported; some may be past."""
    hold_ns = policy.hint_hold_ms * MS
    for hint in tether.hints:
        if hint.out_since is not None and use(hint.said.kind, policy) is HintUse.RESTRICT:
            yield BootNs(hint.out_since + hold_ns)
        if hint.against_since is not None and not hint.reported:
            yield BootNs(hint.against_since + hold_ns)


# --- contradictions -------------------------------------------------------------------------------


def contradiction(hint: Hint, tether: Tether, *, proven: bool) -> str:
    """What a source says against what the dock says, authenticated; empty where they do not contradict."""
    said = None if hint.lost else inside(hint.said)
    source = f"{SOURCES[hint.said.kind]} {hint.said.dock}"
    if said is False and proven:
        return f"{source} says out, dock {tether.dock} proves in"
    if said is True and tether.unseated:
        return f"{source} says in, dock {tether.dock} says out, authenticated"
    return ""


def conflicts(tether: Tether, *, proven: bool) -> tuple[str, ...]:
    """Every contradiction that stands, in words."""
    words = (contradiction(hint, tether, proven=proven) for hint in tether.hints)
    return tuple(each for each in words if each)


def settle(
    tether: Tether, now: BootNs, policy: TetherPolicy, *, proven: bool, cranking: bool
) -> tuple[Tether, Effects]:
    """Record the contradictions that have lasted, and the end of those that were recorded."""
    effects: list[Effect] = []
    for hint in tether.hints:
        words = contradiction(hint, tether, proven=proven)
        since = hint.against_since
        after = hint
        if words and (since is None or (cranking and not hint.reported)):
            after = Hint(hint.said, hint.out_since, hint.lost, now, hint.reported)
        elif words and since is not None and not hint.reported and now >= since + policy.hint_hold_ms * MS:
            after = Hint(hint.said, hint.out_since, hint.lost, since, True)
            effects.append(_report(hint, now, words, begins=True))
        elif not words and since is not None and (proven or tether.unseated or hint.lost):
            after = Hint(hint.said, hint.out_since, hint.lost)
            if hint.reported:
                effects.append(_report(hint, now, "over", begins=False))
        if after is not hint:
            tether = _with(tether, after)
    return tether, tuple(effects)


def _report(hint: Hint, now: BootNs, detail: str, *, begins: bool) -> Write:
    said = hint.said
    return Write(
        TETHER_CONFLICT.make(now, source=said.dock, kind=said.kind.value, begins=begins, detail=detail)
    )


# --- reports --------------------------------------------------------------------------------------


def evidence(tether: Tether, now: BootNs, policy: TetherPolicy) -> Iterator[Evidence]:
    """Every source with its age; what is not sensed is left out."""
    held = held_at(tether, now, policy)
    for hint in tether.hints:
        said = hint.said
        counts = held is not None and said.kind is HintKind.LINES and said.at == held
        remark = "its link is lost" if hint.lost else f"anybody can fake it; policy: {use(said.kind, policy)}"
        value = "says nothing" if hint.lost else described(said)
        source = f"{SOURCES[said.kind]} {said.dock}"
        yield note(source, value, said.at, now, fresh=not hint.lost, weight=100 if counts else 0,
                   remark=remark)  # fmt: skip


def described(said: DockHint) -> str:
    """A hint in words: only what it senses."""
    names = ("seated", "mated", "locked", "kl15", "supply_ok")
    words = [
        f"{name.replace('_', ' ')} {'yes' if value else 'no'}"
        for name in names
        if (value := getattr(said, name)) is not None
    ]
    words += [f"{mv} mV" for mv in (said.vehicle_mv,) if mv is not None]
    return ", ".join([*words, *([said.detail] if said.detail else [])]) or "nothing known"
