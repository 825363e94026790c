"""What users of comparable projects complain of, each shown not to happen here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.catalogue import IGNITION_CHANGED, POWER_CHANGED
from agent.core.policy import Policy, PowerPolicy, TetherPolicy
from agent.core.state import IgnitionState, PowerMode
from agent.core.types import (
    SECOND,
    BootNs,
    BusState,
    CanBus,
    KeyPosition,
    PowerVerb,
    RequestPower,
)
from simulator.docks.reference_outputs import LONGEST_LEASE_NS, POWER_HOLD_NS, Actuators, Inputs
from tests.core_driver import Core

POLICY = Policy(tether=TetherPolicy(refill_after_s=2))
LONG = replace(POLICY, power=PowerPolicy(run_on_s=40_000, max_s=80_000))


def verdict(core: Core) -> IgnitionState:
    return core.state.ignition.state


# --- 1: a drained vehicle battery (openpilot #19677, #23127, #23663, #2696) -----------------------


@pytest.mark.parametrize("mv", [12_600, 11_900, 11_400])
def test_1_a_parked_tablet_stops_taking_power_at_any_voltage(mv: int) -> None:
    core = Core(POLICY).tethered()
    core.dock(1000, kl15=False, vehicle_mv=mv)
    assert core.made(RequestPower), "by the run-on time, or earlier by the voltage"


def test_1_without_any_time_limit_the_energy_budget_still_ends_it() -> None:
    core = Core(LONG).tethered()
    core.dock(4 * 3600, kl15=False, tablet_ma=1700, vehicle_mv=12_600)  # 24 W: 30 Wh in 75 minutes
    [request] = core.made(RequestPower)[:1]
    assert (request.verb, request.cause.rule) == (PowerVerb.POWER_OFF, "power.energy_budget")


def test_1_an_agent_that_hangs_does_not_hold_the_dock_s_power() -> None:
    dock, inputs = Actuators(BootNs(0)), Inputs(kl15=False)
    dock.lease(5000, BootNs(0))
    gone = BootNs(LONGEST_LEASE_NS + POWER_HOLD_NS + 20 * SECOND)
    assert dock.powered(inputs)
    while (due := dock.next_deadline(inputs)) is not None and due <= gone:
        dock.advance(due, inputs)
    assert not dock.powered(inputs)


# --- 2: voltage cannot tell charging from parked (wican-fw #818, #840; openpilot #26640) ----------


@pytest.mark.parametrize("mv", [13_400, 13_800, 14_400])
def test_2_a_charger_on_a_parked_vehicle_does_not_make_it_on(mv: int) -> None:
    core = Core(LONG).tethered()
    core.dock(60, kl15=False, vehicle_mv=mv)
    assert verdict(core) is IgnitionState.OFF
    assert core.state.power.mode is PowerMode.RUN_ON


@pytest.mark.parametrize("mv", [12_300, 12_500, 12_900])
def test_2_a_smart_alternator_at_12_5_v_does_not_make_it_parked(mv: int) -> None:
    core = Core(POLICY).tethered()
    for _ in range(300):
        core.rpm(800)
        core.dock(1, vehicle_mv=mv)
    assert verdict(core) is IgnitionState.RUNNING
    assert core.state.power.mode is PowerMode.AWAKE


# --- 3: the agent keeps the car awake (OVMS #978, #275; wican-fw #259, #448, #691) ----------------


def test_3_a_parked_tablet_sleeps_although_the_bus_is_kept_awake_by_others() -> None:
    core = Core(POLICY).tethered()
    for _ in range(960):
        core.key(KeyPosition.OFF)
        core.dock(1, kl15=False)
    assert [request.verb for request in core.made(RequestPower)][:1] == [PowerVerb.SUSPEND]


def test_3_what_the_tablet_takes_itself_is_counted() -> None:
    core = Core(LONG).tethered()
    core.dock(600, kl15=False, tablet_ma=900)
    assert core.state.power.spent_uj > 0


# --- 4: flapping and false ignition (wican-fw #162; OVMS #711; openpilot #24680, #36800, #23645) --


def test_4_a_line_that_bounces_changes_nothing() -> None:
    core = Core(POLICY).tethered()
    for number in range(300):
        core.dock(0.2, kl15=number % 2 == 0)
    assert core.records(IGNITION_CHANGED) == []
    assert core.records(POWER_CHANGED) == []


def test_4_a_voltage_that_rises_and_falls_wakes_and_sleeps_nothing() -> None:
    core = Core(LONG).tethered()
    core.dock(3, kl15=False)
    core.effects.clear()
    for number in range(60):
        core.dock(5, kl15=False, vehicle_mv=12_300 if number % 2 else 13_400)
    assert core.records(IGNITION_CHANGED) == []
    assert core.records(POWER_CHANGED) == []


# --- 12: hotplug (pyserial #341, #36; can-utils #344); the ports themselves: test_can_port.py ------


def test_12_a_bus_that_goes_and_comes_back_is_believed_again_and_was_never_off_meanwhile() -> None:
    core = Core(POLICY)
    core.start()
    seen = []
    for state, frames in ((BusState.ACTIVE, True), (BusState.DOWN, False), (BusState.ACTIVE, True)):
        core.see(CanBus(core.now, "can", state))
        for _ in range(10):
            if frames:
                core.key(KeyPosition.ON)
            core.run(1)
            seen.append(verdict(core))
    assert verdict(core) is IgnitionState.ON
    assert IgnitionState.OFF not in seen
    assert IgnitionState.UNKNOWN in seen
