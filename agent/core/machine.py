"""The seam of the core: ``step`` and ``next_deadline``. Pure: time comes from observations only.

Order within a step: what was due before is settled first, then the observation is taken in, then ignition,
power, tether and enforcement are settled, because each looks at the one before it.
"""

from __future__ import annotations

from agent.core import grants as grants_
from agent.core import hints
from agent.core import ignition as ignition_
from agent.core import lease as lease_
from agent.core import outputs as outputs_
from agent.core import power as power_
from agent.core import power_energy as energy
from agent.core import requests as requests_
from agent.core import tether as tether_
from agent.core.calm import due_at, refreshed, settled
from agent.core.catalogue import (
    ENFORCEMENT_CHANGED,
    GUARD_CHANGED,
    LINK_VERSION,
    LOCK_OUTCOME,
    USED_WHILE_LOCKED,
    WOKE,
)
from agent.core.evolve import evolve
from agent.core.grant_words import evidence
from agent.core.ignition_words import crank_open
from agent.core.notes import evidence_text
from agent.core.policy import Policy
from agent.core.recall import recalled
from agent.core.start import start
from agent.core.state import NEVER, PowerMode, State, TetherState
from agent.core.tether_rules import BY_HINT
from agent.core.types import (
    SECOND,
    AllowSleep,
    Basis,
    BootNs,
    Decision,
    DockCommandDone,
    DockForeign,
    DockProof,
    DockStatus,
    DockVersion,
    DriveOutputs,
    Effect,
    Effects,
    Explain,
    GrantsRevoked,
    GuardLocked,
    GuardState,
    Lock,
    LockOrdered,
    LockOutcome,
    MemoryFound,
    Observation,
    Posture,
    Prove,
    Release,
    Remember,
    Remembered,
    ShutdownSignal,
    SleepSignal,
    Started,
    StoreRenewed,
    UsedWhileLocked,
    Write,
)


def step(state: State, obs: Observation, policy: Policy) -> tuple[State, Effects]:
    """Take an observation in. Total: any observation, in any order, at any time, gives a state.

    An observation that is older than the state counts as of the state's time, which never goes back.
    """
    after = refreshed(state, obs, policy)
    return step_in_full(state, obs, policy) if after is None else after


def step_in_full(state: State, obs: Observation, policy: Policy) -> tuple[State, Effects]:
    """The same as ``step``, which leaves out the settling where it would find what it found before."""
    now = BootNs(max(state.now, obs.at))
    effects: list[Effect] = []
    due = next_deadline(state, policy) if state.started else None
    if due is not None and due <= now:
        if isinstance(obs, SleepSignal) and not obs.starting and state.asleep_until is not None:
            state = evolve(state, asleep_until=BootNs(now + 1))  # what the sleep's time-out waits for came
        # Evidence that comes late must not undo what was due before it came.
        state = _settle(evolve(state, now=now), policy, None, effects)
    state = _hear(_take(state, obs, now, policy), obs, policy, effects)
    if state.started:
        state = _settle(state, policy, obs, effects)
    remembered = last_words(state, now)
    blank = isinstance(obs, StoreRenewed | MemoryFound)  # its file remembers nothing, or what is old
    if state.started and (blank or _material(remembered) != _material(state.remembered)):
        state = evolve(state, remembered=remembered)
        effects.append(Remember(remembered))
    return settled(state, policy), tuple(effects)


def next_deadline(state: State, policy: Policy) -> BootNs | None:
    """The next time at which something may change without an observation; always after the state's time.

    What was due by then has been settled: every step settles all that is due, whatever it was called for.
    """
    calm = state.calm
    due = state.due if calm is not None and calm.policy is policy else due_at(state, policy)
    return BootNs(due) if due < NEVER else None


def last_words(state: State, at: BootNs) -> Remembered:
    """What must outlive a restart as of ``at``; to be committed by an orderly stop."""
    tether, power = state.tether, state.power
    return Remembered(
        boot_id=state.boot_id,
        tether=tether.state.value,
        evidence_at=min(tether.evidence_at or 0, at),
        budget_ns=tether.budget_ns,
        reserved_ns=tether.reserved_ns,
        decision=state.decision,
        run_on_since=power.run_on_since,
        cut_from=power.cut_from,
        shutdown_requested=power.mode is PowerMode.POWERING_OFF,
        spent_uj=power.spent_uj,
        modelled_uj=power.modelled_uj,
        counted_at=power.counted_at,
        grants=state.grants.memory,
    )


