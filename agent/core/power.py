"""Power: run-on, energy, low voltage, heat, and the choreography of suspend and shutdown.

``take`` (power_measure) keeps what was measured and answered; ``settle`` looks at the triggers of the mode's
rows in ``TABLE``, in order, and enters the first that applies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.core import power_alarm as alarm
from agent.core import power_energy as energy
from agent.core.battery import limits_now
from agent.core.catalogue import POWER_CHANGED, SHUTDOWN
from agent.core.evolve import evolve
from agent.core.ignition_words import charging, crank_open, says_on
from agent.core.notes import change, evidence_text
from agent.core.policy import Policy, RunOnEnd
from agent.core.power_measure import locked as locked
from agent.core.power_measure import stirred as stirred
from agent.core.power_measure import take as take
from agent.core.power_measure import take_signal as take_signal
from agent.core.power_measure import take_status as take_status
from agent.core.power_rules import ROWS, Row, Trigger
from agent.core.power_words import evidence as evidence
from agent.core.power_words import filtered_mv as filtered_mv
from agent.core.power_words import sample as sample
from agent.core.power_words import sample_due as sample_due
from agent.core.power_words import supply_wanted as supply_wanted
from agent.core.state import IN_USE, Ignition, IgnitionState, Power, PowerMode
from agent.core.types import (
    MS,
    SECOND,
    Announce,
    BootNs,
    CutPowerIn,
    Decision,
    Drain,
    Effect,
    Effects,
    PowerVerb,
    RequestPower,
    Shed,
    WakeAt,
    Write,
)

COLD_SPARE_PERCENT = 20  # ours: charge above the floor with which a cold tablet goes without its supply

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


def _run_on_over(view: _View, end: RunOnEnd) -> bool:
    power = view.policy.power
    return power.run_on_end is end and view.passed(view.power.run_on_since, power.run_on_s) and view.may_end()


def _hard_cut_near(view: _View) -> bool:
    """Whether what is left until the supply cuts is only the time to announce, drain and go down."""
    due = _hard_cut_due(view.power, view.policy)
    return due is not None and view.now >= due - view.policy.power.drain_s * SECOND


def _hard_cut_due(power: Power, policy: Policy) -> BootNs | None:
    """When power-off is asked for at the latest: the supply counts from the wire, not from our verdict.

    From UNKNOWN the wire may have gone off as soon as nobody knew of it.
    """
    if not policy.power.hard_cut_s or power.cut_from is None:
        return None
    left_s = policy.power.hard_cut_s - policy.power.go_down_s
    return BootNs(power.cut_from + left_s * SECOND - policy.ignition.off_debounce_ms * MS)


def _low(view: _View) -> bool:
    low = view.passed(view.power.below_act_since, view.policy.power.act_s)
    return low and view.voltage_counts() and view.may_end()


def _low_charge(view: _View) -> bool:
    low = view.passed(view.power.low_charge_since, view.policy.power.act_s)
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
    Trigger.RUN_ON_OVER: lambda v: _run_on_over(v, RunOnEnd.SUSPEND),
    Trigger.RUN_ON_OFF: lambda v: _run_on_over(v, RunOnEnd.POWER_OFF),
    Trigger.ENERGY: lambda v: energy.over(v.power, v.policy.power) and v.may_end(),
    Trigger.HARD_CUT: lambda v: _hard_cut_near(v) and v.may_end(),
    Trigger.HOT: lambda v: v.passed(v.power.hot_since, 2 * v.policy.power.hot_s) and v.may_end(),
    Trigger.MAX_OVER: lambda v: v.passed(v.power.run_on_since, v.policy.power.max_s) and v.may_end(),
    Trigger.LOW_VOLTAGE: _low,
    Trigger.LOW_CHARGE: _low_charge,
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
    power = energy.ticked(power, now, policy, asleep=asleep)
    power = _settle_heat(power, now, ignition, policy, effects)
    power = _settle_cold(power, now, ignition, policy, effects)
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
    runs = ignition.state is IgnitionState.RUNNING
    view = _View(power, ignition, now, policy)
    limits = power.limits or limits_now(None, policy.power, None)
    if power.shedding:
        restored = view.passed(power.restored_since, policy.power.restore_s) and view.voltage_counts()
        if not runs and not restored:
            return power
        rule = "power.restore"
        because = (
            "the engine runs" if runs else f"the vehicle supply stayed at {limits.restore_mv} mV or above"
        )
    else:
        if runs or not view.passed(power.below_warn_since, policy.power.warn_s) or not view.voltage_counts():
            return power
        rule = "power.shed"
        because = f"the vehicle supply stayed below {limits.warn_mv} mV for {policy.power.warn_s} s"
    after = evolve(power, shedding=not power.shedding)
    if not power.hot:
        effects.append(Shed(after.shedding))
    return _beside(after, rule, because, now, ignition, policy, effects)


def _settle_heat(
    power: Power, now: BootNs, ignition: Ignition, policy: Policy, effects: list[Effect]
) -> Power:
    """Shed while the tablet's battery is hot. Vehicle power is taken on."""
    hot = _View(power, ignition, now, policy).passed(power.hot_since, policy.power.hot_s)
    if hot == power.hot:
        return power
    after = evolve(power, hot=hot)
    if not power.shedding:
        effects.append(Shed(hot))
    rule = "power.hot" if hot else "power.cooled"
    because = (
        f"the tablet's battery was at {policy.power.hot_degc} degC or above for {policy.power.hot_s} s"
        if hot
        else "the tablet's battery has cooled down"
    )
    return _beside(after, rule, because, now, ignition, policy, effects)


