"""A fleet's weeks: batteries, starters, guards, and the same vehicle with the agent and without."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agent.core.types import MINUTE, SECOND, BootNs, KeyPosition
from simulator.__main__ import main
from simulator.compose_weeks import Week, live, summary
from simulator.electrics import GUARD_DELAY_NS, Battery, BatterySpec, ChargeGuard
from simulator.vehicle import Engine, Vehicle, VehicleSpec
from simulator.virtual.acts import Act, Verb
from simulator.virtual.bare import BareVehicle, NoTablet, PlainRules
from simulator.virtual.lives import HOUR

ON = KeyPosition.ON


@pytest.mark.parametrize(
    ("celsius", "health", "permille", "starts"),
    [(25, 1000, 1000, True), (25, 1000, 200, True), (25, 1000, 50, False),
     (-15, 1000, 500, True), (-15, 700, 200, False)],
)  # fmt: skip
def test_a_cold_old_or_empty_battery_turns_no_engine(
    celsius: int, health: int, permille: int, starts: bool
) -> None:
    battery = Battery(BatterySpec(temperature_c=celsius, health_permille=health), permille)
    assert battery.turns_engine is starts


def test_resistance_grows_with_age_cold_and_as_the_charge_goes() -> None:
    def ohm(permille: int = 1000, **spec: Any) -> float:
        return Battery(BatterySpec(**spec), permille).resistance_ohm

    assert ohm() < ohm(500) < ohm(200)
    assert ohm() < ohm(temperature_c=-10)
    assert ohm() < ohm(health_permille=700)


def test_a_month_in_a_shed_costs_the_battery_its_own_leak() -> None:
    battery = Battery(BatterySpec(), 1000)
    battery.take(0, 30 * 86_400)
    assert battery.charge_mas == pytest.approx(0.96 * battery.capacity_mas)


def test_a_start_that_fails_is_counted_and_whoever_stood_there_is_helped() -> None:
    vehicle = Vehicle(BootNs(0), VehicleSpec(charge_permille=50))
    for _ in range(2):
        vehicle.turn_key(ON)
        vehicle.crank()
        vehicle.advance(BootNs(vehicle.at + 5 * SECOND))
        if vehicle.failed_starts and vehicle.engine is Engine.OFF:
            continue
    assert vehicle.failed_starts == 1
    assert vehicle.engine is Engine.RUNNING


def test_a_charge_guard_cuts_once_and_gives_back_with_the_ignition_only() -> None:
    guard = ChargeGuard()
    assert guard.feeds(0, 10_900, kl15=False)
    assert guard.feeds(GUARD_DELAY_NS - 1, 10_900, kl15=False)
    assert not guard.feeds(GUARD_DELAY_NS, 10_900, kl15=False)
    assert not guard.feeds(GUARD_DELAY_NS + HOUR, 12_900, kl15=False)
    assert guard.feeds(GUARD_DELAY_NS + HOUR, 12_900, kl15=True)


def test_a_crank_does_not_trip_the_guard() -> None:
    guard = ChargeGuard()
    assert guard.feeds(0, 4_500, kl15=False)
    assert guard.feeds(2 * SECOND, 12_000, kl15=False)
    assert guard.feeds(GUARD_DELAY_NS + SECOND, 10_000, kl15=False)


def parked(rules: NoTablet | PlainRules, hours: int) -> Vehicle:
    bare = BareVehicle(1, VehicleSpec(), rules)
    bare.live([Act(0, Verb.KEY, ON), Act(MINUTE, Verb.PULL_KEY)], BootNs(hours * HOUR))
    return bare.vehicle


def test_plain_rules_end_with_their_thirty_watt_hours() -> None:
    without, plain = parked(NoTablet(), 30), parked(PlainRules(), 30)
    taken_mas = without.battery.charge_mas - plain.battery.charge_mas
    assert 30 <= taken_mas / 3600 / 1000 * 12.5 <= 36


def test_one_vehicle_s_week_is_the_same_twice() -> None:
    assert live(4, 1) == live(4, 1)


def test_the_slow_pace_finds_what_the_field_s_does() -> None:
    assert live(5, 1) == live(5, 1, "field")


def test_a_vehicle_counts_as_stranded_only_by_what_the_tablet_took() -> None:
    weeks = [Week(1, 1, 1, 0, 3, 0, ()), Week(2, 1, 0, 1, 3, 1, ()), Week(3, 0, 0, 2, 3, 0, ())]
    figures = summary(weeks, 7)
    assert figures["stranded_by_the_tablet"] == 1
    assert figures["stranded_by_plain_rules"] == 2
    assert figures["cut_short_though_affordable"] == 1


def test_the_command_prints_a_table_and_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weeks", "--vehicles", "1", "--days", "1", "--seed", "4", "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["vehicles"] == 1
    assert "stranded by plain rules" in err


def test_a_vehicle_of_the_log_is_not_lived_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, report = tmp_path / "weeks.jsonl", tmp_path / "report.md"
    words = ["weeks", "--vehicles", "2", "--days", "1", "--seed", "4", "--jobs", "1", "--log", str(log)]
    known = {"days": 1, "pace": "slow", **asdict(Week(4, 1, 0, 1, 77, 3, ()))}
    log.write_text(json.dumps(known) + "\n")
    assert main([*words, "--report", str(report)]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["stranded_by_the_tablet"] == 1
    assert [json.loads(line)["seed"] for line in log.read_text().splitlines()] == [4, 5]
    assert "| **did not start because of the tablet** | **1** |" in report.read_text()
    assert main([*words, "--pace", "field"]) == 2
    assert "line 1: not of this log: its lives are not of 1 days at field pace" in capsys.readouterr().err