# --- taking in ------------------------------------------------------------------------------------


def _take(state: State, obs: Observation, now: BootNs, policy: Policy) -> State:
    """Give an observation to every part that keeps evidence."""
    tether = tether_.take(state.tether, obs, now, policy.tether)
    if isinstance(obs, DockStatus) and tether.dock not in {"", obs.dock}:
        return evolve(state, now=now, tether=tether)  # what another dock's vehicle does is not ours
    ignition = ignition_.take(state.ignition, obs, now, policy.ignition)
    return evolve(
        state,
        now=now,
        tether=tether,
        ignition=ignition,
        power=power_.take(state.power, obs, now, ignition, policy),
    )


def _hear(state: State, obs: Observation, policy: Policy, effects: list[Effect]) -> State:
    """What is no evidence about the vehicle but concerns the agent itself."""
    now = state.now
    match obs:
        case Started() if not state.started:
            state = start(state, obs, policy)
            grants, ended = grants_.begin(state.grants, obs, now, policy.grants)
            state = evolve(state, grants=grants)
            effects += ended
            effects.append(Explain(state.tether.decision))
            if state.posture is Posture.LOCKED:
                # Asked for at every start: this run's enforcement does not know yet that it is to lock.
                effects.append(Lock(state.decision, state.tether.decision))
            return state
        case SleepSignal(starting=True):
            power = energy.modelled(state.power, now, policy.power)
            state = evolve(state, power=power)
            until = BootNs(now + policy.tether.sleep_timeout_s * SECOND)
            return evolve(state, asleep_until=until, slept_at=now)
        case SleepSignal(starting=False):
            slept_s = (now - state.slept_at) // SECOND if state.slept_at is not None else 0
            reason = obs.reason or "the kernel does not say"
            alarm = state.power.wake_at
            if alarm is not None and state.slept_at is not None and state.slept_at <= alarm <= now:
                reason = f"alarm for a scheduled sync; {reason}"
            effects.append(Write(WOKE.make(now, reason=reason, slept_s=slept_s)))
            state = evolve(state, slept_at=None)
            if state.asleep_until is None:
                # The first signal was missed: what it would have done is done now.
                state = _settle(evolve(state, asleep_until=BootNs(now + 1)), policy, None, effects)
            return _wake(state, policy, effects)
        case LockOutcome():
            record = LOCK_OUTCOME.make(
                now, decision=obs.decision, action=obs.action, ok=obs.ok,
                took_us=obs.took_ns // 1000, detail=obs.detail,
            )  # fmt: skip
            effects.append(Write(record))
            return state
        case LockOrdered() if state.started:
            grants, made = requests_.hear(
                state.grants, GrantsRevoked(now, "command", None), now, policy.grants
            )
            effects += made
            if state.posture is Posture.LOCKED:
                # Nothing changes but that sessions which came open meanwhile are locked again.
                effects.append(Lock(state.decision, state.tether.decision))
            return evolve(state, grants=grants)
        case DockCommandDone():
            return outputs_.answered(state, obs, effects)
        case UsedWhileLocked() if state.posture is Posture.LOCKED:
            # The same decision: the prohibition has not changed, it has been defied.
            effects.append(Lock(state.decision, state.tether.decision))
            effects.append(Write(USED_WHILE_LOCKED.make(now, detail=obs.detail)))
            return evolve(state, defied=state.defied + 1)
        case MemoryFound():
            held = state.tether.state in grants_.HELD
            memory = recalled(state.grants.memory, obs.remembered.grants, policy.grants, held=held)
            return evolve(state, grants=evolve(state.grants, memory=memory))
        case DockVersion():
            effects.append(Write(LINK_VERSION.make(now, dock=obs.dock)))
            return state
        case GuardState():
            return _guard_heard(state, obs, effects)
        case GuardLocked() if state.posture is Posture.USABLE and obs.decision == state.decision:
            # What this run still takes for usable is locked. Whether it is to be so is settled after this.
            cause = Decision("guard", "locked", obs.rule, "the guard had no word of the agent in time", now)
            state = _lock(state, cause, state.tether.state, effects)
            state = evolve(state, power=power_.locked(state.power, now))
            if state.tether.state is TetherState.UNCERTAIN:
                # What is left of a ride-through holds use up; it does not begin it anew.
                state = evolve(state, tether=evolve(state.tether, reserved_ns=0))
            return lease_.settle(state, policy, effects)
        case _ if state.started:
            grants, made = requests_.hear(state.grants, obs, now, policy.grants)
            effects += made
            return state if grants is state.grants else evolve(state, grants=grants)
        case _:
            return state


