"""Requests for grants: a permit, a short code, the safety override. Each is answered, each is recorded.

``Grants.answer`` is None while a request waits for its commit. Signatures, codes and sessions are checked
before a request becomes an observation.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.catalogue import CODE_REQUESTED, GRANT_REFUSED, OVERRIDE_TAKEN
from agent.core.evolve import evolve
from agent.core.grant_words import left_s, overrides_left
from agent.core.grants import ask, code_delay_ns, take, take_slice
from agent.core.policy import GrantPolicy
from agent.core.state import Answer, Challenge, Grants
from agent.core.types import (
    SECOND,
    BootNs,
    CodeAnswered,
    CodeRequested,
    DocumentRefused,
    Effect,
    GrantMemory,
    Observation,
    OverrideRefilled,
    OverrideTaken,
    Permit,
    PermitPresented,
    UsedDocument,
    Write,
)

USED_MAX = 32  # ours: documents remembered one by one; what is older than all of them counts as used
MINUTE = 60 * SECOND
SPACING = 10 * SECOND  # ours: whoever asks and asks must not flood the streams

VOID = (
    "grant.void",
    "what was used already is not known: dock the tablet once, or wait until the depot is reached",
)
NO_STORE = ("grant.not_kept", "records cannot be kept at the moment; see `ivmactl status`, store")
BUSY = ("grant.busy", "another request is being recorded; try again in a moment")

Result = tuple[Grants, list[Effect]]


def hear(grants: Grants, obs: Observation, now: BootNs, policy: GrantPolicy) -> Result:
    """Take in a request, or what else happens to grants; the rest leaves them as they are."""
    match obs:
        case PermitPresented():
            return _permit(grants, obs, now, policy)
        case DocumentRefused():
            return _refuse(grants, now, "document", f"grant.document_{obs.reason}", obs.detail)
        case CodeRequested():
            return _challenge(grants, obs, now, policy)
        case CodeAnswered():
            return _code(grants, obs, now, policy)
        case OverrideTaken():
            return _override(grants, obs, now, policy)
        case OverrideRefilled():
            return _refill(grants, obs, now)
        case _:
            return take(grants, obs, now, policy)


def _refuse(grants: Grants, now: BootNs, what: str, rule: str, because: str) -> Result:
    """Say no, on the record unless one was made a moment ago."""
    grants = evolve(grants, answer=Answer(what, given=False, rule=rule, because=because))
    if grants.refused_at is not None and now < grants.refused_at + SPACING:
        return evolve(grants, unsaid=grants.unsaid + 1), []
    record = GRANT_REFUSED.make(now, rule=rule, because=because, before=grants.unsaid)
    return evolve(grants, refused_at=now, unsaid=0), [Write(record)]


def _unready(grants: Grants) -> tuple[str, str] | None:
    """Why no permit can be taken in now, whatever it says."""
    if grants.memory.void:
        return VOID
    if not grants.store_ok:
        return NO_STORE
    return BUSY if grants.ask is not None else None


# --- documents ------------------------------------------------------------------------------------


def _used(memory: GrantMemory, id_: str, number: int) -> tuple[str, str] | None:
    if any(document.id == id_ for document in memory.used):
        return "grant.used", f"number {number} was used on this tablet before; each can be used once"
    if number <= memory.floor:
        return (
            "grant.superseded",
            f"number {number} is too old: nothing up to {memory.floor} is taken any more",
        )
    return None


def note_used(memory: GrantMemory, id_: str, number: int) -> GrantMemory:
    used = sorted((*memory.used, UsedDocument(number, id_)), key=lambda document: document.number)
    floor = memory.floor
    while len(used) > USED_MAX:
        floor = max(floor, used.pop(0).number)
    return replace(memory, used=tuple(used), floor=floor)


def _permit(grants: Grants, obs: PermitPresented, now: BootNs, policy: GrantPolicy) -> Result:
    refusal = (
        _used(grants.memory, obs.id, obs.number)
        or _too_long(obs.minutes, policy.permit_max_min)
        or _unready(grants)
        or _no_gain(grants, obs.minutes, now)
    )
    if refusal is not None:
        return _refuse(grants, now, "permit", *refusal)
    before = grants.memory
    grants = evolve(grants, memory=note_used(before, obs.id, obs.number), answer=None)
    permit = Permit(obs.id, obs.number, obs.scope, obs.minutes * MINUTE)
    return take_slice(grants, permit, now, now, policy, "permit", before)


def _too_long(minutes: int, limit_min: int) -> tuple[str, str] | None:
    if 1 <= minutes <= limit_min:
        return None
    return "grant.too_long", f"{minutes} minutes; this tablet takes 1 to {limit_min}"


def _no_gain(grants: Grants, minutes: int, now: BootNs) -> tuple[str, str] | None:
    left = left_s(grants, now)
    if left is None or left < minutes * 60:
        return None
    return (
        "grant.longer_runs",
        f"the permit that runs has {left} s left, which is longer: keep this one for later",
    )


def _refill(grants: Grants, obs: OverrideRefilled, now: BootNs) -> Result:
    refusal = _used(grants.memory, obs.id, obs.number) or (VOID if grants.memory.void else None)
    if refusal is not None:
        return _refuse(grants, now, "refill", *refusal)
    memory = replace(note_used(grants.memory, obs.id, obs.number), overrides=None)
    because = "all safety overrides may be taken again"
    answer = Answer("refill", given=True, rule="grant.refilled", because=because)
    return evolve(grants, memory=memory, answer=answer), []


# --- short codes ----------------------------------------------------------------------------------


def _wait(grants: Grants, now: BootNs) -> tuple[str, str] | None:
    left_ns = grants.memory.code_free_at - now
    if left_ns <= 0:
        return None
    return (
        "grant.code_wait",
        f"too many wrong answers: wait {-(-left_ns // SECOND)} s; a reboot begins it anew",
    )


def _challenge(grants: Grants, obs: CodeRequested, now: BootNs, policy: GrantPolicy) -> Result:
    refusal = (
        _too_long(obs.minutes, policy.code_max_min)
        or _wait(grants, now)
        or (VOID if grants.memory.void else None)
        or (None if grants.store_ok else NO_STORE)
    )
    if refusal is not None:
        return _refuse(grants, now, "challenge", *refusal)
    until = BootNs(now + policy.challenge_s * SECOND)
    challenge = Challenge(obs.challenge, obs.scope, obs.minutes, until)
    answer = Answer(
        "challenge", given=True, rule="grant.challenge", because="read it out to the control room"
    )
    grants = evolve(grants, challenge=challenge, answer=answer)
    if grants.challenged_at is not None and now < grants.challenged_at + SPACING:
        return evolve(grants, unshown=grants.unshown + 1), []
    record = CODE_REQUESTED.make(
        now, challenge=obs.challenge, scope=obs.scope.value, minutes=obs.minutes, before=grants.unshown
    )
    return evolve(grants, challenged_at=now, unshown=0), [Write(record)]


def _code(grants: Grants, obs: CodeAnswered, now: BootNs, policy: GrantPolicy) -> Result:
    challenge, memory = grants.challenge, grants.memory
    if challenge is None or now >= challenge.until:
        because = "there is no challenge, or it is too old: ask for a new one"
        return _refuse(evolve(grants, challenge=None), now, "code", "grant.no_challenge", because)
    # The wait comes before the verdict: while it lasts nobody learns whether an answer is right.
    refusal = _wait(grants, now) or _unready(grants) or _no_gain(grants, challenge.minutes, now)
    if refusal is not None:
        return _refuse(grants, now, "code", *refusal)
    if obs.right:
        grants = evolve(
            grants, memory=replace(memory, tries=0, code_free_at=0), challenge=None, answer=None
        )  # fmt: skip
        permit = Permit("", 0, challenge.scope, challenge.minutes * MINUTE)
        return take_slice(grants, permit, now, now, policy, "code", memory)
    tries = memory.tries + 1
    delay_ns = code_delay_ns(tries, policy)
    counted = replace(memory, tries=tries, code_free_at=now + delay_ns if delay_ns else 0)
    grants, made = _refuse(grants, now, "code", "grant.code_wrong", f"wrong answer number {tries}")
    # The try is counted durably before the verdict is told, or a power cut would give it back.
    grants, kept = ask(evolve(grants, memory=counted, answer=None), now, "try", memory)
    return grants, made + kept


# --- the safety override --------------------------------------------------------------------------


def _override(grants: Grants, obs: OverrideTaken, now: BootNs, policy: GrantPolicy) -> Result:
    memory = grants.memory
    if now < grants.override_until:
        because = f"it runs already, for {(grants.override_until - now) // SECOND} s more"
        return evolve(grants, answer=Answer("override", True, "grant.override", because)), []
    if grants.ask is not None and grants.ask.what == "override":
        return grants, []  # asked twice: one is taken, and both are told
    left = overrides_left(memory, policy)
    refusal = None
    if memory.void:
        # Nobody knows how many are left. A store that fails leaves the one that needs none.
        if grants.store_ok:
            refusal = VOID
        elif grants.emergency_spent:
            refusal = NO_STORE
    elif left == 0:
        refusal = (
            "grant.no_override",
            f"none is left: {policy.refill_s // 60} minutes in the dock, or the control room, give new ones",
        )
    if refusal is not None:
        return _refuse(grants, now, "override", *refusal)
    left = max(0, left - 1)
    until = BootNs(now + policy.override_s * SECOND)
    taken = replace(memory, overrides=left, override_until=until)
    record = OVERRIDE_TAKEN.make(now, uid=obs.uid, length_s=policy.override_s, left=left)
    grants, kept = ask(evolve(grants, memory=taken, answer=None), now, "override", memory, until=until)
    return grants, [Write(record), *kept]
