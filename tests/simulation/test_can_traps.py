"""Traps met in recordings of real vehicles, one test each: what a profile or the fusion must not fall for."""

from __future__ import annotations

from collections.abc import Iterable

from agent.core.state import IgnitionState
from agent.core.types import MS, BootNs, BusState, CanBus, CanSignal, KeyPosition, SignalKind
from drivers.vehicles import ford, vw_mqb
from drivers.vehicles.codec import Value, pack
from drivers.vehicles.profile import parse
from drivers.vehicles.watch import CompiledProfile
from tests.core_driver import Core

UNKNOWN, OFF, ACCESSORY, ON, CRANKING, RUNNING = IgnitionState
KEY, RPM, BATTERY = SignalKind.IGNITION, SignalKind.ENGINE_SPEED, SignalKind.BATTERY
PERIOD_MS = 100
BUS = "powertrain"


def play(core: Core, seconds: float, values: Iterable[tuple[SignalKind, Value]] = ()) -> list[IgnitionState]:
    """The vehicle says the same for a while; the verdict after each of its frames."""
    said = []
    for _ in range(round(seconds * 1000 / PERIOD_MS)):
        for kind, value in values:
            core.see(CanSignal(core.now, BUS, kind, value))
        core.until(BootNs(core.now + PERIOD_MS * MS))
        said.append(core.state.ignition.state)
    return said


def started() -> Core:
    core = Core()
    core.start()
    core.see(CanBus(core.now, BUS, BusState.ACTIVE))
    return core


def test_a_smart_alternator_at_12_86_to_13_38_v_is_a_running_engine() -> None:
    core = started()
    play(core, 3, [(RPM, 800), (BATTERY, 13_100)])
    said = [
        state
        for mv in (12_860, 13_380, 12_900, 13_000)
        for state in play(core, 15, [(RPM, 800), (BATTERY, mv)])
    ]
    assert set(said) == {RUNNING}


def test_a_ford_voltage_of_all_ones_is_not_18_75_v() -> None:
    watch = CompiledProfile(ford(), BUS)
    assert watch.feed([pack(0x082, bytes.fromhex("00000000ff000000"), extended=False)], BootNs(0)) == []
    assert watch.counters.values["not_available"] == 1
    (volts,) = watch.feed([pack(0x082, bytes.fromhex("0000000080000000"), extended=False)], BootNs(1))
    assert (volts.kind, volts.value) == (BATTERY, 12_400)


def test_a_battery_of_0_v_when_the_bus_wakes_is_no_value() -> None:
    """Hyundai's 0x545 says zero until its sender has measured."""
    said = {
        "name": "hyundai-0x545", "title": "as opendbc has EMS14", "sources": ["opendbc: EMS14"],
        "frame": [{
            "name": "EMS14", "id": 0x545, "length": 8, "period_ms": 100, "freshness_ms": 3000,
            "signal": [{"kind": "battery", "start": 24, "length": 8, "scale": 102, "range": [3000, 20_000]}],
        }],
    }  # fmt: skip
    watch = CompiledProfile(parse(said, "test"), BUS)
    assert watch.feed([pack(0x545, bytes(8), extended=False)], BootNs(0)) == []
    (volts,) = watch.feed([pack(0x545, bytes([0, 0, 0, 120, 0, 0, 0, 0]), extended=False)], BootNs(1))
    assert volts.value == 12_240


def test_an_ignition_bit_that_drops_out_in_the_crank_is_not_off() -> None:
    core = started()
    assert play(core, 4, [(KEY, KeyPosition.ON), (RPM, 0)])[-1] is ON
    said = play(core, 1.2, [(KEY, KeyPosition.OFF), (RPM, 220)])
    said += play(core, 4, [(KEY, KeyPosition.ON), (RPM, 900)])
    assert OFF not in said
    assert said[-1] is RUNNING


def test_a_placeholder_of_800_rpm_with_the_ignition_off_is_no_running_engine() -> None:
    said = set(play(started(), 60, [(KEY, KeyPosition.OFF), (RPM, 800)]))
    assert said <= {UNKNOWN, OFF}


def test_a_start_request_with_the_starter_inhibited_never_runs() -> None:
    core = started()
    play(core, 4, [(KEY, KeyPosition.ON), (RPM, 0)])
    said = play(core, 3, [(KEY, KeyPosition.START), (RPM, 0)])
    assert set(said) <= {ON, CRANKING, UNKNOWN}
    assert play(core, 4, [(KEY, KeyPosition.ON), (RPM, 0)])[-1] is ON
    assert play(core, 10, [(KEY, KeyPosition.OFF), (RPM, 0)])[-1] is OFF


def test_a_crank_that_never_catches_never_runs() -> None:
    core = started()
    play(core, 4, [(KEY, KeyPosition.ON), (RPM, 0)])
    said = play(core, 12, [(KEY, KeyPosition.START), (RPM, 180)])
    said += play(core, 70, [(KEY, KeyPosition.ON), (RPM, 0)])
    assert RUNNING not in said
    assert OFF not in said
    assert said[-1] is ON


def test_a_bus_that_sleeps_with_bursts_after_key_off_stays_off() -> None:
    core = started()
    play(core, 4, [(KEY, KeyPosition.ON), (RPM, 0)])
    play(core, 4, [(KEY, KeyPosition.OFF)])
    said = []
    for _ in range(6):
        core.see(CanBus(core.now, BUS, BusState.SILENT))
        said += play(core, 12)
        core.see(CanBus(core.now, BUS, BusState.ACTIVE))
        said += play(core, 0.5, [(KEY, KeyPosition.OFF)])
    assert set(said) <= {OFF, UNKNOWN}


def test_volkswagens_terminal_s_alone_is_accessory() -> None:
    klemmen = vw_mqb().frames[0]
    watch, core = CompiledProfile(vw_mqb(), BUS), started()
    for counter in range(40):
        for signal in watch.feed([klemmen.encode({KEY: KeyPosition.ACCESSORY}, counter)], core.now):
            core.see(signal)
        core.until(BootNs(core.now + PERIOD_MS * MS))
    assert core.state.ignition.state is ACCESSORY