def _guard_heard(state: State, obs: GuardState, effects: list[Effect]) -> State:
    """A guard that comes and goes is recorded; that it is there at the start is as it should be."""
    since = None if obs.present else (state.unguarded_since or state.now)
    if since != state.unguarded_since:
        effects.append(Write(GUARD_CHANGED.make(state.now, present=obs.present, detail=obs.detail)))
    return evolve(state, unguarded_since=since)


def _wake(state: State, policy: Policy, effects: list[Effect]) -> State:
    awake_until = BootNs(state.now + policy.power.resume_awake_s * SECOND)
    power = energy.modelled(state.power, state.now, policy.power, asleep=True)
    power = evolve(power, resumed=True, not_before=max(state.power.not_before, awake_until))
    power = power_.announce(power, "online", effects)
    effects.append(Prove())  # a dock that kept its session would else be asked when it is next due
    tether = tether_.forget(state.tether, state.now, policy.tether)
    return evolve(state, tether=tether, power=power, asleep_until=None)


# --- settling -------------------------------------------------------------------------------------


def _settle(state: State, policy: Policy, obs: Observation | None, effects: list[Effect]) -> State:
    now = state.now
    if state.asleep_until is not None and now >= state.asleep_until:
        state = _wake(state, policy, effects)
    asleep = state.asleep_until is not None
    ignition, made = ignition_.settle(state.ignition, now, policy.ignition)
    effects += made
    power, made = power_.settle(state.power, now, ignition, policy, asleep=asleep)
    effects += made
    foreign = obs if isinstance(obs, DockForeign) else None
    ordered = isinstance(obs, LockOrdered)
    tether, made = tether_.settle(
        state.tether, now, ignition, policy, asleep=asleep, foreign=foreign, ordered=ordered
    )
    effects += made
    proven = tether_.proven(tether, now, policy.tether)
    cranking = crank_open(ignition, now, policy.ignition)
    tether, made = hints.settle(tether, now, policy.tether, proven=proven, cranking=cranking)
    effects += made
    before, posture = state.tether.state, state.posture
    grants, granted = grants_.settle(state.grants, now, tether, before, policy.grants, asleep=asleep)
    effects += granted
    hold = grants_.running(grants, now, asleep=asleep)
    if hold != tether.grants:
        tether = evolve(tether, grants=hold)
    if tether is not state.tether or ignition is not state.ignition or power is not state.power:
        state = evolve(state, ignition=ignition, power=power, tether=tether)
    if grants is not state.grants:
        state = evolve(state, grants=grants)
    state = _enforce(state, before, policy, effects)
    if state.posture is not posture:
        power = power_.locked(state.power, None if state.posture is Posture.USABLE else now)
        power, made = power_.settle(power, now, ignition, policy, asleep=asleep)
        effects += made
        state = evolve(state, power=power)
    state = lease_.settle(state, policy, effects)
    state = _drive(state, policy, obs, effects)
    return _answer(state, policy, obs, effects)


def _enforce(state: State, before: TetherState, policy: Policy, effects: list[Effect]) -> State:
    """Lock or release when usability changed, with exactly one record for each change."""
    usable = tether_.usable(state.tether, state.now) and not lease_.unguarded(state, policy)
    if usable == (state.posture is Posture.USABLE):
        return state
    cause = _cause(state, before, usable, policy)
    if not usable:
        return _lock(state, cause, before, effects)
    basis = _basis(state)
    state = evolve(state, posture=Posture.USABLE, basis=basis, decision=state.decision + 1)
    effects.append(Release(state.decision, cause, basis))
    effects += _changed(state, cause, before, effects)
    return state


