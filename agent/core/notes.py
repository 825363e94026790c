"""Small makers of evidence and of the effects that every change of a state has."""

from __future__ import annotations

import json

from agent.core.records import RecordKind, Value
from agent.core.types import MS, BootNs, Decision, Effect, Evidence, Explain, Write

UNSEEN = "no evidence in this boot"


def note(
    source: str,
    value: str,
    at: int | None,
    now: BootNs,
    *,
    fresh: bool,
    weight: int = 0,
    remark: str = "",
) -> Evidence:
    """Evidence with its age as of ``now``; a stale one weighs nothing."""
    age = None if at is None else max(0, now - at)
    return Evidence(source, value, age, fresh, weight if fresh else 0, remark)


def unseen(source: str) -> Evidence:
    """A source that has said nothing since boot."""
    return Evidence(source, UNSEEN, None, fresh=False)


def evidence_text(decision: Decision) -> str:
    """A decision's evidence as compact JSON: source, value, age in ms, weight."""
    rows = [
        [item.source, item.value, None if item.age_ns is None else item.age_ns // MS, item.weight]
        for item in decision.evidence
    ]
    return json.dumps(rows, separators=(",", ":"))


def change(kind: RecordKind, before: str, decision: Decision, **values: Value) -> list[Effect]:
    """The record and the explanation of a change; ``values`` are the fields that only this kind has."""
    record = kind.make(
        decision.at,
        verdict=decision.verdict,
        before=before,
        rule=decision.rule,
        because=decision.because,
        evidence=evidence_text(decision),
        **values,
    )
    return [Write(record), Explain(decision)]
