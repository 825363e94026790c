"""Lease: use is lent until a time, and lent anew for as long as what it rests on is renewed.

The guard, a process of its own, holds the lease and locks when it runs out, whatever befell the agent. So a
lease never goes further than use would go if nothing more came in: the ride-through from the last full
evidence. It is renewed by evidence, in steps, and so costs no wake-up of its own; only a grant, which has no
evidence, is renewed at half of its length.
"""

from __future__ import annotations

from agent.core.evolve import evolve
from agent.core.hints import held_at
from agent.core.policy import HintUse, Policy, TetherPolicy
from agent.core.state import BOOT, NEVER, State, Tether, TetherState
from agent.core.tether import ride_through_end
from agent.core.types import (
    MS,
    SECOND,
    Basis,
    BeginLease,
    BootNs,
    Decision,
    Effect,
    Effects,
    EndLease,
    Lease,
    Lock,
    Posture,
    RenewLease,
)

# By their own names: to look a member up in its class is slow.
TETHERED, UNCERTAIN = TetherState.TETHERED, TetherState.UNCERTAIN
LOCKED, ALLOW = Posture.LOCKED, HintUse.ALLOW


def _ride_through_ns(tether: Tether, policy: TetherPolicy) -> int:
    """Of a tethered tablet: what its next loss would reserve."""
    return min(policy.ride_through_ms * MS, tether.budget_ns)


def _fresh_ns(policy: TetherPolicy) -> int:
    """How long after the last full evidence its loss may go unnoticed."""
    lines_ms = policy.hint_fresh_ms if policy.hint_lines is ALLOW else 0
    return max(policy.status_fresh_ms, lines_ms) * MS


def _fresh_until(tether: Tether, now: BootNs, policy: TetherPolicy) -> int:
    """When a tethered tablet is one no more, if nothing more comes in."""
    until: int = BOOT
    if tether.good_at is not None and tether.proof_at is not None:
        until = min(
            tether.good_at + policy.status_fresh_ms * MS, tether.proof_at + policy.proof_fresh_s * SECOND
        )
    lines_at = held_at(tether, now, policy)
    return until if lines_at is None else max(until, lines_at + policy.hint_fresh_ms * MS)


def longest_ns(policy: TetherPolicy) -> int:
    """The longest that any lease on evidence goes beyond it; one on a grant may go further."""
    return max(_fresh_ns(policy), policy.ride_through_ms * MS)


def _horizon_ns(tether: Tether, policy: TetherPolicy) -> int:
    """The longest that a tethered tablet may be used after its last full evidence."""
    return max(_fresh_ns(policy), _ride_through_ns(tether, policy))


def _step_ns(tether: Tether, policy: Policy) -> int:
    """A loss is noticed once evidence is stale: the guard must not lock before that for a step too long."""
    spare_ns = _horizon_ns(tether, policy.tether) - _fresh_ns(policy.tether)
    return min(policy.lease.step_ms * MS, spare_ns // 2)


def bound(tether: Tether, now: BootNs, policy: Policy) -> BootNs:
    """Until when use may go on if nothing more comes in; not after ``now`` where it may not."""
    longest = now + policy.lease.grant_ms * MS
    until: int = BOOT
    if tether.state is TETHERED:
        until = (tether.evidence_at or 0) + _ride_through_ns(tether, policy.tether)
        until = max(until, _fresh_until(tether, now, policy.tether))
    elif tether.state is UNCERTAIN:
        until = ride_through_end(tether)
    return BootNs(max(until, *(min(grant.until, longest) for grant in tether.grants), BOOT))


def settle(state: State, policy: Policy, effects: list[Effect]) -> State:
    """Bring the lease in line with the posture, which was settled before."""
    if state.posture is LOCKED:
        if state.lease_until == BOOT:
            return state
        after_lock = 1 if effects and isinstance(effects[0], Lock) else 0
        effects.insert(after_lock, EndLease(state.decision, cause(state, policy)))
        return evolve(state, lease_until=BOOT)
    until = bound(state.tether, state.now, policy)
    if not state.lease_until or (until > state.lease_until and _extended(state.tether, policy.tether)):
        effects.append(BeginLease(_lease(state, until), state.basis or Basis.PROOF))
    elif _due(state, state.lease_until, until, policy):
        effects.append(RenewLease(_lease(state, until)))
    else:
        return state
    return evolve(state, lease_until=until)


def _extended(tether: Tether, policy: TetherPolicy) -> bool:
    """A loss that may be ridden through for longer than a restart takes into account by itself."""
    return tether.state is UNCERTAIN and tether.reserved_ns > policy.ride_through_ms * MS


def _lease(state: State, until: BootNs) -> Lease:
    return Lease(state.decision, until, state.tether.evidence_at or BOOT)


def _due(state: State, given: BootNs, until: BootNs, policy: Policy) -> bool:
    """A lease that is too long is cut at once, and one for a loss is exact."""
    if state.tether.state is UNCERTAIN:
        return until != given
    if state.tether.state is TETHERED:
        return until < given or until >= given + max(_step_ns(state.tether, policy), 1)
    # On a grant by time, not in steps: a slice that ends soon leaves less than a step to add.
    return until < given or (until > given and state.now >= _renew_at(given, policy))


def _renew_at(given: BootNs, policy: Policy) -> BootNs:
    """When a lease on a grant is renewed."""
    return BootNs(given - policy.lease.grant_ms // 2 * MS)


def renew_from(state: State, policy: Policy) -> int:
    """Full evidence since this time may renew the lease of a tethered tablet; ``NEVER`` if it is none."""
    if state.posture is LOCKED or state.tether.state is not TETHERED or not state.lease_until:
        return NEVER
    return state.lease_until + _step_ns(state.tether, policy) - _horizon_ns(state.tether, policy.tether)


def renewed(state: State, policy: Policy) -> tuple[State, Effects]:
    """A calm state with its lease renewed, if that is due."""
    effects: list[Effect] = []
    after = settle(state, policy, effects)
    if after is not state:
        after = evolve(after, renew_from=renew_from(after, policy))
    return after, tuple(effects)


def standing(state: State, policy: Policy) -> list[BootNs]:
    """The times at which the lease needs a step without any evidence; some may be past."""
    times = []
    held = state.tether.state in (TETHERED, UNCERTAIN)
    if state.posture is Posture.USABLE and not held and state.lease_until:
        times.append(_renew_at(state.lease_until, policy))
    if state.unguarded_since is not None and policy.lease.unguarded_s:
        times.append(_unguarded_from(state.unguarded_since, policy))
    return times


# --- without the guard ----------------------------------------------------------------------------


def unguarded(state: State, policy: Policy) -> bool:
    """The guard has been gone for so long that policy ends use."""
    since = state.unguarded_since
    return (
        since is not None and bool(policy.lease.unguarded_s) and state.now >= _unguarded_from(since, policy)
    )


def _unguarded_from(since: BootNs, policy: Policy) -> BootNs:
    return BootNs(since + policy.lease.unguarded_s * SECOND)


def cause(state: State, policy: Policy) -> Decision:
    """Why the tablet is as it is: by the tether, or for want of the guard."""
    if not unguarded(state, policy):
        return state.tether.decision
    return Decision(
        "guard", "unguarded", "guard.missing", "nobody would lock the tablet if the agent died", state.now
    )
