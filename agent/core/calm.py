"""Calm: most evidence says what the last said, and to settle it again would find what was found.

A dock sends STATUS five times a second and a bus has ten signals a second. After each step the state has a
note of how long nothing changes by itself. As long as that holds, evidence which stirs no part is taken in
and no more is done. What stirs a part is said by the part, next to what it decides by.
"""

from __future__ import annotations

from agent.core import grants as grants_
from agent.core import ignition as ignition_
from agent.core import ignition_calm, lease
from agent.core import power as power_
from agent.core import tether as tether_
from agent.core.evolve import evolve
from agent.core.policy import Policy
from agent.core.state import BOOT, NEVER, Calm, Ignition, State, Tether
from agent.core.types import BootNs, CanSignal, DockStatus, Effects, Observation


def settled(state: State, policy: Policy) -> State:
    """A state that was just settled, with its note; before the start nothing is settled."""
    if not state.started:
        return state
    standing = _standing(state, policy)
    due = min(standing, _stale_at(state.tether, state.ignition, state.now, policy))
    # A grant beside the tether is rare, and its lease is that of the longer of the two: settled in full.
    until = BOOT if state.tether.grants else tether_.refill_at(state.tether, policy.tether)
    calm = Calm(policy, until=until, standing=standing)
    return evolve(state, calm=calm, due=due, renew_from=lease.renew_from(state, policy))


def refreshed(state: State, obs: Observation, policy: Policy) -> tuple[State, Effects] | None:
    """A calm state with newer evidence that says the same; None where it has to be settled.

    All that such evidence can do is to renew the lease.
    """
    calm = state.calm
    if calm is None or calm.policy is not policy:
        return None
    now = obs.at if obs.at > state.now else state.now
    if now >= state.due or now >= calm.until:
        return None
    if isinstance(obs, CanSignal):
        return _by_signal(state, calm, obs, now)
    if isinstance(obs, DockStatus):
        return _by_status(state, calm, obs, now) if obs.authenticated else None
    return None


def _by_signal(state: State, calm: Calm, obs: CanSignal, now: BootNs) -> tuple[State, Effects] | None:
    policy, kind, before = calm.policy, obs.kind, state.ignition
    ignition = ignition_.take_signal(before, obs, now, policy.ignition)
    if ignition_calm.signal_stirs(before, ignition, kind, now, policy.ignition):
        return None
    power = power_.take_signal(state.power, obs, now, ignition, policy)
    if power is not state.power and power_.stirred(state.power, power):
        return None
    due = state.due
    # What is newer goes stale later: the deadline moves only if this source was the first to go stale.
    if due == ignition_calm.signal_stale_at(before, kind, policy.ignition):
        due = min(calm.standing, _stale_at(state.tether, ignition, now, policy))
    return evolve(state, now=now, ignition=ignition, power=power, due=due), ()


def _by_status(state: State, calm: Calm, obs: DockStatus, now: BootNs) -> tuple[State, Effects] | None:
    policy = calm.policy
    if obs.dock != state.tether.dock:
        return None
    if power_.sample_due(state.power, now, policy.power):
        return None
    ignition = ignition_.take_status(state.ignition, obs, now, policy.ignition)
    if ignition_calm.status_stirs(state.ignition, ignition, now, policy.ignition):
        return None
    tether = tether_.take_status(state.tether, obs, now, policy.tether)
    if tether_.stirred(state.tether, tether, now, policy.tether):
        return None
    power = power_.take_status(state.power, obs, now, ignition, policy)
    if power_.stirred(state.power, power):
        return None
    stale_at = _stale_at(tether, ignition, now, policy)
    due = stale_at if stale_at < calm.standing else calm.standing
    after = evolve(state, now=now, tether=tether, ignition=ignition, power=power, due=due)
    if (tether.evidence_at or 0) < state.renew_from:
        return after, ()
    return lease.renewed(after, policy)


def due_at(state: State, policy: Policy) -> int:
    """The next deadline of any state; ``NEVER`` if it has none."""
    return min(_standing(state, policy), _stale_at(state.tether, state.ignition, state.now, policy))


def _standing(state: State, policy: Policy) -> int:
    """The earliest deadline after the state's time that no evidence moves."""
    times: list[int] = [
        *tether_.standing(state.tether, policy.tether),
        *ignition_calm.standing(state.ignition, policy.ignition),
        *power_.standing(state.power, state.now, policy),
        *lease.standing(state, policy),
        *grants_.standing(state.grants, state.tether, policy.grants),
    ]
    if state.asleep_until is not None:
        times.append(state.asleep_until)
    return min((time for time in times if time > state.now), default=NEVER)


def _stale_at(tether: Tether, ignition: Ignition, now: BootNs, policy: Policy) -> int:
    """When the next evidence goes stale."""
    tether_at = tether_.stale_at(tether, now, policy.tether)
    ignition_at = ignition_calm.stale_at(ignition, now, policy.ignition)
    return tether_at if tether_at < ignition_at else ignition_at
