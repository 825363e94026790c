"""The alarm of a sleep: within the energy budget, never for a weak battery, taken back with the sleep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.core.catalogue import WOKE
from agent.core.policy import Policy, PowerPolicy, TetherPolicy, problems
from agent.core.power_alarm import needs_uj
from agent.core.power_energy import WH_UJ
from agent.core.state import PowerMode
from agent.core.types import SECOND, BootNs, Drained, SleepSignal, WakeAt
from tests.core_driver import Core

HOURLY = PowerPolicy(
    run_on_s=60, max_s=20_000, budget_wh=1000, wake_sync_s=3600, model_asleep_mw=3000, model_awake_mw=12_000
)


def asleep(power: PowerPolicy = HOURLY, **values: Any) -> Core:
    """A tablet whose run-on is over: it asks for its suspend."""
    core = Core(Policy(tether=TetherPolicy(refill_after_s=2), power=power)).tethered()
    core.dock(power.run_on_s + 3, **{"kl15": False, **values})
    core.see(Drained(core.now, 0))
    assert core.state.power.mode is PowerMode.SLEEPING
    return core


def mode(core: Core) -> str:
    return core.state.power.mode.value


def alarms(core: Core) -> list[BootNs | None]:
    return [effect.at for effect in core.made(WakeAt)]


def sleep(core: Core, seconds: int) -> None:
    core.see(SleepSignal(core.now, True))
    core.now = BootNs(core.now + seconds * SECOND)
    core.see(SleepSignal(core.now, False, "interrupt 8 (rtc0)"))


def test_a_tablet_that_sleeps_wakes_to_sync_and_sleeps_again() -> None:
    core = asleep()
    [first] = alarms(core)
    assert first is not None
    assert 3595 * SECOND <= first - core.now <= 3600 * SECOND
    sleep(core, 3600)
    [record] = core.records(WOKE)
    assert record.as_dict()["reason"] == "alarm for a scheduled sync; interrupt 8 (rtc0)"
    assert mode(core) == "run_on"
    core.dock(70, kl15=False)
    assert mode(core) == "sleeping"
    [_, taken_back, second] = alarms(core)
    assert taken_back is None
    assert second is not None
    assert second > core.now + 3500 * SECOND


def test_without_a_schedule_there_is_no_alarm() -> None:
    assert alarms(asleep(replace(HOURLY, wake_sync_s=0))) == []


def test_an_earlier_wake_takes_the_alarm_back_and_is_not_told_as_its_doing() -> None:
    core = asleep()
    sleep(core, 600)
    assert alarms(core)[-1] is None
    assert core.records(WOKE)[0].as_dict()["reason"] == "interrupt 8 (rtc0)"


def test_an_alarm_that_the_budget_does_not_afford_is_not_set() -> None:
    hour = needs_uj(3600 * SECOND, HOURLY)
    assert hour == (3 * 3600 + 12 * 75) * 1_000_000
    enough = -(-hour // WH_UJ)  # 3.25 Wh, and 0.2 Wh of the run-on
    assert alarms(asleep(replace(HOURLY, budget_wh=enough))) != []
    assert alarms(asleep(replace(HOURLY, budget_wh=enough - 1))) == []


def test_what_was_taken_is_counted_over_the_sleeps_until_no_more_alarm_is_afforded() -> None:
    budget = 8
    core = asleep(replace(HOURLY, budget_wh=budget))
    for _ in range(10):
        if alarms(core)[-1] is None or core.state.power.mode is not PowerMode.SLEEPING:
            break
        sleep(core, 3600)
        core.dock(70, kl15=False)
    assert [at is not None for at in alarms(core)] == [True, False, True, False]
    assert core.state.power.mode is PowerMode.SLEEPING
    assert core.state.power.spent_uj <= budget * WH_UJ


def test_the_alarm_comes_at_the_maximum_time_at_the_latest_and_the_tablet_powers_off() -> None:
    core = asleep(replace(HOURLY, max_s=1800))
    [at] = alarms(core)
    since = core.state.power.run_on_since
    assert since is not None
    assert at == since + 1800 * SECOND
    sleep(core, 1800)
    core.dock(80, kl15=False)
    assert core.state.power.decision.rule in ("power.max_time", "power.power_off_now")


@pytest.mark.parametrize("weak", [{"vehicle_mv": 11_900}, {"vehicle_mv": 11_980, "temperature_dc": -100}])
def test_a_weak_battery_is_left_alone(weak: dict[str, Any]) -> None:
    assert alarms(asleep(**weak)) == []


def test_a_schedule_that_lets_it_hardly_sleep_is_refused() -> None:
    found = problems(Policy(power=replace(HOURLY, wake_sync_s=60)))
    assert any("wake_sync_s" in words for words in found)
    assert problems(Policy(power=HOURLY)) == []
