"""A memory that the start could not read, and that was found when the store worked again."""

from __future__ import annotations

from dataclasses import replace

from agent.core.grant_words import overrides_left
from agent.core.policy import GrantPolicy
from agent.core.requests import note_used
from agent.core.types import SECOND, GrantMemory, Permit


def recalled(memory: GrantMemory, found: GrantMemory, policy: GrantPolicy, *, held: bool) -> GrantMemory:
    """What is remembered from now on: nothing that either says is used can be had twice.

    ``held``: the tablet is in its dock, where a permit of before has ended.
    """
    for document in found.used:
        memory = note_used(memory, document.id, document.number)
    floor = max(memory.floor, found.floor)
    left = overrides_left(found, policy)
    if not memory.void:
        left = min(left, overrides_left(memory, policy))
    return replace(
        memory,
        used=tuple(document for document in memory.used if document.number > floor),
        floor=floor,
        overrides=left,
        void=memory.void and found.void,
        tries=max(memory.tries, found.tries),
        permit=memory.permit if held or memory.permit is not None else after_boot(found.permit, policy),
    )


def after_boot(permit: Permit | None, policy: GrantPolicy) -> Permit | None:
    """What a boot leaves of a permit; None when it ends it. Whether there was one is not known either."""
    if permit is None or permit.boots + 1 >= policy.boots:
        return None
    # The open slice was taken from what is left when it was opened.
    left_ns = permit.left_ns - policy.boot_cost_s * SECOND
    return replace(permit, left_ns=left_ns, until=0, boots=permit.boots + 1) if left_ns > 0 else None
