"""Tether: is this tablet held by its own dock, and may it be used without proof of that for a while?

Evidence is taken in by ``take``; ``settle`` classifies what stands at a time as one ``Finding`` and looks
the transition up in ``tether_rules.TABLE``. Whatever is not in the table leaves the state as it is.
"""

from __future__ import annotations

from typing import Final, assert_never

from agent.core import hints, other_docks
from agent.core.catalogue import FOREIGN_DOCK, TETHER_CHANGED
from agent.core.evolve import evolve
from agent.core.ignition_words import crank_open
from agent.core.notes import change, note, unseen
from agent.core.policy import DockBit, Policy, TetherPolicy, Wire
from agent.core.state import NEVER, Ignition, Tether, TetherState
from agent.core.tether_rules import (
    FOREIGN,
    NEXT,
    RESTRICTED,
    TETHERED,
    UNCERTAIN,
    UNKNOWN,
    Finding,
)
from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    Decision,
    DockForeign,
    DockHint,
    DockLinkLost,
    DockProof,
    DockStatus,
    Effect,
    Effects,
    Evidence,
    LockOrdered,
    Observation,
    Write,
)

# By their own names, because to look a member up in its class is slow.
SEATED: Final = DockBit.SEATED
MATED: Final = DockBit.MATED
LOCKED: Final = DockBit.LOCKED


# --- evidence -------------------------------------------------------------------------------------


def take(tether: Tether, obs: Observation, now: BootNs, policy: TetherPolicy) -> Tether:
    """The tether with one more piece of evidence. Decides nothing."""
    match obs:
        case DockStatus(authenticated=True):
            return take_status(tether, obs, now, policy)
        case DockStatus():
            return evolve(tether, hint=obs)
        case DockProof():
            return _take_proof(tether, obs, now, policy)
        case DockHint():
            return take_hint(tether, obs, now, policy)
        case DockLinkLost():
            return hints.lose(tether, obs)
        case DockForeign() if obs.dock == tether.dock or not proven(tether, now, policy):
            barrier = BootNs(max(tether.barrier, min(obs.evidence_at, now)))
            return evolve(tether, proof_at=None, good_at=None, barrier=barrier)
        case LockOrdered():
            return evolve(tether, proof_at=None, good_at=None, barrier=now)
        case _:
            return tether


def _take_proof(tether: Tether, obs: DockProof, now: BootNs, policy: TetherPolicy) -> Tether:
    at = BootNs(min(obs.evidence_at, now))
    if at < tether.barrier:
        return tether
    if obs.dock != tether.dock:
        if proven(tether, now, policy):
            return other_docks.stand_by(tether, obs.dock, at)
        return other_docks.turn_to(tether, obs.dock, at)
    if proof_fresh(tether, now, policy) and tether.proof_at is not None:
        return evolve(tether, proof_at=BootNs(max(tether.proof_at, at)))
    # Status under an older session does not count on for the new one: proof first, then status.
    return evolve(tether, proof_at=at, good_at=None)


def take_status(tether: Tether, obs: DockStatus, now: BootNs, policy: TetherPolicy) -> Tether:
    """What ``take`` does with an authenticated STATUS."""
    if tether.dock not in {"", obs.dock}:
        # Another dock does not restrict, and takes over only once this one holds no longer.
        if not proven(tether, now, policy) and _held(obs, policy):
            tether = other_docks.take_over(tether, obs.dock, now, policy)
        if tether.dock != obs.dock:
            return tether
    at = obs.evidence_at if obs.evidence_at < now else now
    held = _held(obs, policy)
    word_at = tether.word_at if tether.word_at > at else at
    if held is False:
        return evolve(tether, status=obs, word_at=word_at, good_at=None, unseated=True)
    delayed = at < word_at or at < tether.barrier or now >= at + policy.status_fresh_ms * MS
    if held is None or delayed or not proof_fresh(tether, now, policy):
        return tether if delayed else evolve(tether, status=obs, word_at=word_at)
    evidence_at = at if tether.state is TETHERED else tether.evidence_at
    return evolve(tether, status=obs, word_at=word_at, good_at=at, unseated=False, evidence_at=evidence_at)


