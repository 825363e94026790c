"""The charge of the vehicle's battery by its voltage at rest: when it counts, what it says, what follows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.explain import why
from agent.core.policy import Chemistry, Policy, PowerPolicy, TetherPolicy
from agent.core.power_rest import charge_percent
from agent.core.state import PowerMode
from agent.core.types import PowerVerb, RequestPower, SleepSignal
from tests.core_driver import Core

POLICY = Policy(
    tether=TetherPolicy(refill_after_s=2),
    power=PowerPolicy(run_on_s=20_000, max_s=40_000, budget_wh=1000, rest_s=600, act_s=30, filter_s=2),
)
LOW_MV = 12_080  # a flooded battery at 35 %


def parked(seconds: float, what: Policy = POLICY, **values: object) -> Core:
    core = Core(what).tethered(vehicle_mv=12_600)
    core.dock(2.2 + seconds, **{"kl15": False, "vehicle_mv": LOW_MV, **values})
    return core


def rules(core: Core) -> list[str]:
    return [request.cause.rule for request in core.made(RequestPower)]


@pytest.mark.parametrize(
    ("chemistry", "system_v", "mv", "celsius", "percent"),
    [
        ("flooded", 12, 12_800, 25, 100), ("flooded", 12, 12_400, 25, 75), ("flooded", 12, 12_200, 40, 50),
        ("flooded", 24, 24_400, 25, 50), ("flooded", 12, 11_000, 25, 0), ("flooded", 12, 12_100, 25, 37),
        ("efb", 12, 12_400, 25, 75), ("agm", 12, 12_300, 25, 70), ("agm", 12, 11_800, 25, 30),
        ("flooded", 12, 12_400, -15, 57), ("agm", 12, 12_700, 0, 85),
        ("lifepo4", 12, 13_300, 25, None), ("lifepo4", 12, 12_800, -15, 10),
    ],
)  # fmt: skip
def test_the_charge_follows_chemistry_system_voltage_and_cold(
    chemistry: str, system_v: int, mv: int, celsius: int, percent: int | None
) -> None:
    policy = PowerPolicy(chemistry=Chemistry(chemistry), system_v=system_v)
    assert charge_percent(policy, mv, celsius) == percent


def test_a_voltage_tells_nothing_before_the_battery_has_rested() -> None:
    core = parked(590)
    assert core.state.power.charge_percent is None
    core.dock(12, kl15=False, vehicle_mv=LOW_MV)
    assert core.state.power.charge_percent == 35


def test_a_rested_battery_at_its_floor_ends_the_run_on_and_says_why() -> None:
    core = parked(600)
    assert rules(core) == []
    core.dock(60, kl15=False, vehicle_mv=LOW_MV)
    [request] = core.made(RequestPower)
    assert (request.verb, request.cause.rule) == (PowerVerb.POWER_OFF, "power.low_charge")
    [row] = [
        row for row in why(core.state, "power", core.policy, core.now)["evidence"]
        if row["source"] == "vehicle charge"
    ]  # fmt: skip
    assert (row["value"], row["note"]) == ("35 %", "by its voltage at rest: flooded, 25 degC")


def test_a_charge_above_the_floor_a_floor_of_nothing_and_a_moment_end_nothing() -> None:
    assert rules(parked(700, vehicle_mv=12_200)) == []
    none = replace(POLICY, power=replace(POLICY.power, charge_floor_percent=0))
    assert rules(parked(700, none)) == []
    core = parked(700, vehicle_mv=12_200)
    core.dock(8, kl15=False, vehicle_mv=LOW_MV)
    core.dock(60, kl15=False, vehicle_mv=12_250)
    assert rules(core) == []


def test_the_same_voltage_ends_a_run_on_in_the_cold_only() -> None:
    assert rules(parked(700, vehicle_mv=12_200)) == []
    core = parked(700, vehicle_mv=12_200, temperature_dc=-150)
    assert core.state.power.charge_percent == 38
    assert rules(core) == ["power.low_charge"]


@pytest.mark.parametrize(
    "disturbed",
    [{"vehicle_mv": 13_900}, {"tablet_ma": 1_800}, {"kl15": True}, {"kl15": None}],
    ids=["charged", "a load", "in use", "unknown"],
)
def test_charge_use_a_load_and_a_long_unknown_begin_the_rest_anew(disturbed: dict[str, object]) -> None:
    core = parked(500)
    core.dock(130, **{"kl15": False, "vehicle_mv": LOW_MV, **disturbed})
    core.dock(500, kl15=False, vehicle_mv=LOW_MV)
    assert core.state.power.charge_percent is None
    core.dock(110, kl15=False, vehicle_mv=LOW_MV)
    assert core.state.power.charge_percent == 35


@pytest.mark.parametrize(("mv", "known"), [(LOW_MV, True), (LOW_MV + 90, False)])
def test_a_battery_rests_while_the_tablet_sleeps_unless_it_stands_higher_then(mv: int, known: bool) -> None:
    core = parked(20)
    core.see(SleepSignal(core.now, True))
    core.now = type(core.now)(core.now + 3600 * 1_000_000_000)
    core.see(SleepSignal(core.now, False))
    core.dock(4, kl15=False, vehicle_mv=mv)
    assert (core.state.power.charge_percent is not None) is known
    assert core.state.power.mode is PowerMode.RUN_ON
