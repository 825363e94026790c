"""Power: its table cell by cell, run-on, low voltage, floors, and the choreography of the way off."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from agent.core.catalogue import POWER_CHANGED, POWER_SAMPLE, SHUTDOWN
from agent.core.machine import last_words
from agent.core.policy import Policy, PowerPolicy, TetherPolicy
from agent.core.power_rules import TABLE, Trigger
from agent.core.state import PowerMode
from agent.core.types import (
    SECOND,
    AllowSleep,
    Announce,
    BootNs,
    CutPowerIn,
    Drain,
    Drained,
    DriveOutputs,
    KeyPosition,
    Lock,
    PowerOutcome,
    PowerVerb,
    Remember,
    RequestPower,
    Shed,
    ShutdownSignal,
    SleepSignal,
    TabletPower,
)
from tests.core_driver import Core, status

AWAKE, RUN_ON, SUSPENDING, SLEEPING, SHUTTING_DOWN, POWERING_OFF = PowerMode
QUICK = Policy(
    tether=TetherPolicy(refill_after_s=2),
    power=PowerPolicy(run_on_s=60, max_s=600, drain_s=15, suspend_drain_s=5),
)

CELLS = {
    Trigger.HARD_FLOOR: (SHUTTING_DOWN, SHUTTING_DOWN, SHUTTING_DOWN, None, None, None),
    Trigger.IN_USE: (None, AWAKE, AWAKE, AWAKE, AWAKE, None),
    Trigger.RESUMED: (None, None, RUN_ON, RUN_ON, None, None),
    Trigger.OFF: (RUN_ON, None, None, None, None, None),
    Trigger.UNKNOWN: (RUN_ON, None, None, None, None, None),
    Trigger.MAYBE_ON: (None, AWAKE, AWAKE, AWAKE, AWAKE, None),
    Trigger.CHARGING: (None, AWAKE, None, None, None, None),
    Trigger.MAX_OVER: (None, SHUTTING_DOWN, SHUTTING_DOWN, None, None, None),
    Trigger.LOW_VOLTAGE: (None, SHUTTING_DOWN, SHUTTING_DOWN, None, None, None),
    Trigger.LOW_CHARGE: (None, SHUTTING_DOWN, SHUTTING_DOWN, None, None, None),
    Trigger.FLOOR: (None, SHUTTING_DOWN, SHUTTING_DOWN, None, None, None),
    Trigger.LOCKED_OVER: (SHUTTING_DOWN, SHUTTING_DOWN, SHUTTING_DOWN, None, None, None),
    Trigger.USABLE: (None, None, None, None, RUN_ON, None),
    Trigger.HARD_CUT: (None, SHUTTING_DOWN, SHUTTING_DOWN, None, None, None),
    Trigger.ENERGY: (None, SHUTTING_DOWN, SHUTTING_DOWN, None, None, None),
    Trigger.HOT: (None, SUSPENDING, None, None, None, None),
    Trigger.RUN_ON_OFF: (None, SHUTTING_DOWN, None, None, None, None),
    Trigger.RUN_ON_OVER: (None, SUSPENDING, None, None, None, None),
    Trigger.DRAINED: (None, None, SLEEPING, None, POWERING_OFF, None),
    Trigger.FAILED: (None, None, None, RUN_ON, None, RUN_ON),
}


@pytest.mark.parametrize(("mode", "trigger"), list(product(PowerMode, Trigger)))
def test_each_cell_of_the_table(mode: PowerMode, trigger: Trigger) -> None:
    rows = [row for row in TABLE if mode in row.frm and row.trigger is trigger]
    expected = CELLS[trigger][list(PowerMode).index(mode)]
    assert [row.to for row in rows] == ([] if expected is None else [expected])


def mode(core: Core) -> PowerMode:
    return core.state.power.mode


def parked(policy: Policy = QUICK) -> Core:
    """Docked and just switched off: run-on has begun."""
    core = Core(policy).tethered()
    core.dock(2.2, kl15=False)
    assert mode(core) is RUN_ON
    core.effects.clear()
    return core


def test_the_run_on_ends_in_a_suspend_with_its_choreography() -> None:
    core = parked()
    core.dock(58, kl15=False)
    assert core.made(Announce) == []
    core.dock(3, kl15=False)
    assert core.made(Announce) == [Announce("sleeping")]
    [drain] = core.made(Drain)
    assert core.made(RequestPower) == []
    core.see(Drained(core.now, 0))
    assert core.now < drain.until
    [request] = core.made(RequestPower)
    assert (request.verb, request.cause.rule) == (PowerVerb.SUSPEND, "power.run_on_over")
    assert core.records(SHUTDOWN)[0].as_dict()["verb"] == "suspend"
    made = core.see(SleepSignal(core.now, starting=True))
    assert isinstance(made[0], Lock)
    assert isinstance(made[-1], AllowSleep) or AllowSleep() in made
    core.now = BootNs(core.now + 100 * SECOND)
    core.see(SleepSignal(core.now, starting=False))
    assert mode(core) is RUN_ON
    assert core.made(Announce)[-1] == Announce("online")


def test_a_resume_without_ignition_suspends_again_after_its_time_awake() -> None:
    core = parked()
    core.dock(65, kl15=False)
    core.see(SleepSignal(core.now, starting=True))
    core.now = BootNs(core.now + 100 * SECOND)
    core.see(SleepSignal(core.now, starting=False))
    core.effects.clear()
    core.dock(59, kl15=False)
    assert core.made(RequestPower) == []
    core.dock(10, kl15=False)
    assert [request.verb for request in core.made(RequestPower)] == [PowerVerb.SUSPEND]


def test_nothing_begins_while_the_tablet_goes_to_sleep() -> None:
    core = parked()
    core.dock(55, kl15=False)
    core.see(SleepSignal(core.now, starting=True))
    core.effects.clear()
    core.dock(20, kl15=False)
    assert core.made(Drain) == []
    core.see(SleepSignal(core.now, starting=False))
    core.dock(59, kl15=False)
    assert core.made(Drain) == [], "somebody woke it: it stays awake for a while"
    core.dock(2, kl15=False)
    assert len(core.made(Drain)) == 1


def test_ignition_after_a_resume_ends_the_run_on() -> None:
    core = parked()
    core.dock(66, kl15=False)
    core.see(SleepSignal(core.now, starting=True))
    core.see(SleepSignal(core.now, starting=False))
    core.dock(1)
    assert mode(core) is AWAKE
    assert core.state.power.run_on_since is None
    assert core.made(Announce)[-1] == Announce("online")


def test_the_maximum_time_powers_off_with_its_choreography() -> None:
    core = parked(replace(QUICK, power=replace(QUICK.power, run_on_s=599)))
    core.now = BootNs(core.now + 595 * SECOND)
    core.dock(30, kl15=False)
    kinds = [
        type(effect)
        for effect in core.effects
        if isinstance(effect, Announce | Drain | CutPowerIn | RequestPower)
    ]
    assert kinds == [Announce, Drain, Announce, Drain, CutPowerIn, RequestPower]
    assert core.made(CutPowerIn) == [CutPowerIn(30)]
    assert core.made(RequestPower)[-1].verb is PowerVerb.POWER_OFF
    assert core.records(SHUTDOWN)[-1].as_dict()["rule"] == "power.max_time"
    assert core.made(Remember)[-1].what.shutdown_requested


def shutting_down() -> Core:
    core = parked()
    core.see(tablet(core, 10, -500))
    core.dock(10.2, kl15=False)
    assert mode(core) is SHUTTING_DOWN
    return core


def tablet(core: Core, percent: int | None, ma: int | None, *, external: bool | None = None) -> TabletPower:
    return TabletPower(core.now, external, percent, ma, 7600, 250)


def test_ignition_cancels_a_shutdown_up_to_the_point_of_no_return() -> None:
    core = shutting_down()
    core.see(tablet(core, 60, 500))
    core.dock(1)
    assert mode(core) is AWAKE
    assert core.made(RequestPower) == []
    assert core.made(Announce)[-1] == Announce("online")

    core = shutting_down()
    core.see(Drained(core.now, 3))
    assert mode(core) is POWERING_OFF
    core.dock(5)
    assert mode(core) is POWERING_OFF
    assert len(core.made(RequestPower)) == 1


def test_a_wire_that_says_on_holds_the_request_even_before_it_is_debounced() -> None:
    core = shutting_down()
    core.see(status(core.now, kl15=True))
    core.see(Drained(core.now, 0))
    assert core.made(RequestPower) == []
    core.dock(3, kl15=False)
    assert len(core.made(RequestPower)) == 1


def test_a_run_on_does_not_end_while_a_fresh_source_says_on() -> None:
    core = parked()
    core.dock(58.6, kl15=False)
    core.key(KeyPosition.ON)  # once, against the wire: it goes stale before the contradiction has settled
    core.dock(1.8, kl15=False)
    assert mode(core) is RUN_ON
    assert core.made(Announce) == []
    core.dock(1, kl15=False)
    assert core.made(Announce) == [Announce("sleeping")]


def on_against_the_key(core: Core, seconds: int) -> None:
    """The wire says on, CAN off: a contradiction, not yet long enough for a wire that is stuck."""
    for _ in range(seconds):
        core.key(KeyPosition.OFF)
        core.dock(1)


def test_no_run_on_goes_on_while_a_source_says_on_against_another() -> None:
    core = parked()
    core.dock(50, kl15=False)
    on_against_the_key(core, 5)
    assert mode(core) is AWAKE
    for _ in range(58):
        core.key(KeyPosition.OFF)
        core.dock(1, kl15=False)
    assert mode(core) is RUN_ON
    assert core.made(Announce) == []
    core.dock(10, kl15=False)
    assert core.made(Announce) == [Announce("sleeping")]


def test_a_gap_of_a_wire_that_said_on_against_another_neither_suspends_nor_powers_off() -> None:
    core = parked()
    core.dock(50, kl15=False)
    on_against_the_key(core, 590)
    for _ in range(4):  # the wire is silent
        core.key(KeyPosition.OFF)
        core.run(1)
    assert mode(core) is RUN_ON
    assert core.made(Announce) == []


def test_a_source_that_says_on_against_another_cancels_a_shutdown_once_that_has_settled() -> None:
    core = shutting_down()
    on_against_the_key(core, 5)
    assert mode(core) is AWAKE
    assert core.made(Announce)[-1] == Announce("online")


@pytest.mark.parametrize("how", ["outcome", "cancelled", "time"])
def test_a_power_off_that_fails_is_taken_back_and_tried_again(how: str) -> None:
    core = shutting_down()
    core.see(Drained(core.now, 0))
    match how:
        case "outcome":
            core.see(PowerOutcome(core.now, PowerVerb.POWER_OFF, ok=False, detail="refused"))
        case "cancelled":
            core.see(ShutdownSignal(core.now, starting=False))
        case "time":
            core.dock(91, kl15=False)
    assert mode(core) is RUN_ON
    assert core.made(CutPowerIn)[-1] == CutPowerIn(None)
    core.dock(59, kl15=False)
    assert len(core.made(RequestPower)) == 1
    core.dock(20, kl15=False)
    assert len(core.made(RequestPower)) == 2


def test_unknown_for_long_starts_a_run_on() -> None:
    core = Core(QUICK)
    core.start()
    core.run(119.9)
    assert mode(core) is AWAKE
    core.run(0.1)
    assert mode(core) is RUN_ON
    core.run(65)
    assert core.made(RequestPower)[0].verb is PowerVerb.SUSPEND


def test_unknown_but_charging_starts_none() -> None:
    core = Core(QUICK)
    core.start()
    core.dock(200, kl15=None, vehicle_mv=13_800)
    assert mode(core) is AWAKE


def test_ignition_on_never_shuts_down_and_stops_taking_vehicle_power() -> None:
    core = Core(QUICK).tethered()
    core.dock(120, vehicle_mv=11_000)
    assert core.made(Shed) == [Shed(True)]
    assert core.state.outputs.supply_enable is False
    core.see(tablet(core, 12, -900))
    core.dock(3600, vehicle_mv=11_000)
    assert core.made(RequestPower) == []
    assert mode(core) is AWAKE


def test_the_hard_floor_shuts_down_whatever_ignition_says() -> None:
    core = Core(QUICK).tethered()
    core.dock(120, vehicle_mv=11_000)
    core.see(tablet(core, 5, -900))
    core.dock(9)
    assert mode(core) is AWAKE
    core.dock(20)
    assert core.made(RequestPower)[-1].cause.rule == "power.hard_floor"
    assert core.state.outputs.supply_enable is True, "a tablet that is off must be able to charge"


@pytest.mark.parametrize(("percent", "ma", "external"), [(5, 100, None), (5, None, True), (None, -900, None)])
def test_no_floor_while_charging_or_unmeasured(
    percent: int | None, ma: int | None, external: bool | None
) -> None:
    core = Core(QUICK).tethered()
    core.see(tablet(core, percent, ma, external=external))
    core.dock(60)
    assert mode(core) is AWAKE


def test_low_voltage_sheds_first_and_then_powers_off() -> None:
    core = parked(replace(QUICK, power=replace(QUICK.power, run_on_s=6000, max_s=7000)))
    core.dock(75, kl15=False, vehicle_mv=11_800)
    assert core.made(Shed) == [Shed(True)]
    assert core.state.outputs.supply_enable is False, "a weak battery is left alone in a run-on too"
    core.dock(90, kl15=False, vehicle_mv=11_300)
    assert core.made(RequestPower)[-1].cause.rule == "power.low_voltage"
    assert core.state.outputs.supply_enable is True, "a tablet that is off must be able to charge"


def test_shedding_ends_on_running_or_plain_charging_only() -> None:
    core = Core(QUICK).tethered()
    core.dock(90, vehicle_mv=11_800)
    core.dock(120, vehicle_mv=13_000)
    assert core.made(Shed) == [Shed(True)]
    core.dock(80, vehicle_mv=13_500)
    assert core.made(Shed) == [Shed(True), Shed(False)]
    core.dock(120, vehicle_mv=11_800)
    for _ in range(10):
        core.rpm(800)
        core.dock(0.2, vehicle_mv=12_500)
    assert core.made(Shed)[-1] == Shed(False)
    assert core.made(DriveOutputs)[-1].supply_enable is True


def test_voltage_decides_nothing_within_a_crank_window() -> None:
    core = parked(replace(QUICK, power=replace(QUICK.power, act_s=5, filter_s=0, run_on_s=6000, max_s=7000)))
    for _ in range(10):
        core.key(KeyPosition.START)
        core.dock(1, kl15=False, vehicle_mv=8000)
    assert core.made(RequestPower) == []
    assert core.state.power.filtered_uv == 12_600_000


def test_a_short_dip_is_filtered_out() -> None:
    core = parked()
    core.dock(4, kl15=False, vehicle_mv=11_400)
    core.dock(40, kl15=False)
    assert core.made(Shed) == []


def test_a_power_sample_is_taken_at_most_every_period() -> None:
    core = Core(QUICK).tethered()
    core.dock(60)
    samples = core.records(POWER_SAMPLE)
    assert 5 <= len(samples) <= 7
    assert samples[0].as_dict()["vehicle_mv"] == 12_600


def test_the_engine_speed_in_a_sample_is_rounded() -> None:
    core = Core(QUICK)
    core.start()
    core.rpm(812)
    core.see(status(core.now))
    assert core.records(POWER_SAMPLE)[0].as_dict()["engine_rpm"] == 800


def test_a_restart_keeps_the_run_on_timer_and_the_latch_of_the_same_boot() -> None:
    core = parked()
    since = core.state.power.run_on_since
    words = last_words(core.state, core.now)
    core.restart(words)
    assert (mode(core), core.state.power.run_on_since) == (RUN_ON, since)
    core.restart(words, "another boot")
    assert (mode(core), core.state.power.run_on_since) == (AWAKE, None)

    core = shutting_down()
    core.see(Drained(core.now, 0))
    core.restart(last_words(core.state, core.now))
    assert mode(core) is POWERING_OFF
    core.effects.clear()
    core.dock(2)
    assert core.made(RequestPower) == []


def test_each_change_is_recorded_with_its_rule() -> None:
    core = Core(QUICK).tethered()
    core.dock(3, kl15=False)
    [record] = core.records(POWER_CHANGED)
    assert record.as_dict()["rule"] == "power.ignition_off"
    assert (record.as_dict()["before"], record.as_dict()["verdict"]) == ("awake", "run_on")


# --- locked for long ------------------------------------------------------------------------------

LOCKED_OFF = replace(QUICK, power=replace(QUICK.power, run_on_s=590, locked_off_s=120))


def taken_out(policy: Policy = LOCKED_OFF, **values: bool) -> Core:
    """Taken out of the dock, which goes on to say so."""
    core = Core(policy).tethered(**values)
    core.dock(0.2, seated=False, **values)
    assert not core.usable()
    core.effects.clear()
    return core


def test_a_tablet_that_stays_locked_powers_off_after_its_time_with_its_choreography() -> None:
    core = taken_out(kl15=False)
    core.run(119)
    assert core.made(Drain) == []
    core.run(1)
    assert mode(core) is SHUTTING_DOWN
    core.see(Drained(core.now, 0))
    [request] = core.made(RequestPower)
    assert (request.verb, request.cause.rule) == (PowerVerb.POWER_OFF, "power.locked_long")
    assert core.made(CutPowerIn) == [CutPowerIn(30)]


def test_by_default_a_locked_tablet_does_not_power_off_for_that() -> None:
    core = taken_out(replace(QUICK, power=replace(QUICK.power, run_on_s=3000, max_s=30_000)), kl15=False)
    core.run(2900)
    assert core.made(RequestPower) == []


def test_a_locked_tablet_does_not_power_off_while_a_fresh_source_says_on() -> None:
    core = taken_out()
    core.dock(200, seated=False)
    assert core.made(Drain) == []
    core.dock(4, seated=False, kl15=False)  # the key is turned off: now it may
    assert mode(core) is SHUTTING_DOWN


def test_a_tablet_put_back_is_not_powered_off_for_having_been_locked() -> None:
    core = taken_out(kl15=False)
    core.run(121)
    assert mode(core) is SHUTTING_DOWN
    core.proof()
    core.dock(1, kl15=False)
    assert core.usable()
    assert mode(core) is RUN_ON
    assert core.made(Announce)[-1] == Announce("online")
    core.run(20)
    assert core.made(RequestPower) == []


def test_the_time_locked_counts_without_a_break_and_from_an_agents_start() -> None:
    core = taken_out(kl15=False)
    core.run(100)
    core.proof()
    core.dock(1, kl15=False)
    core.dock(0.2, kl15=False, seated=False)
    core.run(100)
    assert core.made(Drain) == []
    core.restart(core.remembered)
    core.run(119)
    assert core.made(Drain) == []
    core.run(1)
    assert len(core.made(Drain)) == 1