def _lock(state: State, cause: Decision, before: TetherState, effects: list[Effect]) -> State:
    state = evolve(state, posture=Posture.LOCKED, basis=None, decision=state.decision + 1)
    effects.insert(0, Lock(state.decision, cause))  # ahead of whatever else this step asks for
    effects += _changed(state, cause, before, effects)
    return state


def _changed(state: State, cause: Decision, before: TetherState, made: list[Effect]) -> list[Effect]:
    """The record of a change of enforcement, and its explanation unless that was made already."""
    record = ENFORCEMENT_CHANGED.make(
        state.now,
        decision=state.decision,
        posture=state.posture.value,
        basis="" if state.basis is None else state.basis.value,
        verdict=cause.verdict,
        before=before.value,
        rule=cause.rule,
        because=cause.because,
        evidence=evidence_text(cause),
    )
    explained = any(isinstance(effect, Explain) and effect.decision is cause for effect in made)
    return [Write(record)] if explained else [Explain(cause), Write(record)]


def _basis(state: State) -> Basis:
    """What a tablet that is usable rests on."""
    if state.tether.state in (TetherState.TETHERED, TetherState.UNCERTAIN):
        return Basis.HINT if state.tether.decision.rule == BY_HINT else Basis.PROOF
    return Basis.OVERRIDE if state.now < state.grants.override_until else Basis.GRANT


def _cause(state: State, before: TetherState, usable: bool, policy: Policy) -> Decision:
    """The tether's decision, unless the tablet rests on a grant, or did and the tether is as it was."""
    tether, grants, now = state.tether, state.grants, state.now
    if lease_.unguarded(state, policy):
        return lease_.cause(state, policy)
    if usable:
        return tether.decision if _basis(state) in (Basis.PROOF, Basis.HINT) else grants.decision
    if tether.state is not before or state.basis in (None, Basis.PROOF, Basis.HINT):
        return tether.decision
    if grants.decision.at == now:
        return grants.decision
    because = "the tablet goes to sleep; nothing is granted in a sleep"
    return Decision("grant", "none", "grant.sleep", because, now, evidence(grants, now, policy.grants))


def _drive(state: State, policy: Policy, obs: Observation | None, effects: list[Effect]) -> State:
    """Bring the dock's outputs in line; each proof repeats them, since a reset dock has forgotten them."""
    tether = state.tether
    alarm = tether_.alarm(tether, state.now, asleep=state.asleep_until is not None)
    wanted = DriveOutputs(
        latch=alarm and policy.tether.hold_latch and not tether_.out(tether),
        led=alarm,
        buzzer=alarm,
        power_hold=True,
        supply_enable=power_.supply_wanted(state.power),
    )
    if wanted == state.outputs and not isinstance(obs, DockProof):
        return state
    effects.append(wanted)
    return outputs_.asked(state, wanted)


def _answer(state: State, policy: Policy, obs: Observation | None, effects: list[Effect]) -> State:
    """What an observation asks for once everything is settled."""
    now, power = state.now, state.power
    match obs:
        case DockStatus(authenticated=True, dock=dock) if power_.sample_due(
            power, now, policy.power
        ) and state.tether.dock in {"", dock}:
            effects += power_.sample(power, obs, now, state.ignition, policy)
            return evolve(state, power=evolve(power, recorded_at=now))
        case SleepSignal(starting=True):
            if not any(isinstance(effect, Lock) for effect in effects):
                effects.append(Lock(state.decision, state.tether.decision))
            power = power_.announce(power, "sleeping", effects)
            effects.append(AllowSleep())
            return evolve(state, power=power)
        case ShutdownSignal(starting=True):
            power = power_.announce(power, "shutting_down", effects)
            effects.append(AllowSleep())
            return evolve(state, power=power)
        case ShutdownSignal(starting=False):
            return evolve(state, power=power_.announce(power, "online", effects))
        case _:
            return state


def _material(memory: Remembered) -> tuple[object, ...]:
    """What is worth a commit: not the evidence's age, at every STATUS; a reservation moves the budget too."""
    return (
        memory.boot_id,
        memory.tether,
        memory.budget_ns,
        memory.decision,
        memory.run_on_since,
        memory.shutdown_requested,
        memory.grants,
    )
