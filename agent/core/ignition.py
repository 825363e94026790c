"""Ignition: one verdict from the dock's wire, CAN, the engine and the supply, with its reasons.

``take`` keeps the last evidence of each source; ``settle`` turns what is fresh into words, looks the rule
up (``ignition_rules``), and changes the verdict once the rule has stood for its delay. A stale source says
nothing: it never says off.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, assert_never

from agent.core.catalogue import IGNITION_CHANGED
from agent.core.ignition_evidence import evidence, graded
from agent.core.ignition_rules import Delay, EngineWord, KeyWord, Rule, When, WireWord, decide
from agent.core.ignition_words import charging, crank_open, engine_word, key_word, wire_word
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
    DockStatus,
    Effects,
    KeyPosition,
    Observation,
    SignalKind,
)

MAX_BUSES = 8  # ours; a vehicle has at most four that a configuration may name

_ORDINARY: frozenset[When] = frozenset()


# --- evidence -------------------------------------------------------------------------------------


def take(ignition: Ignition, obs: Observation, now: BootNs, policy: IgnitionPolicy) -> Ignition:
    """The ignition with one more piece of evidence. Decides nothing."""
    match obs:
        case DockStatus(authenticated=True):
            return _take_status(ignition, obs, now, policy)
        case CanSignal():
            return _take_signal(ignition, obs, now, policy)
        case CanBus():
            return _take_bus(ignition, obs, now)
        case _:
            return ignition


def _take_status(ignition: Ignition, obs: DockStatus, now: BootNs, policy: IgnitionPolicy) -> Ignition:
    at = BootNs(min(obs.evidence_at, now))
    updates: dict[str, Any] = {}
    if obs.kl15 is not None and (ignition.wire is None or at >= ignition.wire.at):
        updates["wire"] = Reading(obs.kl15, at)
        if obs.kl15:
            updates["kl15_at"] = at
    if obs.vehicle_mv is not None:
        updates["dock_mv"] = Reading(obs.vehicle_mv, now)
        if _fell(ignition.dock_mv, obs.vehicle_mv, now, policy):
            updates["crank"] = _cranked(ignition, now, policy)
    return replace(ignition, **updates) if updates else ignition


def _take_signal(ignition: Ignition, obs: CanSignal, now: BootNs, policy: IgnitionPolicy) -> Ignition:
    value = obs.value
    match obs.kind:
        case SignalKind.IGNITION:
            if not isinstance(value, KeyPosition):
                return ignition
            ignition = replace(ignition, key=Reading(value, now))
            if value is not KeyPosition.START:
                return ignition
            return replace(ignition, start_at=now, crank=_cranked(ignition, now, policy))
        case SignalKind.ENGINE_SPEED:
            ignition = replace(ignition, rpm=Reading(int(_number(value)), now))
            if not 0 < _number(value) < policy.running_rpm:
                return ignition
            return replace(ignition, crank=_cranked(ignition, now, policy))
        case SignalKind.BATTERY:
            fell = _fell(ignition.battery_mv, _number(value), now, policy)
            crank = _cranked(ignition, now, policy) if fell else ignition.crank
            return replace(ignition, battery_mv=Reading(_number(value), now), crank=crank)
        case SignalKind.ALTERNATOR:
            return replace(ignition, alternator_mv=Reading(_number(value), now))
        case SignalKind.READY:
            return replace(ignition, ready=Reading(value is True, now))
        case SignalKind.SPEED:
            return ignition
        case _:
            assert_never(obs.kind)


def _number(value: int | bool | KeyPosition) -> int:
    """A signal's number; a value of the wrong type, which no profile makes, counts as 0."""
    return 0 if isinstance(value, KeyPosition) else int(value)


def _take_bus(ignition: Ignition, obs: CanBus, now: BootNs) -> Ignition:
    others = tuple(bus for bus in ignition.buses if bus.name != obs.bus)
    known = next((bus for bus in ignition.buses if bus.name == obs.bus), None)
    if (known is not None and known.state is obs.state) or len(others) >= MAX_BUSES:
        return ignition
    return replace(ignition, buses=(*others, Bus(obs.bus, obs.state, now)))


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
        return replace(ignition, crank=None)
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
        return (ignition if ignition.pending is None else replace(ignition, pending=None)), ()
    if wanted != ignition.pending:
        ignition = replace(
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
    maybe_stuck = (
        wire is WireWord.ON
        and key is KeyWord.OFF
        and engine in (EngineWord.NONE, EngineWord.STILL)
        and not charging(ignition, now, policy)
    )
    if maybe_stuck != (ignition.stuck_since is not None):
        ignition = replace(ignition, stuck_since=now if maybe_stuck else None)
    if ignition.stuck_since is not None and now >= ignition.stuck_since + policy.stuck_s * SECOND:
        return ignition, frozenset({When.STUCK})
    if wire is WireWord.NONE and ignition.wire is not None and crank_open(ignition, now, policy):
        # Lost within this window, not long before it.
        crank = ignition.crank
        lost_at = ignition.wire.at + policy.wire_fresh_ms * MS
        if crank is not None and lost_at >= crank.opened_at:
            return ignition, frozenset({When.LOST_IN_CRANK})
    return ignition, _ORDINARY


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
    after = replace(
        ignition, decision=decision, state=state, conflict=conflict, grade=grade, pending=None,
        since=ignition.since if state is ignition.state else now,
    )  # fmt: skip
    extra = {"grade": grade.value, "conflicts": json.dumps(conflicts)}
    return after, tuple(change(IGNITION_CHANGED, ignition.state.value, decision, **extra))


def deadlines(ignition: Ignition, policy: IgnitionPolicy) -> list[BootNs]:
    """Every time at which the verdict or the crank window may change by itself; some may be past."""
    times: list[int] = []
    if ignition.wire is not None:
        times.append(ignition.wire.at + policy.wire_fresh_ms * MS)
    signals = (ignition.key, ignition.rpm, ignition.ready)
    times += [signal.at + policy.can_fresh_ms * MS for signal in signals if signal is not None]
    times += [
        voltage.at + policy.voltage_fresh_ms * MS
        for voltage in (ignition.dock_mv, ignition.battery_mv, ignition.alternator_mv)
        if voltage is not None and voltage.value >= policy.charging_mv
    ]
    if ignition.pending is not None:
        times.append(ignition.pending_since + ignition.pending_ns)
    if ignition.stuck_since is not None:
        times.append(ignition.stuck_since + policy.stuck_s * SECOND)
    if ignition.crank is not None:
        times.append(ignition.crank.evidence_at + policy.crank_quiet_s * SECOND)
        times.append(ignition.crank.opened_at + policy.crank_max_s * SECOND)
        if ignition.state is IgnitionState.RUNNING:
            start = max(ignition.since, ignition.crank.evidence_at)
            times.append(start + policy.crank_after_running_ms * MS)
    return [BootNs(time) for time in times]
