"""The simulated vehicle: voltages, charge, cranks, key and bus."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.types import MINUTE, MS, SECOND, BootNs, KeyPosition
from simulator.electrics import (
    AGM_OCV,
    CRANKS,
    MAINS_CHARGER,
    PLAIN_ALTERNATOR,
    SMART_ALTERNATOR,
    Battery,
    BatterySpec,
    Supply,
)
from simulator.vehicle import Engine, Vehicle, VehicleSpec

START = BootNs(100 * SECOND)


def after(vehicle: Vehicle, ns: int) -> Vehicle:
    vehicle.advance(BootNs(vehicle.at + ns))
    return vehicle


def running(spec: VehicleSpec | None = None) -> Vehicle:
    vehicle = Vehicle(START, spec)
    vehicle.crank()
    return after(vehicle, 5 * SECOND)


@pytest.mark.parametrize(("permille", "mv"), [(1000, 12_700), (750, 12_400), (500, 12_200), (250, 12_000)])
def test_a_resting_flooded_battery_shows_its_charge(permille: int, mv: int) -> None:
    assert round(Battery(BatterySpec(), permille).open_mv) == mv


def test_an_agm_battery_has_a_curve_of_its_own() -> None:
    assert round(Battery(BatterySpec(ocv=AGM_OCV), 500).open_mv) == 12_100


def test_frost_weakens_the_battery() -> None:
    warm, cold = Battery(BatterySpec(), 900), Battery(BatterySpec(temperature_c=-18), 900)
    assert cold.capacity_mas < warm.capacity_mas
    assert cold.loaded_mv(100_000) < warm.loaded_mv(100_000)


@pytest.mark.parametrize("name", CRANKS)
def test_a_crank_dips_as_its_profile_says_and_ends_with_the_engine_running(name: str) -> None:
    vehicle = Vehicle(START, VehicleSpec(charge_permille=1000))
    vehicle.turn_key(KeyPosition.ON)
    vehicle.crank(name)
    lowest = 20_000
    while vehicle.engine is Engine.CRANKING:
        assert vehicle.kl15
        assert vehicle.kl50
        assert not vehicle.accessory
        assert 1 <= vehicle.rpm <= 400
        after(vehicle, MS)
        if vehicle.engine is Engine.CRANKING:
            lowest = min(lowest, vehicle.vehicle_mv)
    bottom = min(stage.to_mv for stage in CRANKS[name].stages)
    assert lowest == pytest.approx(bottom + 100, abs=60)  # a full battery stands 0.1 V above the profile's
    assert vehicle.engine is Engine.RUNNING
    assert vehicle.key is KeyPosition.ON
    assert vehicle.vehicle_mv == PLAIN_ALTERNATOR.mv


def test_next_change_walks_over_the_corners_of_a_crank() -> None:
    vehicle = Vehicle(START)
    vehicle.crank("iso-1")
    corners = []
    while (change := vehicle.next_change()) is not None:
        corners.append((change - START) // MS)
        vehicle.advance(change)
    assert corners == [5, 20, 70, 1070, 1110]


def test_a_weak_battery_dips_deeper() -> None:
    full, weak = (Vehicle(START, VehicleSpec(charge_permille=p)) for p in (1000, 300))
    for vehicle in (full, weak):
        vehicle.crank()
        after(vehicle, 10 * MS)
    assert weak.vehicle_mv < full.vehicle_mv - 500


def test_a_start_takes_charge_out_of_the_battery() -> None:
    vehicle = Vehicle(START)
    before = vehicle.battery.charge_mas
    vehicle.crank()
    after(vehicle, CRANKS["iso-1"].length_ns)
    taken_mah = (before - vehicle.battery.charge_mas) / 3600
    assert 50 < taken_mah < 250  # a second at some 350 A


@settings(max_examples=40)
@given(
    load_ma=st.integers(0, 40_000),
    hours=st.integers(1, 6),
    permille=st.integers(400, 1000),
)
def test_what_the_loads_draw_is_what_the_battery_loses(load_ma: int, hours: int, permille: int) -> None:
    vehicle = Vehicle(START, VehicleSpec(charge_permille=permille))
    vehicle.tablet_ma = load_ma
    before = vehicle.battery.charge_mas
    after(vehicle, hours * 60 * MINUTE)
    drawn = (load_ma + vehicle.spec.parasitic_ma + vehicle.battery.leak_ma) * hours * 3600
    assert before - vehicle.battery.charge_mas == pytest.approx(min(drawn, before), rel=1e-6)


@settings(max_examples=40)
@given(
    split=st.lists(st.integers(1, 40 * MS), min_size=1, max_size=40),
    profile=st.sampled_from(sorted(CRANKS)),
)
def test_voltages_do_not_depend_on_how_time_was_split(split: list[int], profile: str) -> None:
    whole, parts = Vehicle(START), Vehicle(START)
    for vehicle in (whole, parts):
        vehicle.crank(profile)
    for piece in split:
        after(parts, piece)
    after(whole, sum(split))
    assert whole.vehicle_mv == pytest.approx(parts.vehicle_mv, abs=2)
    assert (whole.engine, whole.rpm) == (parts.engine, parts.rpm)


@settings(max_examples=60)
@given(
    acts=st.lists(
        st.tuples(
            st.sampled_from(["on", "acc", "off", "crank", "stop", "go", "drive", "lights"]),
            st.integers(1, 30),
        ),
        max_size=25,
    ),
    permille=st.integers(0, 1000),
    alternator=st.sampled_from([PLAIN_ALTERNATOR, SMART_ALTERNATOR]),
)
def test_whatever_is_done_the_voltage_stays_within_what_a_vehicle_can_show(
    acts: list[tuple[str, int]], permille: int, alternator: Supply
) -> None:
    vehicle = Vehicle(START, VehicleSpec(charge_permille=permille, alternator=alternator))
    for act, seconds in acts:
        match act:
            case "on":
                vehicle.turn_key(KeyPosition.ON)
            case "acc":
                vehicle.turn_key(KeyPosition.ACCESSORY)
            case "off":
                vehicle.turn_key(KeyPosition.OFF)
            case "crank":
                vehicle.crank("bmw")
            case "stop" | "go":
                vehicle.stop_start(stopped=act == "stop")
            case "drive":
                vehicle.drive(480)
            case _:
                vehicle.blue_lights_ma = 15_000 - vehicle.blue_lights_ma
        after(vehicle, seconds * SECOND)
        assert 0 <= vehicle.vehicle_mv <= 14_400
        assert 0 <= vehicle.battery.charge_mas <= vehicle.battery.capacity_mas
        assert vehicle.bus_awake or not vehicle.kl15


def test_a_plain_alternator_charges() -> None:
    vehicle = running()
    before = vehicle.battery.charge_mas
    assert vehicle.vehicle_mv == 14_200
    assert after(vehicle, 10 * MINUTE).battery.charge_mas > before


def test_a_smart_alternator_is_not_to_be_told_from_a_parked_battery() -> None:
    vehicle = running(VehicleSpec(alternator=SMART_ALTERNATOR))
    assert vehicle.vehicle_mv == pytest.approx(12_500, abs=100)
    assert vehicle.rpm > 700


def test_a_charger_lifts_a_parked_vehicle_above_13_volts() -> None:
    vehicle = Vehicle(START, VehicleSpec(charge_permille=950))
    vehicle.charger = MAINS_CHARGER
    assert after(vehicle, MINUTE).vehicle_mv > 13_000
    assert not vehicle.kl15


def test_the_bus_sleeps_40_seconds_after_the_key() -> None:
    vehicle = Vehicle(START)
    assert not Vehicle(START).bus_awake
    vehicle.turn_key(KeyPosition.ON)
    assert vehicle.bus_awake
    after(vehicle, SECOND)
    vehicle.turn_key(KeyPosition.OFF)
    assert after(vehicle, 39 * SECOND).bus_awake
    assert not after(vehicle, 2 * SECOND).bus_awake


def test_run_lock_keeps_the_engine_without_a_key() -> None:
    vehicle = running()
    vehicle.pull_key(run_lock=True)
    assert (vehicle.rpm > 700, vehicle.kl15, vehicle.key_in) == (True, True, False)
    vehicle.pull_key()
    assert (vehicle.rpm, vehicle.kl15) == (0, False)


def test_stop_start_stands_still_with_the_ignition_on() -> None:
    vehicle = running()
    vehicle.stop_start(stopped=True)
    assert (vehicle.rpm, vehicle.kl15) == (0, True)
    vehicle.stop_start(stopped=False)
    assert after(vehicle, 2 * SECOND).rpm > 700


def test_driving_turns_the_engine_faster_and_ends_with_the_engine() -> None:
    vehicle = after(running(), SECOND)
    vehicle.drive(480)
    assert vehicle.rpm > 1_500
    vehicle.turn_key(KeyPosition.OFF)
    assert (vehicle.rpm, vehicle.speed_dkmh) == (0, 0)


def test_the_same_seed_gives_the_same_life() -> None:
    def life(seed: int) -> list[int]:
        vehicle = Vehicle(START, seed=seed)
        vehicle.crank()
        return [after(vehicle, 100 * MS).rpm for _ in range(50)]

    assert life(3) == life(3)
    assert life(3) != life(4)


def test_time_never_goes_back() -> None:
    vehicle = after(Vehicle(START), SECOND)
    vehicle.advance(START)
    assert vehicle.at == START + SECOND
