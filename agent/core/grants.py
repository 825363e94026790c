"""Grants: leave to use the tablet without proof of its dock, by permit, short code or safety override.

Nothing counts before it is durable: a permit's time is taken from it in slices, and each is committed before
it is used; an override is committed before it begins. ``KeepGrant`` asks for that and ``GrantKept`` answers.
The one exception is the override when the store fails, once a boot. Requests are in agent/core/requests.py.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.catalogue import GRANT_CHANGED
from agent.core.evolve import evolve
from agent.core.grant_words import evidence, name_of, overrides_left
from agent.core.notes import change
from agent.core.policy import GrantPolicy
from agent.core.records import Value
from agent.core.state import BOOT, NEVER, Answer, Ask, Grant, Grants, Tether, TetherState
from agent.core.tether_rules import BY_HINT
from agent.core.types import (
    SECOND,
    BootNs,
    Decision,
    DepotContact,
    Effect,
    GrantKept,
    GrantMemory,
    GrantsRevoked,
    KeepGrant,
    Observation,
    Permit,
    Scope,
    Started,
    StoreHealth,
    StoreRenewed,
)

PATIENCE_NS = 5 * SECOND  # ours: a store that is slower than this has failed, as far as a permit goes
NOTHING_KNOWN = GrantMemory(void=True, overrides=0)  # of a memory that is lost
CODE_WRONG = Answer("code", given=False, rule="grant.code_wrong", because="that is not the answer")
HELD = (TetherState.TETHERED, TetherState.UNCERTAIN)


# --- what runs ------------------------------------------------------------------------------------


def running(grants: Grants, now: BootNs, *, asleep: bool) -> tuple[Grant, ...]:
    """The grants that hold now. None does in a sleep: the tablet is locked before it."""
    if asleep:
        return ()
    found = []
    if now < grants.override_until:
        found.append(Grant("override", grants.override_until))
    if now < grants.slice_until:
        found.append(Grant("permit", grants.slice_until, foreign=grants.slice_scope is Scope.ANY))
    return tuple(found)


def code_delay_ns(tries: int, policy: GrantPolicy) -> int:
    """The wait after so many wrong answers; 0 while there are tries left."""
    if tries < policy.tries:
        return 0
    doublings = min(tries - policy.tries, 30)
    return min(policy.delay_s << doublings, policy.delay_max_s) * SECOND


# --- the start ------------------------------------------------------------------------------------


def begin(grants: Grants, obs: Started, now: BootNs, policy: GrantPolicy) -> tuple[Grants, list[Effect]]:
    """The grants after ``Started``: a restart in the same boot goes on, a boot costs.

    Without a readable memory nobody knows what was used already, so that nothing is granted before proof.
    """
    if obs.remembered is None:
        return evolve(grants, memory=NOTHING_KNOWN, emergency_spent=obs.emergency_spent), []
    memory = obs.remembered.grants
    permit = memory.permit
    if obs.remembered.boot_id == obs.boot_id:
        longest = now + (policy.slice_s + policy.lead_s) * SECOND
        grants = evolve(
            grants,
            memory=memory,
            slice_until=BootNs(min(permit.until, longest)) if permit else BOOT,
            slice_scope=permit.scope if permit else grants.slice_scope,
            override_until=BootNs(min(memory.override_until, now + policy.override_s * SECOND)),
            emergency_spent=obs.emergency_spent,
        )
        if (name := name_of(grants, now)) == grants.decision.verdict:
            return grants, []
        because = "the agent was restarted in what was granted"
        seen = evidence(grants, now, policy)
        return evolve(grants, decision=Decision("grant", name, "grant.inherited", because, now, seen)), []
    delay_ns = code_delay_ns(memory.tries, policy)
    memory = replace(memory, override_until=0, code_free_at=now + delay_ns if delay_ns else 0)
    if permit is None:
        return evolve(grants, memory=memory, emergency_spent=obs.emergency_spent), []
    # The open slice was taken from what is left when it was opened.
    left_ns = max(0, permit.left_ns - policy.boot_cost_s * SECOND)
    permit = replace(permit, left_ns=left_ns, until=0, boots=permit.boots + 1)
    grants = evolve(grants, memory=replace(memory, permit=permit), emergency_spent=obs.emergency_spent)
    if permit.boots >= policy.boots:
        return end_permit(
            grants, now, policy, "grant.boots", f"this is boot {permit.boots} after it was loaded"
        )
    if not left_ns:
        return end_permit(grants, now, policy, "grant.used_up", "the boot took what was left of its time")
    return grants, []


# --- taking time ----------------------------------------------------------------------------------


def take_slice(
    grants: Grants,
    permit: Permit,
    start: BootNs,
    now: BootNs,
    policy: GrantPolicy,
    what: str,
    before: GrantMemory,
) -> tuple[Grants, list[Effect]]:
    """Take the next slice of ``permit`` from ``start`` on, and ask for it to be kept."""
    taken_ns = min(policy.slice_s * SECOND, permit.left_ns)
    permit = replace(permit, left_ns=permit.left_ns - taken_ns, until=start + taken_ns)
    grants = evolve(grants, memory=replace(grants.memory, permit=permit))
    return ask(grants, now, what, before)


def ask(
    grants: Grants, now: BootNs, what: str, before: GrantMemory, *, until: BootNs = BOOT
) -> tuple[Grants, list[Effect]]:
    """Wait for what the memory says now to be durable. Whatever was asked before is dropped."""
    number = grants.asked + 1
    asked = Ask(number, what, before, BootNs(now + PATIENCE_NS), until)
    return evolve(grants, ask=asked, asked=number), [KeepGrant(number, hurried=what == "override")]


def drop_ask(grants: Grants) -> Grants:
    """What was asked for could not be kept: as before, and whoever asked is told."""
    asked, memory = grants.ask, grants.memory
    if asked is None:
        return grants
    before = asked.before
    answer = grants.answer
    if asked.what == "try":
        answer = CODE_WRONG
    elif asked.what in ("permit", "code"):
        used = tuple(document for document in memory.used if document in before.used)
        memory = replace(memory, permit=before.permit, used=used)
        because = "the store cannot keep a record of it: nothing is granted that could be had twice"
        answer = Answer(asked.what, given=False, rule="grant.not_kept", because=because)
    elif asked.what == "slice" and memory.permit is not None and before.permit is not None:
        given_back = replace(memory.permit, left_ns=before.permit.left_ns, until=before.permit.until)
        memory = replace(memory, permit=given_back)
    return evolve(grants, memory=memory, ask=None, answer=answer)


# --- ends and changes -----------------------------------------------------------------------------


def decided(
    grants: Grants, now: BootNs, policy: GrantPolicy, rule: str, because: str, permit: Permit | None = None
) -> tuple[Grants, list[Effect]]:
    """A change of what is granted, with its record and explanation; ``permit``: the one that it is about."""
    before = grants.decision.verdict
    seen = evidence(grants, now, policy)
    decision = Decision("grant", name_of(grants, now), rule, because, now, seen)
    about: dict[str, Value] = {}
    if permit is not None:
        about = {
            "id": permit.id or None, "number": permit.number, "scope": permit.scope.value,
            "left_s": permit.left_ns // SECOND,
        }  # fmt: skip
    effects = change(GRANT_CHANGED, before, decision, **about)
    return evolve(grants, decision=decision), effects


def end_permit(
    grants: Grants, now: BootNs, policy: GrantPolicy, rule: str, because: str
) -> tuple[Grants, list[Effect]]:
    """The permit is over, and what is left of it is lost."""
    permit, asked = grants.memory.permit, grants.ask
    if permit is None:
        return grants, []
    if asked is not None and asked.what in ("permit", "code"):
        grants = evolve(grants, answer=Answer(asked.what, given=False, rule=rule, because=because))
    grants = evolve(
        grants,
        memory=replace(grants.memory, permit=None),
        slice_until=BootNs(min(grants.slice_until, now)),
        ask=asked if asked is not None and asked.what in ("override", "try") else None,
    )
    return decided(grants, now, policy, rule, because, permit)


def end_override(grants: Grants, now: BootNs, rule: str, because: str) -> Grants:
    """Neither runs an override after this nor is one asked for; the decision is the caller's."""
    asked = grants.ask
    if asked is not None and asked.what == "override":
        grants = evolve(grants, ask=None, answer=Answer("override", given=False, rule=rule, because=because))
    memory = replace(grants.memory, override_until=0)
    return evolve(grants, memory=memory, override_until=BootNs(min(grants.override_until, now)))


