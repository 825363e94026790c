"""Ignition: one verdict from the dock's wire, CAN, the engine and the supply, with its reasons.

``take`` keeps the last evidence of each source; ``settle`` turns what is fresh into words, looks the rule
up (``ignition_rules``), and changes the verdict once the rule has stood for its delay. A stale source says
nothing: it never says off.
"""

from __future__ import annotations

import json
from typing import assert_never

from agent.core.catalogue import IGNITION_CHANGED
from agent.core.evolve import evolve
from agent.core.ignition_evidence import evidence, graded
from agent.core.ignition_rules import Delay, EngineWord, KeyWord, Rule, When, WireWord, decide
from agent.core.ignition_words import (
    ALTERNATOR,
    BATTERY,
    ENGINE_SPEED,
    IGNITION,
    READY,
    SPEED,
    START,
    charging,
    crank_open,
    engine_word,
    key_word,
    wire_word,
)
from agent.core.notes import change
from agent.core.policy import IgnitionPolicy
from agent.core.state import Bus, Crank, Ignition, IgnitionState, Reading
from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CanBus,
    CanSignal,
    Decision,
    DockHint,
    DockStatus,
    Effects,
    KeyPosition,
    Observation,
)

MAX_BUSES = 8  # ours; a vehicle has at most four that a configuration may name

_ORDINARY: frozenset[When] = frozenset()


# --- evidence -------------------------------------------------------------------------------------


def take(ignition: Ignition, obs: Observation, now: BootNs, policy: IgnitionPolicy) -> Ignition:
    """The ignition with one more piece of evidence. Decides nothing."""
    match obs:
        case CanSignal():
            return take_signal(ignition, obs, now, policy)
        case DockStatus(authenticated=True):
            return take_status(ignition, obs, now, policy)
        case CanBus():
            return _take_bus(ignition, obs, now)
        case DockHint() if policy.hints:
            return _take_hint(ignition, obs, now, policy)
        case _:
            return ignition


def take_status(ignition: Ignition, obs: DockStatus, now: BootNs, policy: IgnitionPolicy) -> Ignition:
    """What ``take`` does with an authenticated STATUS."""
    at = obs.evidence_at if obs.evidence_at < now else now
    wire, kl15_at, dock_mv, crank = ignition.wire, ignition.kl15_at, ignition.dock_mv, ignition.crank
    wire_hinted, mv_hinted = ignition.wire_hinted, ignition.mv_hinted
    if obs.kl15 is not None and (wire is None or wire_hinted or at >= wire.at):
        wire, wire_hinted = Reading(obs.kl15, at), False
        if obs.kl15:
            kl15_at = at
    if obs.vehicle_mv is not None:
        # Of two meters one may read lower: only a fall by the same one is a fall.
        if not mv_hinted and _fell(dock_mv, obs.vehicle_mv, now, policy):
            crank = _cranked(ignition, now, policy)
        dock_mv, mv_hinted = Reading(obs.vehicle_mv, now), False
    return evolve(
        ignition, wire=wire, kl15_at=kl15_at, dock_mv=dock_mv, crank=crank,
        wire_hinted=wire_hinted, mv_hinted=mv_hinted,
    )  # fmt: skip


def _take_hint(ignition: Ignition, obs: DockHint, now: BootNs, policy: IgnitionPolicy) -> Ignition:
    """Wire and voltage of a source without a key, where no authenticated dock says anything of them.

    It never earns the crank extension: ``kl15_at`` stays as it is.
    """
    wire, dock_mv = ignition.wire, ignition.dock_mv
    spoken = wire is not None and not ignition.wire_hinted and wire.fresh(now, policy.wire_fresh_ms * MS)
    if obs.kl15 is not None and not spoken:
        ignition = evolve(ignition, wire=Reading(obs.kl15, now), wire_hinted=True)
    measured = (
        dock_mv is not None and not ignition.mv_hinted and dock_mv.fresh(now, policy.voltage_fresh_ms * MS)
    )
    if obs.vehicle_mv is not None and not measured:
        if ignition.mv_hinted and _fell(dock_mv, obs.vehicle_mv, now, policy):
            ignition = evolve(ignition, crank=_cranked(ignition, now, policy))
        ignition = evolve(ignition, dock_mv=Reading(obs.vehicle_mv, now), mv_hinted=True)
    return ignition


def take_signal(ignition: Ignition, obs: CanSignal, now: BootNs, policy: IgnitionPolicy) -> Ignition:
    """What ``take`` does with a CAN signal."""
    kind, value = obs.kind, obs.value
    if kind is ENGINE_SPEED:
        rpm = Reading(_number(value), now)
        if not 0 < rpm.value < policy.running_rpm:
            return evolve(ignition, rpm=rpm)
        return evolve(ignition, rpm=rpm, crank=_cranked(ignition, now, policy))
    if kind is IGNITION:
        if not isinstance(value, KeyPosition):
            return ignition
        key = Reading(value, now)
        if value is not START:
            return evolve(ignition, key=key)
        return evolve(ignition, key=key, start_at=now, crank=_cranked(ignition, now, policy))
    if kind is SPEED:
        return ignition
    if kind is BATTERY:
        mv = Reading(_number(value), now)
        if not _fell(ignition.battery_mv, mv.value, now, policy):
            return evolve(ignition, battery_mv=mv)
        return evolve(ignition, battery_mv=mv, crank=_cranked(ignition, now, policy))
    if kind is ALTERNATOR:
        return evolve(ignition, alternator_mv=Reading(_number(value), now))
    if kind is READY:
        return evolve(ignition, ready=Reading(value is True, now))
    assert_never(kind)


def _number(value: int | bool | KeyPosition) -> int:
    """A signal's number; a value of the wrong type, which no profile makes, counts as 0."""
    return 0 if isinstance(value, KeyPosition) else int(value)