def take_hint(tether: Tether, obs: DockHint, now: BootNs, policy: TetherPolicy) -> Tether:
    """What ``take`` does with a hint."""
    tether = hints.take(tether, obs, now)
    held_at = hints.held_at(tether, now, policy) if tether.state is TETHERED else None
    return tether if held_at is None else evolve(tether, evidence_at=held_at)


def _held(status: DockStatus, policy: TetherPolicy) -> bool | None:
    """Every required bit is known and set; False if one is not set, None if one is not known."""
    held: bool | None = True
    for bit in policy.required:
        said = word(status, bit)
        if said is False:
            return False
        if said is None:
            held = None
    return held


def word(status: DockStatus, bit: DockBit) -> bool | None:
    """What a STATUS says of a bit; None is "not known"."""
    if bit is SEATED:
        return status.seated
    if bit is MATED:
        return status.mated
    if bit is LOCKED:
        return status.locked
    assert_never(bit)


def stirred(before: Tether, after: Tether, now: BootNs, policy: TetherPolicy) -> bool:
    """Whether what was taken in since ``before`` was settled may change what is found, or the latch."""
    return (
        after.state is UNCERTAIN  # whether a STATUS ends it depends on its age
        or after.unseated is not before.unseated
        or after.dock != before.dock
        or out(after) is not out(before)
        or held(after, now, policy) is not (after.proven_since is not None)
    )


def out(tether: Tether) -> bool:
    """The dock last said that the tablet is out."""
    return tether.status is not None and tether.status.seated is False


def proof_fresh(tether: Tether, now: BootNs, policy: TetherPolicy) -> bool:
    return tether.proof_at is not None and now < tether.proof_at + policy.proof_fresh_s * SECOND


def proven(tether: Tether, now: BootNs, policy: TetherPolicy) -> bool:
    """Proof, then authenticated status with every required bit set, both fresh."""
    return (
        tether.good_at is not None
        and now < tether.good_at + policy.status_fresh_ms * MS
        and proof_fresh(tether, now, policy)
    )


def _steady(tether: Tether, now: BootNs, policy: TetherPolicy) -> bool:
    """The STATUS that proves it is not about to go stale: a line that delays would chatter."""
    left_ms = policy.status_fresh_ms - policy.steady_ms
    return tether.good_at is not None and now < tether.good_at + left_ms * MS


def held(tether: Tether, now: BootNs, policy: TetherPolicy) -> bool:
    """Proven, or held by control lines that policy lets stand for proof."""
    return proven(tether, now, policy) or hints.held_at(tether, now, policy) is not None


def forget(tether: Tether, now: BootNs, policy: TetherPolicy) -> Tether:
    """After a sleep: what was known before it counts no more, and the start allowance runs anew."""
    return evolve(
        tether, proof_at=None, good_at=None, unseated=False, barrier=now,
        alarm_from=BootNs(now + policy.start_allowance_s * SECOND),
    )  # fmt: skip


# --- ride-through ---------------------------------------------------------------------------------


def _earns_extension(tether: Tether, ignition: Ignition, now: BootNs, policy: Policy) -> bool:
    """Authenticated KL15 or a start signal was seen shortly before the loss that is noticed now."""
    if tether.evidence_at is None:
        return False
    earliest = tether.evidence_at - policy.tether.crank_evidence_ms * MS
    kl15_at = ignition.kl15_at if policy.ignition.wire is Wire.KL15 else None
    return any(at is not None and earliest <= at <= now for at in (kl15_at, ignition.start_at))


def _reserve(tether: Tether, ignition: Ignition, now: BootNs, policy: Policy) -> Tether:
    """The tether with the ride-through of this loss taken from the budget, before it is used."""
    uncertain = tether.state is UNCERTAIN
    earned = tether.extension if uncertain else _earns_extension(tether, ignition, now, policy)
    extend = earned and crank_open(ignition, now, policy.ignition)
    if uncertain and not extend:
        return tether
    limit_ms = policy.tether.crank_ride_through_ms if extend else policy.tether.ride_through_ms
    more = max(0, min(limit_ms * MS - tether.reserved_ns, tether.budget_ns))
    return evolve(
        tether,
        extension=earned and not extend,
        reserved_ns=tether.reserved_ns + more,
        budget_ns=tether.budget_ns - more,
    )


def ride_through_end(tether: Tether) -> BootNs:
    """When use without proof ends; only while UNCERTAIN."""
    return BootNs((tether.evidence_at or 0) + tether.reserved_ns)