# --- what happens to grants -----------------------------------------------------------------------


def take(grants: Grants, obs: Observation, now: BootNs, policy: GrantPolicy) -> tuple[Grants, list[Effect]]:
    """Take in what happens to grants without a request for one."""
    match obs:
        case GrantKept():
            return _kept(grants, obs, now, policy)
        case StoreHealth():
            grants = evolve(grants, store_ok=obs.ok)
            hopeless = not obs.ok and grants.ask is not None and grants.ask.what != "override"
            return (drop_ask(grants) if hopeless else grants), []
        case StoreRenewed():
            because = f"the store was renewed ({obs.detail}): no grant before proof or a word of the depot"
            grants, made = _end_all(grants, now, policy, "grant.store_renewed", because)
            return evolve(grants, memory=replace(grants.memory, void=True, overrides=0), challenge=None), made
        case DepotContact():
            return _proved(grants), []
        case GrantsRevoked():
            return _revoke(grants, obs, now, policy)
        case _:
            return grants, []


def _kept(grants: Grants, obs: GrantKept, now: BootNs, policy: GrantPolicy) -> tuple[Grants, list[Effect]]:
    if obs.kept:
        grants = evolve(grants, store_ok=True)
    asked, permit = grants.ask, grants.memory.permit
    if asked is None or asked.number != obs.number:
        return grants, []
    if asked.what == "override":
        return _override_kept(grants, asked, obs, now, policy)
    if not obs.kept:
        return drop_ask(grants), []
    grants = evolve(grants, ask=None)
    if asked.what == "try":
        return evolve(grants, answer=CODE_WRONG), []
    if permit is None:
        return grants, []
    grants = evolve(grants, slice_until=BootNs(permit.until), slice_scope=permit.scope)
    if asked.what == "slice" and grants.decision.verdict == name_of(grants, now):
        return grants, []
    rules = {
        "permit": ("grant.permit", "a signed permit for this tablet, not used before"),
        "code": ("grant.code", "the right answer to the challenge"),
        "slice": ("grant.resumed", "what is left of a permit that was not used up"),
    }
    rule, because = rules[asked.what]
    if asked.what != "slice":
        grants = evolve(grants, answer=Answer(asked.what, given=True, rule=rule, because=because))
    return decided(grants, now, policy, rule, because, permit)


