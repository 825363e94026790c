"""What a run of the agent begins with: a restart grants nothing new, and forgets nothing that restricts."""

from __future__ import annotations

from agent.core import power_energy as energy
from agent.core.evolve import evolve
from agent.core.lease import longest_ns
from agent.core.policy import Policy
from agent.core.state import Power, PowerMode, State, Tether, TetherState
from agent.core.types import MS, SECOND, BootNs, Decision, Lease, Posture, Remembered, Started

_TETHERED = TetherState.TETHERED.value
_USABLE = {TetherState.TETHERED.value, TetherState.UNCERTAIN.value}
_LASTING = {TetherState.RESTRICTED.value, TetherState.FOREIGN.value}


def start(state: State, obs: Started, policy: Policy) -> State:
    """The state after ``Started``; ``posture`` is what the tablet had before it, as far as is known.

    Without a readable memory the tablet counts as having been usable, with no budget: locking it is then
    a change, and has its record.
    """
    now = state.now
    memory = obs.remembered or Remembered()
    same_boot = memory.boot_id == obs.boot_id
    # A grant that was open may have held the tablet; one that lapsed is not remembered as open.
    leave = memory.grants
    is_open = leave.override_until or (leave.permit is not None and leave.permit.until)
    granted = bool(is_open) and not obs.locked
    was_usable = obs.remembered is None or memory.tether in _USABLE or granted
    return evolve(
        state,
        started=True,
        boot_id=obs.boot_id,
        decision=memory.decision,
        posture=Posture.USABLE if was_usable else Posture.LOCKED,
        tether=_tether(state.tether, memory, _running(obs, memory), now, policy, same_boot=same_boot),
        power=_power(state.power, memory, now, policy, same_boot=same_boot, locked=not was_usable),
        remembered=memory,
    )


def _running(obs: Started, memory: Remembered) -> Lease | None:
    """The lease of the use that is remembered, if it was tethered then and the lease still runs.

    What was lent for a loss is remembered exactly, with what it took from the budget.
    """
    lease = obs.lease
    if lease is None or obs.at >= lease.until or lease.decision != memory.decision:
        return None
    return lease if memory.tether == _TETHERED else None


def _tether(
    tether: Tether, memory: Remembered, lease: Lease | None, now: BootNs, policy: Policy, *, same_boot: bool
) -> Tether:
    budget_ns = min(memory.budget_ns or 0, policy.tether.budget_ms * MS)
    reserved_ns = 0
    evidence_at = memory.evidence_at
    lent_ns = min(policy.tether.ride_through_ms * MS, budget_ns) if memory.tether == _TETHERED else 0
    state, rule, because = TetherState.UNKNOWN, "tether.no_evidence", "no evidence in this boot"
    if memory.tether in _LASTING:
        state = TetherState(memory.tether)
        rule, because = "tether.remembered", "restricted before the restart; only fresh proof ends it"
    elif same_boot and memory.tether in _USABLE:
        # What a loss had reserved was taken from the budget then; what was TETHERED reserves now.
        uncertain = memory.tether == TetherState.UNCERTAIN.value
        limit_ms = policy.tether.crank_ride_through_ms if uncertain else policy.tether.ride_through_ms
        reserved_ns = min(limit_ms * MS, memory.reserved_ns if uncertain else budget_ns)
        if lease is not None:
            # What was lent stands: its evidence is newer than the last commit, and so may its budget be.
            evidence_at = max(evidence_at, lease.evidence_at)
            reserved_ns = min(longest_ns(policy.tether), lease.until - evidence_at)
        if evidence_at <= now < evidence_at + reserved_ns:
            state, rule = TetherState.UNCERTAIN, "tether.inherited"
            because = "the agent was restarted within the ride-through; what is left of it runs on"
            budget_ns -= 0 if uncertain else min(reserved_ns, budget_ns)
            lent_ns = 0
        else:
            rule, because = "tether.restart", "the agent was restarted and the last evidence is too old"
            reserved_ns = 0
    # The guard let it be used for as long without us.
    budget_ns -= lent_ns
    return evolve(
        tether,
        decision=Decision("tether", state.value, rule, because, now),
        state=state,
        since=now,
        evidence_at=BootNs(evidence_at) if same_boot and evidence_at else None,
        reserved_ns=reserved_ns,
        budget_ns=budget_ns,
        alarm_from=BootNs(now + policy.tether.start_allowance_s * SECOND),
    )


def _power(
    power: Power, memory: Remembered, now: BootNs, policy: Policy, *, same_boot: bool, locked: bool
) -> Power:
    mode, until = PowerMode.AWAKE, None
    if same_boot and memory.shutdown_requested:
        mode = PowerMode.POWERING_OFF
        until = BootNs(now + (policy.power.cut_s + policy.power.retry_s) * SECOND)
    elif same_boot and memory.run_on_since is not None:
        mode = PowerMode.RUN_ON
    if same_boot and memory.run_on_since is not None:
        run_on_since = BootNs(min(memory.run_on_since, now))
        cut_from = run_on_since if memory.cut_from is None else BootNs(min(memory.cut_from, now))
        # What was taken since the last commit nobody counted: by the model.
        power = evolve(
            power,
            run_on_since=run_on_since,
            cut_from=cut_from,
            spent_uj=memory.spent_uj,
            modelled_uj=memory.modelled_uj,
            counted_at=BootNs(min(max(memory.counted_at, run_on_since), now)),
        )
        power = energy.modelled(power, now, policy.power)
    return evolve(
        power,
        decision=Decision("power", mode.value, "power.start", "the agent has just started", now),
        mode=mode,
        since=now,
        until=until,
        locked_since=now if locked else None,
    )