def _settle_cold(
    power: Power, now: BootNs, ignition: Ignition, policy: Policy, effects: list[Effect]
) -> Power:
    """Take no vehicle power while the tablet's battery is too cold to be charged, and can do without."""
    limits, percent = policy.power, None if power.tablet is None else power.tablet.percent
    # Once it gave way to the floor it begins again only with some charge to live on.
    least = limits.floor_percent + (0 if power.cold else COLD_SPARE_PERCENT)
    enough = percent is not None and percent > least
    cold = enough and _View(power, ignition, now, policy).passed(power.cold_since, limits.hot_s)
    if cold == power.cold:
        return power
    rule, because = "power.warm", "the tablet's battery has warmed up"
    if cold:
        rule = "power.cold"
        because = f"the tablet's battery was at {limits.cold_degc} degC or below for {limits.hot_s} s"
    elif not enough:
        because = "the tablet's battery is near its floor: cold or not, it needs the supply"
    return _beside(evolve(power, cold=cold), rule, because, now, ignition, policy, effects)


def _beside(
    power: Power,
    rule: str,
    because: str,
    now: BootNs,
    ignition: Ignition,
    policy: Policy,
    effects: list[Effect],
) -> Power:
    """A decision beside the mode; on the way down, why it goes down stays what the request will say."""
    after = _decide(power, power.mode, rule, because, now, ignition, policy, effects)
    ending = power.mode in (PowerMode.SUSPENDING, PowerMode.SHUTTING_DOWN)
    return evolve(after, decision=power.decision) if ending else after


def _enter(
    power: Power, row: Row, now: BootNs, ignition: Ignition, policy: Policy, effects: list[Effect]
) -> Power:
    limits = policy.power
    after = evolve(
        power, mode=row.to, since=now, until=None, drained=False, resumed=False, failed=False, by_lock=False
    )
    if power.mode is PowerMode.SLEEPING and power.wake_at is not None:
        effects.append(WakeAt(None))  # the time itself is kept: it says what woke the machine
    match row.to:
        case PowerMode.AWAKE:
            after = announce(evolve(after, run_on_since=None, cut_from=None, wake_at=None), "online", effects)
        case PowerMode.RUN_ON:
            failed = row.trigger is Trigger.FAILED
            if power.run_on_since is None:
                after = energy.begun(evolve(after, run_on_since=now), now)
                after = evolve(after, cut_from=now if power.unknown_since is None else power.unknown_since)
            after = evolve(
                after,
                forced=False,
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
            until, due = _later(now, limits.drain_s), _hard_cut_due(power, policy)
            if due is not None:
                until = BootNs(min(until, max(due, now)))
            after = evolve(after, until=until, forced=forced, by_lock=by_lock)
            after = announce(after, "shutting_down", effects)
        case PowerMode.SLEEPING:
            wake_at = alarm.planned(power, now, limits)
            after = evolve(after, until=_later(now, limits.retry_s), wake_at=wake_at)
            if wake_at is not None:
                effects.append(WakeAt(wake_at))
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


def standing(power: Power, now: BootNs, whole: Policy) -> list[BootNs]:
    """Every time at which this state may change by itself; some may be past."""
    policy = whole.power
    spans = (
        (power.hot_since, policy.hot_s),
        (power.hot_since, 2 * policy.hot_s),
        (power.cold_since, policy.hot_s),
        (power.run_on_since, policy.run_on_s),
        (power.run_on_since, policy.max_s),
        (power.unknown_since, policy.unknown_s),
        (power.below_warn_since, policy.warn_s),
        (power.below_act_since, policy.act_s),
        (power.restored_since, policy.restore_s),
        (power.low_charge_since, policy.act_s),
        (power.floor_since, policy.floor_s),
        (power.hard_floor_since, policy.floor_s),
    )
    times = [BootNs(since + seconds * SECOND) for since, seconds in spans if since is not None]
    times.append(power.not_before)
    due, tick = _hard_cut_due(power, whole), energy.next_tick(power, now)
    if due is not None:
        times.append(BootNs(due - policy.drain_s * SECOND))
    if tick is not None:
        times.append(tick)
    if policy.locked_off_s and power.locked_since is not None:
        times.append(_later(power.locked_since, policy.locked_off_s))
    if power.until is not None:
        times.append(power.until)
    return times