def _override_kept(
    grants: Grants, asked: Ask, obs: GrantKept, now: BootNs, policy: GrantPolicy
) -> tuple[Grants, list[Effect]]:
    grants = evolve(grants, ask=None)
    if obs.kept:
        rule, because = "grant.override", "taken by the officer at the tablet"
    elif not grants.emergency_spent:
        rule = "grant.override_unrecorded"
        because = (
            "taken by the officer at the tablet; the store fails, so that this is the only one in this boot"
        )
        grants = evolve(grants, emergency_spent=True)
    else:
        because = "the store fails, and the one override that needs no store was taken in this boot"
        refused = Answer("override", given=False, rule="grant.emergency_spent", because=because)
        memory = replace(grants.memory, override_until=0, overrides=asked.before.overrides)
        return evolve(grants, memory=memory, answer=refused), []
    grants = evolve(
        grants, override_until=asked.until, answer=Answer("override", given=True, rule=rule, because=because)
    )
    return decided(grants, now, policy, rule, because)


def _end_all(
    grants: Grants, now: BootNs, policy: GrantPolicy, rule: str, because: str
) -> tuple[Grants, list[Effect]]:
    overridden = now < grants.override_until
    grants = end_override(grants, now, rule, because)
    if grants.memory.permit is not None:
        return end_permit(grants, now, policy, rule, because)
    return decided(grants, now, policy, rule, because) if overridden else (grants, [])


