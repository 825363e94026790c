"""Why ignition is judged as it is: every source with value, age and weight; grade and confidence."""

from __future__ import annotations

from typing import Any

from agent.core.ignition_rules import (
    ENGINE_WEIGHT,
    KEY_WEIGHT,
    SILENCE_WEIGHT,
    STRONG_WEIGHT,
    SUPPORTS,
    VOLTAGE_WEIGHT,
    WIRE_WEIGHT,
    Word,
)
from agent.core.ignition_words import charging, key_word, ready_word, rpm_word, wire_word
from agent.core.notes import note, unseen
from agent.core.policy import IgnitionPolicy
from agent.core.state import Grade, Ignition, IgnitionState, Reading
from agent.core.types import MS, SECOND, BootNs, BusState, Evidence


def _weigh(word: Word, weight: int, verdict: IgnitionState) -> tuple[int, str]:
    """What a fresh word weighs for a verdict, and how it stands to it."""
    supported = SUPPORTS.get(word)
    if supported is None:
        return 0, "decides nothing by itself"
    if verdict is IgnitionState.UNKNOWN:
        return 0, "not enough, or contradicted"
    return (weight, "agrees") if verdict in supported else (0, "contradicts")


def evidence(
    ignition: Ignition, now: BootNs, policy: IgnitionPolicy, verdict: IgnitionState | None = None
) -> tuple[Evidence, ...]:
    """Every source with value, age and weight for the verdict as of ``now``, also those never seen."""
    verdict = verdict or ignition.state
    rows: list[tuple[str, str, Reading[Any] | None, Word, int]] = [
        (
            f"dock wire ({policy.wire.value})", "on" if ignition.wire and ignition.wire.value else "off",
            ignition.wire, wire_word(ignition, now, policy), WIRE_WEIGHT,
        ),
        (
            "CAN ignition", ignition.key.value.value if ignition.key else "",
            ignition.key, key_word(ignition, now, policy), KEY_WEIGHT,
        ),
        (
            "engine speed", f"{ignition.rpm.value} rpm" if ignition.rpm else "",
            ignition.rpm, rpm_word(ignition, now, policy), ENGINE_WEIGHT,
        ),
        (
            "EV ready", "ready" if ignition.ready and ignition.ready.value else "not ready",
            ignition.ready, ready_word(ignition, now, policy), ENGINE_WEIGHT,
        ),
    ]  # fmt: skip
    notes: list[Evidence] = []
    for source, value, reading, word, full in rows:
        if reading is None:
            notes.append(unseen(source))
            continue
        limit_ms = policy.wire_fresh_ms if reading is ignition.wire else policy.can_fresh_ms
        fresh = reading.fresh(now, limit_ms * MS)
        weight, remark = _weigh(word, full, verdict) if fresh else (0, "stale: says nothing")
        if reading is ignition.wire and ignition.wire_hinted:
            remark += "; by a source without a key"
        notes.append(note(source, value, reading.at, now, fresh=fresh, weight=weight, remark=remark))
    return (
        *notes,
        *_voltage_notes(ignition, now, policy, verdict),
        *_bus_notes(ignition, now, policy, verdict),
    )


def _voltage_notes(
    ignition: Ignition, now: BootNs, policy: IgnitionPolicy, verdict: IgnitionState
) -> list[Evidence]:
    notes: list[Evidence] = []
    for source, reading in (
        ("vehicle supply (dock)", ignition.dock_mv),
        ("vehicle battery (CAN)", ignition.battery_mv),
        ("alternator (CAN)", ignition.alternator_mv),
    ):
        if reading is None:
            notes.append(unseen(source))
            continue
        fresh = reading.fresh(now, policy.voltage_fresh_ms * MS)
        agrees = reading.value >= policy.charging_mv and verdict is IgnitionState.RUNNING
        remark = "charging" if reading.value >= policy.charging_mv else "voltage alone decides nothing"
        notes.append(
            note(source, f"{reading.value} mV", reading.at, now, fresh=fresh,
                 weight=VOLTAGE_WEIGHT if agrees else 0, remark=remark)
        )  # fmt: skip
    return notes


def _bus_notes(
    ignition: Ignition, now: BootNs, policy: IgnitionPolicy, verdict: IgnitionState
) -> list[Evidence]:
    notes: list[Evidence] = []
    charged = charging(ignition, now, policy)
    for bus in ignition.buses:
        quiet = bus.state is BusState.SILENT and now >= bus.since + policy.bus_silence_s * SECOND
        agrees = quiet and verdict is IgnitionState.OFF and not charged
        remark = "corroborates off; a cut cable looks the same" if quiet else ""
        if quiet and charged:
            remark = "corroborates nothing: the battery is charged, so it may be a cut cable"
        notes.append(
            note(f"CAN bus {bus.name}", bus.state.value, bus.since, now, fresh=True,
                 weight=SILENCE_WEIGHT if agrees else 0, remark=remark)
        )  # fmt: skip
    return notes or [unseen("CAN bus")]


def graded(seen: tuple[Evidence, ...]) -> Grade:
    """Confirmed by two kinds of evidence, single by a strong one, otherwise inferred."""
    weights = [item.weight for item in seen if item.weight]
    if len(weights) > 1:
        return Grade.CONFIRMED
    return Grade.SINGLE if weights and weights[0] >= STRONG_WEIGHT else Grade.INFERRED


def confidence(ignition: Ignition, seen: tuple[Evidence, ...]) -> int:
    """0 to 100: what agreeing evidence leaves of doubt, halved by a conflict; 0 while unknown."""
    if ignition.state is IgnitionState.UNKNOWN:
        return 0
    doubt = 100
    for item in seen:
        doubt = doubt * (100 - item.weight) // 100
    sure = 100 - doubt
    return sure // 2 if ignition.conflict else sure
