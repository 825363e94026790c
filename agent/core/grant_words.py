"""What stands of the grants, in words and as evidence of a decision."""

from __future__ import annotations

from agent.core.policy import GrantPolicy
from agent.core.state import Grants
from agent.core.types import SECOND, BootNs, Evidence, GrantMemory


def name_of(grants: Grants, now: BootNs) -> str:
    """What holds now: "override", "permit", both as "permit and override", or "none"."""
    names = [
        name
        for name, until in (("permit", grants.slice_until), ("override", grants.override_until))
        if now < until
    ]
    return " and ".join(names) or "none"


def left_s(grants: Grants, now: BootNs) -> int | None:
    """Seconds of the permit that are left, the open slice counted; None without a permit."""
    permit = grants.memory.permit
    if permit is None:
        return None
    asked_ns = permit.until - max(now, grants.slice_until) if grants.ask is not None else 0
    return (permit.left_ns + max(0, asked_ns) + max(0, grants.slice_until - now)) // SECOND


def overrides_left(memory: GrantMemory, policy: GrantPolicy) -> int:
    """Safety overrides that may still be taken before a refill."""
    return policy.overrides if memory.overrides is None else min(memory.overrides, policy.overrides)


def evidence(grants: Grants, now: BootNs, policy: GrantPolicy) -> tuple[Evidence, ...]:
    """Every kind of grant with what is left of it."""
    memory, permit = grants.memory, grants.memory.permit
    void = "void until the dock proves itself or the depot is heard" if memory.void else ""
    rows = [Evidence("permit", "none", None, fresh=False, note=void)]
    if permit is not None:
        name = f"permit {permit.number}" if permit.number else "short code"
        value = f"{left_s(grants, now)} s left"
        note = f"{permit.scope.value}, boot {permit.boots + 1} of {policy.boots}"
        holds = now < grants.slice_until
        rows = [Evidence(name, value, None, fresh=holds, weight=100 if holds else 0, note=note)]
    overridden = now < grants.override_until
    value = f"{(grants.override_until - now) // SECOND} s left" if overridden else "not taken"
    note = f"{overrides_left(memory, policy)} of {policy.overrides} left"
    rows.append(Evidence("override", value, None, overridden, 100 if overridden else 0, note))
    if memory.tries:
        wait_s = max(0, memory.code_free_at - now) // SECOND
        note = f"wait {wait_s} s" if wait_s else ""
        rows.append(Evidence("short code", f"{memory.tries} wrong answers", None, fresh=False, note=note))
    return tuple(rows)