def usable(tether: Tether, now: BootNs) -> bool:
    """TETHERED, or UNCERTAIN in time, or a grant."""
    match tether.state:
        case TetherState.TETHERED:
            return True
        case TetherState.UNCERTAIN if now < ride_through_end(tether):
            return True
        case _:
            return granted(tether, now)


def granted(tether: Tether, now: BootNs) -> bool:
    """A grant holds that covers this state."""
    return any(grant.covers(tether.state, now) for grant in tether.grants)


def alarm(tether: Tether, now: BootNs, *, asleep: bool) -> bool:
    """LED and buzzer: restricted or foreign, or no evidence once the start allowance is over."""
    if granted(tether, now):
        return False
    waited = tether.state is UNKNOWN and not asleep and now >= tether.alarm_from
    return waited or tether.state in (RESTRICTED, FOREIGN)


# --- decision -------------------------------------------------------------------------------------


def settle(
    tether: Tether,
    now: BootNs,
    ignition: Ignition,
    policy: Policy,
    *,
    asleep: bool,
    foreign: DockForeign | None,
    ordered: bool = False,
) -> tuple[Tether, Effects]:
    """Bring the state in line with the evidence as of ``now``."""
    met: Effects = ()
    if foreign is not None and foreign.dock != tether.dock and proven(tether, now, policy.tether):
        tether, met = other_docks.meet(tether, foreign, now)
        foreign = None
    is_proven = held(tether, now, policy.tether)
    if is_proven != (tether.proven_since is not None):
        tether = evolve(tether, proven_since=now if is_proven else None)
    silent = not is_proven and not asleep and not tether.unseated and foreign is None
    # Taken before it is used; kept only if the state after this is UNCERTAIN.
    loss = (
        _reserve(tether, ignition, now, policy)
        if silent and tether.state in (TETHERED, UNCERTAIN)
        else tether
    )
    cranking = crank_open(ignition, now, policy.ignition)
    out_by_hint = hints.restricts(tether, now, policy.tether, cranking=cranking)
    found = _finding(
        loss, now, policy.tether, asleep=asleep, foreign=foreign is not None, out_by_hint=out_by_hint
    )
    found = Finding.ORDERED if ordered and found is not Finding.FOREIGN else found
    row = NEXT.get((tether.state, found))
    if row is None:
        return _refill(loss if tether.state is UNCERTAIN else tether, now, policy.tether), met
    after = _enter(loss, row.to, now, policy.tether)
    because = (
        f"{row.because} ({foreign.reason.value})"
        if foreign is not None and row.to is FOREIGN
        else row.because
    )
    decision = Decision("tether", row.to.value, row.rule, because, now, evidence(after, now, policy.tether))
    after = evolve(after, decision=decision)
    dock = foreign.dock if foreign is not None else after.dock
    effects: list[Effect] = change(TETHER_CHANGED, tether.state.value, decision, dock=dock or None)
    if row.to is FOREIGN and foreign is not None:
        effects.append(Write(FOREIGN_DOCK.make(now, dock=foreign.dock, reason=foreign.reason.value)))
    return after, (*met, *effects)


def _finding(
    tether: Tether, now: BootNs, policy: TetherPolicy, *, asleep: bool, foreign: bool, out_by_hint: bool
) -> Finding:
    if foreign:
        return Finding.FOREIGN
    if asleep:
        return Finding.SLEEP
    if tether.unseated:
        return Finding.UNSEATED
    if out_by_hint:
        return Finding.HINTED_OUT
    if tether.proven_since is not None:
        waited = now >= tether.proven_since + policy.return_ms * MS
        if not waited and tether.state not in (TETHERED, UNCERTAIN):
            return Finding.RETURNING
        if not proven(tether, now, policy):
            return Finding.HINTED_IN
        if tether.state is not UNCERTAIN or _steady(tether, now, policy):
            return Finding.PROVEN
    return Finding.EXPIRED if now >= ride_through_end(tether) else Finding.LOST


