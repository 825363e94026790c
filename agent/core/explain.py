"""Answers for people and programs: what is, and why, as of now. JSON-able primitives only."""

from __future__ import annotations

from typing import Any

from agent.core import grant_words, hints, ignition_evidence, tether
from agent.core import power as power_
from agent.core.ignition_words import crank_open
from agent.core.policy import DockBit, Policy
from agent.core.power_energy import WH_UJ
from agent.core.state import Grants, Ignition, Power, State, Tether, TetherState
from agent.core.types import MS, SECOND, BootNs, Decision, Evidence

TOPICS = ("tether", "ignition", "power")


def status(state: State, policy: Policy, now: BootNs) -> dict[str, Any]:
    """Tether, ignition and power in short. Ages and times left are in ms as of ``now``."""
    return {
        "tether": _tether(state, policy, now),
        "ignition": _ignition(state.ignition, policy, now),
        "power": _power(state.power, state.ignition, policy, now),
        "hints": {
            hint.said.dock: {
                "value": "link lost" if hint.lost else hints.described(hint.said),
                "age_ms": _ms(now - hint.said.at),
            }
            for hint in state.tether.hints
        },
        "grants": _grants(state.grants, policy, now),
    }


def why(state: State, topic: str, policy: Policy, now: BootNs) -> dict[str, Any]:
    """The decision that stands on a topic, its rule, and every source as of ``now``.

    Raises:
        ValueError: the topic is not one of ``TOPICS``.
    """
    seen: tuple[Evidence, ...]
    conflicts: tuple[str, ...] | None = None
    if topic == "tether":
        decision = state.tether.decision
        seen = tether.evidence(state.tether, now, policy.tether)
        seen += grant_words.evidence(state.grants, now, policy.grants)
        conflicts = _tether_conflicts(state.tether, policy, now)
    elif topic == "ignition":
        decision = state.ignition.decision
        seen = ignition_evidence.evidence(state.ignition, now, policy.ignition)
    elif topic == "power":
        decision = state.power.decision
        seen = power_.evidence(state.power, now, state.ignition, policy)
    else:
        raise ValueError(f"unknown topic {topic!r}: expected one of {', '.join(TOPICS)}")
    return {
        "topic": topic,
        "verdict": decision.verdict,
        "rule": decision.rule,
        "because": decision.because,
        "decided_ms_ago": _ms(now - decision.at),
        "evidence": [evidence_dict(item) for item in seen],
        "conflicts": list(decision.conflicts if conflicts is None else conflicts),
    }


def decision_dict(decision: Decision) -> dict[str, Any]:
    """A decision as it was made, with the evidence of that moment."""
    return {
        "topic": decision.topic,
        "verdict": decision.verdict,
        "rule": decision.rule,
        "because": decision.because,
        "at_ns": decision.at,
        "evidence": [evidence_dict(item) for item in decision.evidence],
        "conflicts": list(decision.conflicts),
    }


def evidence_dict(item: Evidence) -> dict[str, Any]:
    return {
        "source": item.source,
        "value": item.value,
        "age_ms": None if item.age_ns is None else _ms(item.age_ns),
        "fresh": item.fresh,
        "weight": item.weight,
        "note": item.note,
    }


def _ms(ns: int) -> int:
    return max(0, ns) // MS


def _tether(state: State, policy: Policy, now: BootNs) -> dict[str, Any]:
    held = state.tether
    uncertain = held.state is TetherState.UNCERTAIN
    return {
        "state": held.state.value,
        "usable": tether.usable(held, now),
        "posture": state.posture.value,
        "since_ms_ago": _ms(now - held.since),
        "ride_through_ms_left": _ms(tether.ride_through_end(held) - now) if uncertain else None,
        "budget_ms": held.budget_ns // MS,
        "seated": _bit(held, now, DockBit.SEATED),
        "mated": _bit(held, now, DockBit.MATED),
        "locked": _bit(held, now, DockBit.LOCKED),
        "authenticated": {
            "value": tether.proof_fresh(held, now, policy.tether),
            "age_ms": None if held.proof_at is None else _ms(now - held.proof_at),
        },
        "dock": held.dock or None,
        "conflicts": list(_tether_conflicts(held, policy, now)),
    }


def _tether_conflicts(held: Tether, policy: Policy, now: BootNs) -> tuple[str, ...]:
    return hints.conflicts(held, proven=tether.proven(held, now, policy.tether))


def _bit(held: Tether, now: BootNs, bit: DockBit) -> dict[str, Any]:
    """What the dock last said of a bit, authenticated; of no dock with a key, what the hints say."""
    if held.status is not None:
        return {"value": tether.word(held.status, bit), "age_ms": _ms(now - held.status.evidence_at)}
    for hint in held.hints:
        value = None if hint.lost else hints.word(hint.said, bit)
        if value is not None:
            return {"value": value, "age_ms": _ms(now - hint.said.at)}
    return {"value": None, "age_ms": None}


def _ignition(ignition: Ignition, policy: Policy, now: BootNs) -> dict[str, Any]:
    seen = ignition_evidence.evidence(ignition, now, policy.ignition)
    return {
        "state": ignition.state.value,
        "confidence": ignition_evidence.confidence(ignition, seen),
        "grade": ignition_evidence.graded(seen).value,
        "conflicts": [ignition.conflict] if ignition.conflict else [],
        "crank_window": crank_open(ignition, now, policy.ignition),
    }


def _grants(grants: Grants, policy: Policy, now: BootNs) -> dict[str, Any]:
    memory, permit, challenge = grants.memory, grants.memory.permit, grants.challenge
    shown = None
    if permit is not None:
        shown = {
            "number": permit.number or None,  # None: a short code
            "scope": permit.scope.value,
            "s_left": grant_words.left_s(grants, now),
            "boots": permit.boots,
            "holds": now < grants.slice_until,
        }
    asked = None
    if challenge is not None and now < challenge.until:
        asked = {
            "challenge": challenge.text,
            "scope": challenge.scope.value,
            "minutes": challenge.minutes,
            "s_left": _ms(challenge.until - now) // 1000,
        }
    return {
        "state": grant_words.name_of(grants, now),
        "permit": shown,
        "override_s_left": _ms(grants.override_until - now) // 1000,
        "overrides_left": grant_words.overrides_left(memory, policy.grants),
        "challenge": asked,
        "wrong_answers": memory.tries,
        "code_wait_s": _ms(BootNs(memory.code_free_at - now)) // 1000,
        "void": memory.void,
    }


def _power(power: Power, ignition: Ignition, policy: Policy, now: BootNs) -> dict[str, Any]:
    since = power.run_on_since
    tablet, last = power.tablet, power.dock
    return {
        "state": power.mode.value,
        "vehicle_mv": power_.filtered_mv(power),
        "dock_mv": None if last is None else last.dock_mv,
        "tablet_ma": None if last is None else last.tablet_ma,
        "tablet_percent": None if tablet is None else tablet.percent,
        "shedding": power.shedding or power.hot,
        "energy_mwh": None if since is None else power.spent_uj * 1000 // WH_UJ,
        "run_on_ms_left": None if since is None else _ms(since + policy.power.run_on_s * SECOND - now),
    }
