"""What a value of the policy means, and its limits."""

from __future__ import annotations

from dataclasses import dataclass

HOUR_S = 3600
DAY_S = 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a policy value means, its unit, where the default comes from, and its limits, both included."""

    doc: str
    unit: str
    source: str
    ge: int | None = None
    le: int | None = None
