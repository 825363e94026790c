"""The planner over the supplies: energy budget, chemistry, temperature, 24 V, hysteresis, hard cut, heat."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.battery import CHEMICALS, limits_at
from agent.core.explain import why
from agent.core.machine import last_words
from agent.core.policy import Chemistry, IgnitionPolicy, Policy, PowerPolicy, RunOnEnd, TetherPolicy, problems
from agent.core.power_energy import WH_UJ
from agent.core.state import PowerMode
from agent.core.types import (
    SECOND,
    BootNs,
    Drained,
    PowerVerb,
    RequestPower,
    Shed,
    SleepSignal,
    TabletPower,
)
from tests.core_driver import Core

TETHER = TetherPolicy(refill_after_s=2)
LONG = PowerPolicy(run_on_s=20_000, max_s=40_000, budget_wh=1000)


def policy(**values: object) -> Policy:
    return Policy(tether=TETHER, power=replace(LONG, **values))  # type: ignore[arg-type]


def parked(what: Policy, **values: object) -> Core:
    core = Core(what).tethered(**values)
    core.dock(2.2, **{**values, "kl15": False})
    assert core.state.power.mode is PowerMode.RUN_ON
    core.effects.clear()
    return core


def energy_words(core: Core) -> tuple[str, str]:
    rows = why(core.state, "power", core.policy, core.now)["evidence"]
    [row] = [row for row in rows if row["source"] == "energy since ignition off"]
    return row["value"], row["note"]


# --- energy ---------------------------------------------------------------------------------------


def test_the_energy_since_ignition_off_is_measured_and_powers_off_at_the_budget() -> None:
    core = parked(policy(budget_wh=1))
    # 12 V x 1.7 A / 85 % is 24 W: a watt-hour in 150 s.
    core.dock(148, kl15=False, tablet_ma=1700)
    assert core.made(RequestPower) == []
    assert energy_words(core) == ("0.9 Wh of 1 Wh", "measured by the dock")
    core.dock(25, kl15=False, tablet_ma=1700)
    [request] = core.made(RequestPower)
    assert (request.verb, request.cause.rule) == (PowerVerb.POWER_OFF, "power.energy_budget")


def test_a_tablet_that_feeds_back_takes_nothing_and_gives_no_credit() -> None:
    core = parked(policy(budget_wh=1))
    core.dock(60, kl15=False, tablet_ma=1700)
    spent = core.state.power.spent_uj
    core.dock(60, kl15=False, tablet_ma=-1700)
    assert core.state.power.spent_uj == spent


def test_without_a_measured_current_the_model_counts_and_the_explanation_says_so() -> None:
    core = parked(policy(budget_wh=1))
    core.dock(61, kl15=False, tablet_ma=None)
    value, remark = energy_words(core)
    assert value == "0.2 Wh of 1 Wh"  # 12 W for a minute
    assert remark == "by the model; the dock reports no current"
    core.run(290)  # and nobody reports at all: 300 s at 12 W is a watt-hour
    assert core.made(RequestPower)[0].cause.rule == "power.energy_budget"


def test_the_budget_begins_anew_with_each_ignition_off() -> None:
    core = parked(policy(budget_wh=1))
    core.dock(100, kl15=False, tablet_ma=1700)
    core.dock(2)
    core.dock(2.2, kl15=False, tablet_ma=1700)
    assert core.state.power.mode is PowerMode.RUN_ON
    assert core.state.power.spent_uj < WH_UJ // 100
    core.dock(100, kl15=False, tablet_ma=1700)
    assert core.made(RequestPower) == []


def test_with_the_ignition_on_nothing_is_counted() -> None:
    core = Core(policy(budget_wh=1)).tethered()
    core.dock(300, tablet_ma=1700)
    assert core.state.power.spent_uj == 0
    assert energy_words(core)[0] == "not counted"


def test_a_sleep_counts_by_the_model() -> None:
    core = parked(policy(budget_wh=1))
    core.see(SleepSignal(core.now, starting=True))
    core.now = BootNs(core.now + 600 * SECOND)
    core.see(SleepSignal(core.now, starting=False))
    assert core.state.power.modelled_uj == pytest.approx(WH_UJ // 2, rel=0.02)  # 3 W for ten minutes


def test_a_restart_keeps_what_was_taken_and_counts_the_time_between_by_the_model() -> None:
    core = parked(policy())
    core.dock(60, kl15=False, tablet_ma=1700)
    words, spent = last_words(core.state, core.now), core.state.power.spent_uj
    core.now = BootNs(core.now + 30 * SECOND)
    core.restart(words)
    assert core.state.power.spent_uj == pytest.approx(spent + WH_UJ // 10, rel=0.01)  # 12 W for 30 s
    core.restart(words, "another boot")
    assert core.state.power.spent_uj == 0


# --- low voltage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chemistry", Chemistry)
@pytest.mark.parametrize("volts", [12, 24])
@pytest.mark.parametrize("celsius", [-40, -25, 0, 25, 60])
def test_each_battery_has_its_thresholds_in_order(chemistry: Chemistry, volts: int, celsius: int) -> None:
    limits = limits_at(PowerPolicy(chemistry=chemistry, system_v=volts), celsius)
    warm = CHEMICALS[chemistry]
    times = volts // 12
    assert limits.act_mv >= warm.act_mv * times >= 11_000 * times, "acts before a charge guard cuts"
    assert limits.act_mv < limits.warn_mv < limits.restore_mv
    assert limits.restore_mv - limits.act_mv >= 500
    if celsius >= 25:
        assert (limits.warn_mv, limits.act_mv) == (warm.warn_mv * times, warm.act_mv * times)


@pytest.mark.parametrize(
    ("values", "at_c", "act_mv"),
    [
        ({}, 25, 11_500),
        ({}, -15, 11_820),
        ({}, -25, 11_900),
        ({}, -60, 11_900),
        ({"system_v": 24}, -15, 23_640),
        ({"chemistry": Chemistry.AGM}, 25, 11_700),
        ({"chemistry": Chemistry.LIFEPO4}, -15, 12_500),
        ({"act_mv": 11_300}, -15, 11_300),
    ],
)
def test_thresholds_follow_temperature_and_policy(values: dict[str, object], at_c: int, act_mv: int) -> None:
    assert limits_at(PowerPolicy(**values), at_c).act_mv == act_mv  # type: ignore[arg-type]


def test_the_dock_s_temperature_moves_the_thresholds_and_is_explained() -> None:
    core = parked(policy())
    core.dock(100, kl15=False, vehicle_mv=11_800, temperature_dc=250)
    assert core.state.power.mode is PowerMode.RUN_ON
    core.dock(60, kl15=False, vehicle_mv=11_800, temperature_dc=-200)
    assert core.made(RequestPower)[0].cause.rule == "power.low_voltage"
    rows = why(core.state, "power", core.policy, core.now)["evidence"]
    [note] = [row["note"] for row in rows if row["source"] == "vehicle supply"]
    assert note == "warn 12360, act 11860, restore 13200 mV: flooded, 12 V, -20 degC"


def test_a_24_v_vehicle_acts_at_its_own_thresholds() -> None:
    what = replace(policy(system_v=24), ignition=IgnitionPolicy(charging_mv=26_400))
    assert problems(what) == []
    core = parked(what, vehicle_mv=25_200)
    core.dock(200, kl15=False, vehicle_mv=24_200)
    assert core.made(Shed) == []
    core.dock(200, kl15=False, vehicle_mv=22_800)
    assert core.made(RequestPower)[0].cause.rule == "power.low_voltage"


def test_ripple_around_the_act_threshold_does_not_begin_the_count_anew() -> None:
    core = parked(policy(filter_s=0))
    for _ in range(40):
        core.dock(0.8, kl15=False, vehicle_mv=11_480)
        core.dock(0.2, kl15=False, vehicle_mv=11_540)
    assert core.state.power.mode in (PowerMode.SHUTTING_DOWN, PowerMode.POWERING_OFF)


def test_a_rise_beyond_the_hysteresis_begins_it_anew() -> None:
    core = parked(policy(filter_s=0))
    for _ in range(8):
        core.dock(25, kl15=False, vehicle_mv=11_480)
        core.dock(1, kl15=False, vehicle_mv=11_650)
    assert core.state.power.mode is PowerMode.RUN_ON


# --- the hard cut ---------------------------------------------------------------------------------


def test_a_60_s_supply_is_done_by_40_s_after_the_wire_went_off() -> None:
    core = Core(policy(hard_cut_s=60)).tethered()
    off_at = core.now
    core.dock(55, kl15=False)
    [request] = core.made(RequestPower)
    assert (request.verb, request.cause.rule) == (PowerVerb.POWER_OFF, "power.hard_cut")
    assert off_at + 25 * SECOND <= request.cause.at
    assert core.state.power.since <= off_at + 41 * SECOND, "asked for once the drain is over"


def test_a_drain_that_is_quick_makes_it_quicker() -> None:
    core = Core(policy(hard_cut_s=60)).tethered()
    core.dock(26, kl15=False)
    assert core.state.power.mode is PowerMode.SHUTTING_DOWN
    core.see(Drained(core.now, 0))
    assert len(core.made(RequestPower)) == 1


def test_ignition_cancels_what_a_hard_cut_began() -> None:
    core = Core(policy(hard_cut_s=60)).tethered()
    core.dock(26, kl15=False)
    core.dock(2)
    assert core.state.power.mode is PowerMode.AWAKE
    assert core.made(RequestPower) == []


@pytest.mark.parametrize("again", [False, True], ids=["one run", "restarted"])
def test_from_unknown_the_supply_may_have_counted_since_it_became_unknown(again: bool) -> None:
    core = Core(policy(hard_cut_s=600)).tethered()
    core.run(130)
    assert core.state.power.mode is PowerMode.RUN_ON
    unknown_at = core.state.power.cut_from
    assert unknown_at is not None
    assert unknown_at < core.now - 120 * SECOND
    if again:
        core.restart(last_words(core.state, core.now))
    core.run(460)
    [request] = core.made(RequestPower)
    assert (request.verb, request.cause.rule) == (PowerVerb.POWER_OFF, "power.hard_cut")
    assert core.state.power.since <= unknown_at + (600 - 20) * SECOND


def test_a_wire_that_says_off_in_the_end_was_off_no_earlier_than_it_became_unknown() -> None:
    core = Core(policy(hard_cut_s=600)).tethered()
    core.run(130)
    unknown_at = core.state.power.cut_from
    core.dock(60, kl15=False)
    assert core.state.power.mode is PowerMode.RUN_ON
    assert core.state.power.cut_from == unknown_at


# --- the end of the run-on, and heat --------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "verb", "rule"),
    [
        (RunOnEnd.SUSPEND, PowerVerb.SUSPEND, "power.run_on_over"),
        (RunOnEnd.POWER_OFF, PowerVerb.POWER_OFF, "power.run_on_off"),
    ],
)
def test_policy_says_what_the_end_of_the_run_on_does(end: RunOnEnd, verb: PowerVerb, rule: str) -> None:
    core = parked(policy(run_on_s=60, run_on_end=end))
    core.dock(80, kl15=False)
    [request] = core.made(RequestPower)
    assert (request.verb, request.cause.rule) == (verb, rule)


def heat(core: Core, celsius: int) -> None:
    core.see(TabletPower(core.now, True, 80, 0, 7600, celsius * 10))


def test_heat_sheds_first_and_suspends_only_without_ignition() -> None:
    core = Core(policy()).tethered()
    heat(core, 61)
    core.dock(100)
    assert core.made(Shed) == [Shed(True)]
    assert core.made(RequestPower) == []
    assert core.state.outputs.supply_enable is True
    core.dock(12, kl15=False)
    assert [request.verb for request in core.made(RequestPower)] == [PowerVerb.SUSPEND]


def test_heat_has_its_own_hysteresis() -> None:
    core = Core(policy()).tethered()
    heat(core, 61)
    core.dock(35)
    heat(core, 57)
    core.dock(5)
    assert core.made(Shed) == [Shed(True)]
    heat(core, 54)
    core.dock(1)
    assert core.made(Shed) == [Shed(True), Shed(False)]


def test_shedding_on_the_way_down_does_not_change_why_it_goes_down() -> None:
    core = parked(policy(act_s=50, warn_s=60))
    core.dock(120, kl15=False, vehicle_mv=11_000)
    assert core.made(Shed) == [Shed(True)]
    [request] = core.made(RequestPower)
    assert request.cause.rule == "power.low_voltage"


# --- frost ------------------------------------------------------------------------------------------


def chilled(core: Core, celsius: int, percent: int = 80) -> None:
    core.see(TabletPower(core.now, True, percent, 300, 8000, celsius * 10))


def takes_power(core: Core) -> bool:
    return core.state.outputs.supply_enable is True


def test_a_cold_battery_is_not_charged_until_it_is_warm_again() -> None:
    core = Core(policy()).tethered()
    chilled(core, 0)
    core.dock(29)
    assert takes_power(core)
    core.dock(3)
    assert not takes_power(core)
    assert why(core.state, "power", core.policy, core.now)["rule"] == "power.cold"
    assert core.usable(), "it is in use all the while"
    chilled(core, 2)
    core.dock(40)
    assert not takes_power(core), "no chatter about one degree"
    chilled(core, 4)
    core.dock(1)
    assert takes_power(core)


def test_a_cold_battery_near_its_floor_gets_the_supply_and_keeps_it() -> None:
    core = Core(policy()).tethered()
    chilled(core, -5)
    core.dock(35)
    chilled(core, -5, percent=15)
    core.dock(1)
    assert takes_power(core)
    chilled(core, -5, percent=30)
    core.dock(60)
    assert takes_power(core)
    chilled(core, -5, percent=40)
    core.dock(60)
    assert not takes_power(core)


def test_nobody_who_does_not_know_the_charge_cuts_a_cold_tablet_off() -> None:
    core = Core(policy()).tethered()
    core.see(TabletPower(core.now, True, None, 300, 8000, -200))
    core.dock(60)
    assert takes_power(core)