def _take_bus(ignition: Ignition, obs: CanBus, now: BootNs) -> Ignition:
    others = tuple(bus for bus in ignition.buses if bus.name != obs.bus)
    known = next((bus for bus in ignition.buses if bus.name == obs.bus), None)
    if (known is not None and known.state is obs.state) or len(others) >= MAX_BUSES:
        return ignition
    return evolve(ignition, buses=(*others, Bus(obs.bus, obs.state, now)))


# --- the crank window -----------------------------------------------------------------------------


def _fell(before: Reading[int] | None, mv: int, now: BootNs, policy: IgnitionPolicy) -> bool:
    return (
        before is not None
        and before.value - mv > policy.crank_fall_mv
        and now - before.at <= policy.crank_fall_ms * MS
    )


def _cranked(ignition: Ignition, now: BootNs, policy: IgnitionPolicy) -> Crank:
    """One more sign of cranking: it prolongs an episode, or begins one."""
    crank = ignition.crank
    if crank is None or now >= crank.evidence_at + policy.crank_quiet_s * SECOND:
        return Crank(now, now)
    return Crank(crank.opened_at, now)


def _close_crank(ignition: Ignition, now: BootNs, policy: IgnitionPolicy) -> Ignition:
    crank = ignition.crank
    if crank is None:
        return ignition
    ran_ns = now - max(ignition.since, crank.evidence_at)
    running = ignition.state is IgnitionState.RUNNING and ran_ns >= policy.crank_after_running_ms * MS
    if running or now >= crank.evidence_at + policy.crank_quiet_s * SECOND:
        return evolve(ignition, crank=None)
    return ignition


# --- decision -------------------------------------------------------------------------------------


def settle(ignition: Ignition, now: BootNs, policy: IgnitionPolicy) -> tuple[Ignition, Effects]:
    """Bring the verdict in line with the evidence as of ``now``."""
    ignition = _close_crank(ignition, now, policy)
    wire = wire_word(ignition, now, policy)
    key = key_word(ignition, now, policy)
    engine = engine_word(ignition, now, policy)
    ignition, when = _circumstances(ignition, now, wire, key, engine, policy)
    rule = decide(wire, key, engine, when)
    stands = (ignition.state, ignition.conflict)
    wanted = stands if rule.verdict is None else (rule.verdict, rule.conflict)
    if wanted == stands:
        return (ignition if ignition.pending is None else evolve(ignition, pending=None)), ()
    if wanted != ignition.pending:
        ignition = evolve(
            ignition, pending=wanted, pending_since=now, pending_ns=_delay_ns(rule.delay, policy)
        )
    if now < ignition.pending_since + ignition.pending_ns:
        return ignition, ()
    return _change(ignition, rule, wanted, now, policy)


def _circumstances(
    ignition: Ignition,
    now: BootNs,
    wire: WireWord,
    key: KeyWord,
    engine: EngineWord,
    policy: IgnitionPolicy,
) -> tuple[Ignition, frozenset[When]]:
    # A parked vehicle's bus falls silent: that it said off last is remembered while the wire says on.
    said_off = key is KeyWord.OFF or (key is KeyWord.NONE and _had_contradicted(ignition, policy))
    maybe_stuck = (
        wire is WireWord.ON
        and said_off
        and engine in (EngineWord.NONE, EngineWord.STILL)
        and not charging(ignition, now, policy)
    )
    if maybe_stuck != (ignition.stuck_since is not None):
        ignition = evolve(ignition, stuck_since=now if maybe_stuck else None)
    if ignition.stuck_since is not None:
        if key is KeyWord.NONE:
            return ignition, frozenset({When.SAID_OFF})
        if now >= ignition.stuck_since + policy.stuck_s * SECOND:
            return ignition, frozenset({When.STUCK})
    if wire is WireWord.NONE and ignition.wire is not None and crank_open(ignition, now, policy):
        # Lost within this window, not long before it.
        crank = ignition.crank
        lost_at = ignition.wire.at + policy.wire_fresh_ms * MS
        if crank is not None and lost_at >= crank.opened_at:
            return ignition, frozenset({When.LOST_IN_CRANK})
    return ignition, _ORDINARY


def _had_contradicted(ignition: Ignition, policy: IgnitionPolicy) -> bool:
    """CAN said off beside a wire that says on for longer than the turn of a key takes both to tell."""
    since, key = ignition.stuck_since, ignition.key
    return since is not None and key is not None and key.at - since >= policy.settle_ms * MS


def _delay_ns(delay: Delay, policy: IgnitionPolicy) -> int:
    match delay:
        case Delay.NONE:
            return 0
        case Delay.ON:
            return policy.on_debounce_ms * MS
        case Delay.OFF:
            return policy.off_debounce_ms * MS
        case Delay.SETTLE:
            return policy.settle_ms * MS
        case _:
            assert_never(delay)


def _change(
    ignition: Ignition,
    rule: Rule,
    wanted: tuple[IgnitionState, str],
    now: BootNs,
    policy: IgnitionPolicy,
) -> tuple[Ignition, Effects]:
    state, conflict = wanted
    seen = evidence(ignition, now, policy, state)
    conflicts = (conflict,) if conflict else ()
    decision = Decision("ignition", state.value, rule.rule, rule.because, now, seen, conflicts)
    grade = graded(seen)
    after = evolve(
        ignition, decision=decision, state=state, conflict=conflict, grade=grade, pending=None,
        since=ignition.since if state is ignition.state else now,
    )  # fmt: skip
    extra = {"grade": grade.value, "conflicts": json.dumps(conflicts)}
    return after, tuple(change(IGNITION_CHANGED, ignition.state.value, decision, **extra))