def _enter(tether: Tether, to: TetherState, now: BootNs, policy: TetherPolicy) -> Tether:
    """Change state; on the way out of a loss give back what was reserved and not used."""
    if to is UNCERTAIN:
        return evolve(tether, state=to, since=now, strangers=())
    used = min(now - (tether.evidence_at or 0), tether.reserved_ns)
    return evolve(
        tether, state=to, since=now, reserved_ns=0, extension=False, strangers=(),
        budget_ns=tether.budget_ns + tether.reserved_ns - used,
        evidence_at=_fresh_at(tether, now, policy) if to is TETHERED else tether.evidence_at,
    )  # fmt: skip


def _fresh_at(tether: Tether, now: BootNs, policy: TetherPolicy) -> BootNs | None:
    """The time of the evidence that holds the tablet."""
    return tether.good_at if proven(tether, now, policy) else hints.held_at(tether, now, policy)


def _refill(tether: Tether, now: BootNs, policy: TetherPolicy) -> Tether:
    return evolve(tether, budget_ns=policy.budget_ms * MS) if now >= refill_at(tether, policy) else tether


def refill_at(tether: Tether, policy: TetherPolicy) -> BootNs:
    """From when a step refills the budget; no deadline, for it can wait for the next observation."""
    if tether.state is not TETHERED or tether.budget_ns == policy.budget_ms * MS:
        return NEVER
    return BootNs(tether.since + policy.refill_after_s * SECOND)


def stale_at(tether: Tether, now: BootNs, policy: TetherPolicy) -> int:
    """When evidence that holds the tablet goes stale; ``NEVER`` if none does."""
    earliest: int = NEVER
    if tether.proven_since is None and tether.state is not TETHERED:
        return NEVER
    good_at, proof_at = tether.good_at, tether.proof_at
    if good_at is not None and now < (at := good_at + policy.status_fresh_ms * MS):
        earliest = at
    if proof_at is not None and now < (at := proof_at + policy.proof_fresh_s * SECOND) < earliest:
        earliest = at
    return min(earliest, hints.stale_at(tether, now, policy)) if tether.hints else earliest


def standing(tether: Tether, policy: TetherPolicy) -> list[BootNs]:
    """The other times at which this state may change by itself; some may be past."""
    times = [grant.until for grant in tether.grants]
    times += hints.standing(tether, policy)
    match tether.state:
        case TetherState.TETHERED:
            pass
        case TetherState.UNCERTAIN:
            times.append(ride_through_end(tether))
        case TetherState.UNKNOWN | TetherState.RESTRICTED | TetherState.FOREIGN:
            if tether.state is UNKNOWN:
                times.append(tether.alarm_from)
            if tether.proven_since is not None:
                times.append(BootNs(tether.proven_since + policy.return_ms * MS))
        case _:
            assert_never(tether.state)
    return times


def evidence(tether: Tether, now: BootNs, policy: TetherPolicy) -> tuple[Evidence, ...]:
    """Every source with its age as of ``now``, also those never seen."""
    fresh_proof = proof_fresh(tether, now, policy)
    notes = [
        note("dock proof", f"dock {tether.dock}", tether.proof_at, now, fresh=fresh_proof, weight=100)
        if tether.proof_at is not None
        else unseen("dock proof")
    ]
    status = tether.status
    for bit in DockBit:
        if status is None:
            notes.append(unseen(f"dock {bit.value}"))
            continue
        fresh = now < status.evidence_at + policy.status_fresh_ms * MS
        value = {True: "yes", False: "no", None: "not known"}[word(status, bit)]
        required = bit in policy.required
        notes.append(
            note(
                f"dock {bit.value}", value, status.evidence_at, now, fresh=fresh,
                weight=100 if required and fresh else 0, remark="required" if required else "reported only",
            )
        )  # fmt: skip
    if tether.hint is not None:
        notes.append(
            note("untagged status", "a hint", tether.hint.at, now, fresh=False, remark="anybody can send it")
        )
    notes += hints.evidence(tether, now, policy)
    left_ms = max(0, ride_through_end(tether) - now) // MS if tether.state is UNCERTAIN else 0
    value = f"{left_ms} ms left" if tether.state is UNCERTAIN else "not running"
    extended = tether.reserved_ns > policy.ride_through_ms * MS
    remark = f"budget {tether.budget_ns // MS} ms{', crank extension' if extended else ''}"
    notes.append(note("ride-through", value, tether.evidence_at, now, fresh=left_ms > 0, remark=remark))
    return tuple(notes)