def _revoke(
    grants: Grants, obs: GrantsRevoked, now: BootNs, policy: GrantPolicy
) -> tuple[Grants, list[Effect]]:
    because = f"revoked by {obs.by}"
    done = Answer("revoke", given=True, rule="grant.revoked", because=because)
    if obs.upto is None:
        grants, made = _end_all(grants, now, policy, "grant.revoked", because)
        return evolve(grants, answer=done, challenge=None), made
    memory, made = grants.memory, []
    if obs.upto > memory.floor:
        used = tuple(document for document in memory.used if document.number > obs.upto)
        grants = evolve(grants, memory=replace(memory, floor=obs.upto, used=used))
    permit = memory.permit
    if permit is not None and permit.number <= obs.upto:
        grants, made = end_permit(grants, now, policy, "grant.revoked", because)
    return evolve(grants, answer=done), made


def _proved(grants: Grants) -> Grants:
    """Proof, or a word of the depot: a memory that was lost holds nothing back any more."""
    memory = grants.memory
    return evolve(grants, memory=replace(memory, void=False, overrides=None)) if memory.void else grants


# --- settling -------------------------------------------------------------------------------------


def settle(
    grants: Grants, now: BootNs, tether: Tether, before: TetherState, policy: GrantPolicy, *, asleep: bool
) -> tuple[Grants, list[Effect]]:
    """Bring the grants in line with the time and the tether, which was in ``before``."""
    effects: list[Effect] = []
    if grants.memory.void and _by_proof(tether):
        grants = _proved(grants)
    if now >= refill_at(grants, tether, policy):
        grants = evolve(grants, memory=replace(grants.memory, overrides=None))
    if tether.state is TetherState.TETHERED and before not in HELD and grants.memory.permit is not None:
        grants, effects = end_permit(grants, now, policy, "grant.docked", "the tablet is docked again")
    asked = grants.ask
    if asked is not None and asked.what != "override" and now >= asked.patience:
        grants = drop_ask(evolve(grants, store_ok=False))
    permit = grants.memory.permit
    if permit is not None and grants.ask is None:
        if permit.left_ns == 0 and now >= grants.slice_until:
            grants, made = end_permit(grants, now, policy, "grant.used_up", "its time is used up")
            effects += made
        elif permit.left_ns and now >= slice_at(grants, policy) and grants.store_ok and not asleep:
            start = BootNs(max(now, grants.slice_until))
            grants, made = take_slice(grants, permit, start, now, policy, "slice", grants.memory)
            effects += made
    if grants.memory.override_until and grants.ask is None and now >= grants.override_until:
        grants = evolve(grants, memory=replace(grants.memory, override_until=0))
    if grants.decision.verdict != name_of(grants, now):
        rule, because = "grant.over", "the time that was granted is over"
        if grants.memory.permit is not None:
            rule, because = "grant.slice_over", "the next slice of the permit is not recorded yet"
        grants, made = decided(grants, now, policy, rule, because, grants.memory.permit)
        effects += made
    return grants, effects


def _by_proof(tether: Tether) -> bool:
    """TETHERED, and not by the hints of a dock without a key."""
    return tether.state is TetherState.TETHERED and tether.decision.rule != BY_HINT


def slice_at(grants: Grants, policy: GrantPolicy) -> int:
    """From when the next slice of the permit is taken."""
    return grants.slice_until - policy.lead_s * SECOND


def refill_at(grants: Grants, tether: Tether, policy: GrantPolicy) -> int:
    """When the overrides are refilled by being TETHERED; ``NEVER`` if they are full, or it is not."""
    if not _by_proof(tether) or overrides_left(grants.memory, policy) >= policy.overrides:
        return NEVER
    return tether.since + policy.refill_s * SECOND


def standing(grants: Grants, tether: Tether, policy: GrantPolicy) -> list[int]:
    """The times at which the grants may change by themselves; some may be past."""
    times = [int(grants.slice_until), int(grants.override_until), refill_at(grants, tether, policy)]
    if grants.ask is not None:
        times.append(grants.ask.patience)
    elif grants.memory.permit is not None and grants.memory.permit.left_ns:
        times.append(slice_at(grants, policy))
    return times
