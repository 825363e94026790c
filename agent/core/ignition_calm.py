"""How long ignition stays as it is: what evidence stirs it, and when it may change by itself."""

from __future__ import annotations

from agent.core.ignition_words import (
    ALTERNATOR,
    BATTERY,
    ENGINE_SPEED,
    IGNITION,
    READY,
    charges,
    key_word,
    ready_word,
    rpm_word,
    wire_word,
)
from agent.core.policy import IgnitionPolicy
from agent.core.state import NEVER, Ignition, IgnitionState
from agent.core.types import MS, SECOND, BootNs, SignalKind


def status_stirs(before: Ignition, after: Ignition, now: BootNs, policy: IgnitionPolicy) -> bool:
    """Whether a STATUS that was taken in since ``before`` was settled may change what ``settle`` finds.

    Not where wire and voltage say what they said. Within a crank window times count too.
    """
    return (
        after.crank is not None
        or wire_word(after, now, policy) is not wire_word(before, now, policy)
        or charges(after.dock_mv, now, policy) is not charges(before.dock_mv, now, policy)
    )


def signal_stirs(
    before: Ignition, after: Ignition, kind: SignalKind, now: BootNs, policy: IgnitionPolicy
) -> bool:
    """The same for a signal."""
    if after.crank is not None:
        return True
    if kind is ENGINE_SPEED:
        return rpm_word(after, now, policy) is not rpm_word(before, now, policy)
    if kind is IGNITION:
        return key_word(after, now, policy) is not key_word(before, now, policy)
    if kind is READY:
        return ready_word(after, now, policy) is not ready_word(before, now, policy)
    if kind is BATTERY:
        return charges(after.battery_mv, now, policy) is not charges(before.battery_mv, now, policy)
    if kind is ALTERNATOR:
        return charges(after.alternator_mv, now, policy) is not charges(before.alternator_mv, now, policy)
    return False


def signal_stale_at(ignition: Ignition, kind: SignalKind, policy: IgnitionPolicy) -> int:
    """When the last signal of a kind goes stale, or went; ``NEVER`` if none came."""
    if kind is ENGINE_SPEED:
        signal = ignition.rpm
        return NEVER if signal is None else signal.at + policy.can_fresh_ms * MS
    if kind is BATTERY or kind is ALTERNATOR:
        voltage = ignition.battery_mv if kind is BATTERY else ignition.alternator_mv
        return NEVER if voltage is None else voltage.at + policy.voltage_fresh_ms * MS
    switch = ignition.key if kind is IGNITION else ignition.ready if kind is READY else None
    return NEVER if switch is None else switch.at + policy.can_fresh_ms * MS


def stale_at(ignition: Ignition, now: BootNs, policy: IgnitionPolicy) -> int:
    """When the next source that says something goes stale; ``NEVER`` if none will."""
    earliest: int = NEVER
    wire = ignition.wire
    if wire is not None and now < (at := wire.at + policy.wire_fresh_ms * MS):
        earliest = at
    fresh_ns = policy.can_fresh_ms * MS
    for signal in (ignition.key, ignition.rpm, ignition.ready):
        if signal is not None and now < (at := signal.at + fresh_ns) < earliest:
            earliest = at
    fresh_ns = policy.voltage_fresh_ms * MS
    for voltage in (ignition.dock_mv, ignition.battery_mv, ignition.alternator_mv):
        if voltage is None or voltage.value < policy.charging_mv:
            continue
        if now < (at := voltage.at + fresh_ns) < earliest:
            earliest = at
    return earliest


def standing(ignition: Ignition, policy: IgnitionPolicy) -> list[BootNs]:
    """The other times at which the verdict or the crank window may change by itself; some may be past."""
    times: list[int] = []
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
