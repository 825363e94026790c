"""Power: run-on after ignition off, low voltage, and the choreography of suspend and shutdown.

``take`` keeps what was measured and answered; ``settle`` looks at the triggers of the mode's rows in
``TABLE``, in order, and enters the first that applies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.core.catalogue import POWER_CHANGED, POWER_SAMPLE, SHUTDOWN
from agent.core.evolve import evolve
from agent.core.ignition_words import BATTERY, charging, crank_open, says_on
from agent.core.notes import change, evidence_text, note, unseen
from agent.core.policy import Policy, PowerPolicy
from agent.core.power_rules import ROWS, Row, Trigger
from agent.core.state import IN_USE, Ignition, IgnitionState, Power, PowerMode
from agent.core.types import (
    MS,
    SECOND,
    Announce,
    BootNs,
    CanSignal,
    CutPowerIn,
    Decision,
    DockHint,
    DockStatus,
    Drain,
    Drained,
    Effect,
    Effects,
    Evidence,
    Observation,
    PowerOutcome,
    PowerVerb,
    RequestPower,
    Shed,
    ShutdownSignal,
    TabletPower,
    Write,
)

RPM_STEP = 50  # precision of engine speed in a power sample (catalogue)


# --- evidence -------------------------------------------------------------------------------------


def take(power: Power, obs: Observation, now: BootNs, ignition: Ignition, policy: Policy) -> Power:
    """The power state with one more measurement or answer. Decides nothing."""
    match obs:
        case CanSignal():
            return take_signal(power, obs, now, ignition, policy)
        case DockStatus(authenticated=True):
            return take_status(power, obs, now, ignition, policy)
        case DockHint(vehicle_mv=int(mv)) if ignition.mv_hinted:
            return _sample(power, power.dock, mv, now, ignition, policy)
        case TabletPower():
            return _take_tablet(power, obs, now, policy.power)
        case Drained():
            return evolve(power, drained=True)
        case PowerOutcome(ok=False, verb=verb):
            mode = PowerMode.SLEEPING if verb is PowerVerb.SUSPEND else PowerMode.POWERING_OFF
            return evolve(power, failed=power.mode is mode)
        case ShutdownSignal(starting=False):
            return evolve(power, failed=power.mode is PowerMode.POWERING_OFF)
        case _:
            return power


def take_status(power: Power, obs: DockStatus, now: BootNs, ignition: Ignition, policy: Policy) -> Power:
    """What ``take`` does with an authenticated STATUS."""
    return _sample(power, obs, obs.vehicle_mv, now, ignition, policy)


def take_signal(power: Power, obs: CanSignal, now: BootNs, ignition: Ignition, policy: Policy) -> Power:
    """The battery as CAN reports it, which counts only where the dock says nothing."""
    if obs.kind is not BATTERY:
        return power
    dock = ignition.dock_mv
    silent = dock is None or not dock.fresh(now, policy.ignition.voltage_fresh_ms * MS)
    if not silent or not isinstance(obs.value, int):
        return power
    return _sample(power, power.dock, obs.value, now, ignition, policy)


def _sample(
    power: Power, dock: DockStatus | None, mv: int | None, now: BootNs, ignition: Ignition, policy: Policy
) -> Power:
    """Low-pass the vehicle supply; the dips of a crank are kept out."""
    if mv is None or (ignition.crank is not None and crank_open(ignition, now, policy.ignition)):
        return evolve(power, dock=dock)
    limits = policy.power
    gap = now - power.sampled_at
    filtered = mv * 1000
    warn, act, restored = power.below_warn_since, power.below_act_since, power.restored_since
    if power.filtered_uv is None or gap >= policy.ignition.voltage_fresh_ms * MS:
        warn = act = restored = None
    else:
        filtered = power.filtered_uv + (filtered - power.filtered_uv) * gap // (
            limits.filter_s * SECOND + gap or 1
        )
    return evolve(
        power,
        dock=dock,
        filtered_uv=filtered,
        sampled_at=now,
        below_warn_since=_since(warn, now, true=filtered < limits.warn_mv * 1000),
        below_act_since=_since(act, now, true=filtered < limits.act_mv * 1000),
        restored_since=_since(restored, now, true=filtered >= limits.restore_mv * 1000),
    )


def locked(power: Power, since: BootNs | None) -> Power:
    """The power state of a tablet that is locked since then, or (None) usable."""
    return evolve(power, locked_since=since)


def stirred(before: Power, after: Power) -> bool:
    """Whether the supply, measured once more, passed a threshold."""
    return (
        after.below_warn_since != before.below_warn_since
        or after.below_act_since != before.below_act_since
        or after.restored_since != before.restored_since
    )


def _since(before: BootNs | None, now: BootNs, *, true: bool) -> BootNs | None:
    if not true:
        return None
    return now if before is None else before


def _take_tablet(power: Power, obs: TabletPower, now: BootNs, policy: PowerPolicy) -> Power:
    discharging = obs.battery_ma < 0 if obs.battery_ma is not None else obs.external is not True
    percent = 100 if obs.percent is None or not discharging else obs.percent
    return evolve(
        power,
        tablet=obs,
        floor_since=_since(power.floor_since, now, true=percent <= policy.floor_percent),
        hard_floor_since=_since(power.hard_floor_since, now, true=percent <= policy.hard_floor_percent),
    )


# --- triggers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _View:
    """What a trigger looks at."""

    power: Power
    ignition: Ignition
    now: BootNs
    policy: Policy

    def passed(self, since: BootNs | None, seconds: int) -> bool:
        return since is not None and self.now >= since + seconds * SECOND

    def may_end(self) -> bool:
        """Suspend and power-off are allowed: no fresh source says ON, and no attempt is too recent."""
        return self.now >= self.power.not_before and not says_on(
            self.ignition, self.now, self.policy.ignition
        )

    def voltage_counts(self) -> bool:
        limit = self.policy.ignition.voltage_fresh_ms * MS
        return self.now < self.power.sampled_at + limit and not crank_open(
            self.ignition, self.now, self.policy.ignition
        )

    def over(self) -> bool:
        return self.power.until is not None and self.now >= self.power.until


def _disputed(view: _View) -> bool:
    # Only once the contradiction has settled: a word of a moment begins nothing anew.
    settled = view.ignition.state is IgnitionState.UNKNOWN and bool(view.ignition.conflict)
    return settled and not view.power.forced and says_on(view.ignition, view.now, view.policy.ignition)


def _locked_over(view: _View) -> bool:
    limit_s = view.policy.power.locked_off_s
    return limit_s > 0 and view.passed(view.power.locked_since, limit_s) and view.may_end()


def _low(view: _View) -> bool:
    low = view.passed(view.power.below_act_since, view.policy.power.act_s)
    return low and view.voltage_counts() and view.may_end()


def _drained(view: _View) -> bool:
    on = says_on(view.ignition, view.now, view.policy.ignition)
    return (view.power.drained or view.over()) and (view.power.forced or not on)


_TRIGGERS: dict[Trigger, Callable[[_View], bool]] = {
    Trigger.IN_USE: lambda v: v.ignition.state in IN_USE and not v.power.forced,
    Trigger.MAYBE_ON: _disputed,
    Trigger.OFF: lambda v: v.ignition.state is IgnitionState.OFF,
    Trigger.UNKNOWN: lambda v: v.passed(v.power.unknown_since, v.policy.power.unknown_s),
    Trigger.CHARGING: lambda v: (
        v.ignition.state is IgnitionState.UNKNOWN and charging(v.ignition, v.now, v.policy.ignition)
    ),
    Trigger.RUN_ON_OVER: lambda v: v.passed(v.power.run_on_since, v.policy.power.run_on_s) and v.may_end(),
    Trigger.MAX_OVER: lambda v: v.passed(v.power.run_on_since, v.policy.power.max_s) and v.may_end(),
    Trigger.LOW_VOLTAGE: _low,
    Trigger.LOCKED_OVER: _locked_over,
    Trigger.USABLE: lambda v: v.power.by_lock and v.power.locked_since is None,
    Trigger.FLOOR: lambda v: v.passed(v.power.floor_since, v.policy.power.floor_s) and v.may_end(),
    Trigger.HARD_FLOOR: lambda v: (
        v.passed(v.power.hard_floor_since, v.policy.power.floor_s) and v.now >= v.power.not_before
    ),
    Trigger.DRAINED: _drained,
    Trigger.RESUMED: lambda v: v.power.resumed,
    Trigger.FAILED: lambda v: v.power.failed or v.over(),
}


# --- decision -------------------------------------------------------------------------------------


def settle(
    power: Power, now: BootNs, ignition: Ignition, policy: Policy, *, asleep: bool
) -> tuple[Power, Effects]:
    """Bring the mode in line with ignition, supplies and timers as of ``now``."""
    # A step that is quiet so far must stay cheap: nothing is built unless something changes.
    unsure = ignition.state is IgnitionState.UNKNOWN and not (
        says_on(ignition, now, policy.ignition) or charging(ignition, now, policy.ignition)
    )
    if unsure != (power.unknown_since is not None):
        power = evolve(power, unknown_since=now if unsure else None)
    effects: list[Effect] = []
    power = _settle_shedding(power, now, ignition, policy, effects)
    # One change may make the next due at once. Asleep, nothing begins: the resume settles it.
    for _ in () if asleep else PowerMode:
        view = _View(power, ignition, now, policy)
        row = next((row for row in ROWS[power.mode] if _TRIGGERS[row.trigger](view)), None)
        if row is None:
            break
        power = _enter(power, row, now, ignition, policy, effects)
    if power.resumed or power.failed:
        power = evolve(power, resumed=False, failed=False)
    return power, tuple(effects)


def _settle_shedding(
    power: Power, now: BootNs, ignition: Ignition, policy: Policy, effects: list[Effect]
) -> Power:
    limits = policy.power
    runs = ignition.state is IgnitionState.RUNNING
    view = _View(power, ignition, now, policy)
    if power.shedding:
        restored = view.passed(power.restored_since, limits.restore_s) and view.voltage_counts()
        if not runs and not restored:
            return power
        rule = "power.restore"
        because = (
            "the engine runs" if runs else f"the vehicle supply stayed at {limits.restore_mv} mV or above"
        )
    else:
        if runs or not view.passed(power.below_warn_since, limits.warn_s) or not view.voltage_counts():
            return power
        rule = "power.shed"
        because = f"the vehicle supply stayed below {limits.warn_mv} mV for {limits.warn_s} s"
    after = evolve(power, shedding=not power.shedding)
    effects.append(Shed(after.shedding))
    return _decide(after, power.mode, rule, because, now, ignition, policy, effects)


def _enter(
    power: Power, row: Row, now: BootNs, ignition: Ignition, policy: Policy, effects: list[Effect]
) -> Power:
    limits = policy.power
    after = evolve(
        power, mode=row.to, since=now, until=None, drained=False, resumed=False, failed=False, by_lock=False
    )
    match row.to:
        case PowerMode.AWAKE:
            after = announce(evolve(after, run_on_since=None), "online", effects)
        case PowerMode.RUN_ON:
            failed = row.trigger is Trigger.FAILED
            after = evolve(
                after,
                forced=False,
                run_on_since=now if power.run_on_since is None else power.run_on_since,
                not_before=_later(now, limits.retry_s) if failed else power.not_before,
            )
            if power.mode is PowerMode.POWERING_OFF:
                effects.append(CutPowerIn(None))
            after = announce(after, "online", effects)
        case PowerMode.SUSPENDING:
            after = announce(evolve(after, until=_later(now, limits.suspend_drain_s)), "sleeping", effects)
        case PowerMode.SHUTTING_DOWN:
            forced = row.trigger is Trigger.HARD_FLOOR
            by_lock = row.trigger is Trigger.LOCKED_OVER
            after = evolve(after, until=_later(now, limits.drain_s), forced=forced, by_lock=by_lock)
            after = announce(after, "shutting_down", effects)
        case PowerMode.SLEEPING:
            after = evolve(after, until=_later(now, limits.retry_s))
        case PowerMode.POWERING_OFF:
            after = evolve(after, until=_later(now, limits.cut_s + limits.retry_s))
    if row.to in (PowerMode.SUSPENDING, PowerMode.SHUTTING_DOWN) and after.until is not None:
        effects.append(Drain(after.until))
    cause = power.decision  # why it began, before "the queue is drained" replaces it
    after = _decide(after, power.mode, row.rule, row.because, now, ignition, policy, effects)
    if row.to is PowerMode.SLEEPING:
        effects += _request(PowerVerb.SUSPEND, cause, now)
    if row.to is PowerMode.POWERING_OFF:
        effects += [CutPowerIn(limits.cut_s), *_request(PowerVerb.POWER_OFF, cause, now)]
    return after


def _later(now: BootNs, seconds: int) -> BootNs:
    return BootNs(now + seconds * SECOND)


def _request(verb: PowerVerb, cause: Decision, now: BootNs) -> list[Effect]:
    record = SHUTDOWN.make(
        now, verb=verb.value, rule=cause.rule, because=cause.because, evidence=evidence_text(cause)
    )
    return [Write(record), RequestPower(verb, cause)]


def announce(power: Power, what: str, effects: list[Effect]) -> Power:
    """Tell the fleet what is planned, once."""
    if power.announced == what:
        return power
    effects.append(Announce(what))
    return evolve(power, announced=what)


def _decide(
    power: Power,
    before: PowerMode,
    rule: str,
    because: str,
    now: BootNs,
    ignition: Ignition,
    policy: Policy,
    effects: list[Effect],
) -> Power:
    seen = evidence(power, now, ignition, policy)
    decision = Decision("power", power.mode.value, rule, because, now, seen)
    effects += change(POWER_CHANGED, before.value, decision, vehicle_mv=filtered_mv(power))
    return evolve(power, decision=decision)


def standing(power: Power, policy: PowerPolicy) -> list[BootNs]:
    """Every time at which this state may change by itself; some may be past."""
    spans = (
        (power.run_on_since, policy.run_on_s),
        (power.run_on_since, policy.max_s),
        (power.unknown_since, policy.unknown_s),
        (power.below_warn_since, policy.warn_s),
        (power.below_act_since, policy.act_s),
        (power.restored_since, policy.restore_s),
        (power.floor_since, policy.floor_s),
        (power.hard_floor_since, policy.floor_s),
    )
    times = [BootNs(since + seconds * SECOND) for since, seconds in spans if since is not None]
    times.append(power.not_before)
    if policy.locked_off_s and power.locked_since is not None:
        times.append(_later(power.locked_since, policy.locked_off_s))
    if power.until is not None:
        times.append(power.until)
    return times


# --- reports --------------------------------------------------------------------------------------


def filtered_mv(power: Power) -> int | None:
    return None if power.filtered_uv is None else power.filtered_uv // 1000


def supply_wanted(power: Power, ignition: Ignition) -> bool:
    """Take vehicle power? Not while shedding in use; on the way off the dock is left ready to charge."""
    ending = power.mode in (PowerMode.SHUTTING_DOWN, PowerMode.POWERING_OFF)
    return ending or not power.shedding or ignition.state is IgnitionState.OFF


def sample_due(power: Power, now: BootNs, policy: PowerPolicy) -> bool:
    return power.recorded_at is None or now >= power.recorded_at + policy.sample_s * SECOND


def sample(power: Power, obs: DockStatus, now: BootNs, ignition: Ignition, policy: Policy) -> Effects:
    """The telemetry record of one STATUS."""
    rpm = ignition.rpm
    fresh_rpm = rpm is not None and rpm.fresh(now, policy.ignition.can_fresh_ms * MS)
    record = POWER_SAMPLE.make(
        now,
        vehicle_mv=obs.vehicle_mv,
        dock_mv=obs.dock_mv,
        tablet_ma=obs.tablet_ma,
        board_dc=obs.temperature_dc,
        tablet_percent=None if power.tablet is None else power.tablet.percent,
        engine_rpm=(rpm.value + RPM_STEP // 2) // RPM_STEP * RPM_STEP if rpm and fresh_rpm else None,
    )
    return (Write(record),)


def evidence(power: Power, now: BootNs, ignition: Ignition, policy: Policy) -> tuple[Evidence, ...]:
    """What power decisions look at, with ages as of ``now``."""
    mv = filtered_mv(power)
    fresh = mv is not None and now < power.sampled_at + policy.ignition.voltage_fresh_ms * MS
    window = crank_open(ignition, now, policy.ignition)
    tablet = power.tablet
    return (
        note("ignition", ignition.state.value, ignition.since, now, fresh=True, weight=100),
        unseen("vehicle supply")
        if mv is None
        else note("vehicle supply", f"{mv} mV, filtered", power.sampled_at, now, fresh=fresh,
                  weight=0 if window else 100, remark="suspended in the crank window" if window else ""),
        unseen("tablet battery")
        if tablet is None or tablet.percent is None
        else note("tablet battery", f"{tablet.percent} %", tablet.at, now, fresh=True, weight=100,
                  remark="reported on change"),
        note("run-on", "not running" if power.run_on_since is None else "running", power.run_on_since, now,
             fresh=power.run_on_since is not None, weight=100),
    )  # fmt: skip
