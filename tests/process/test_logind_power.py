"""Suspend and power-off by logind on a private bus, with the delay held while it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent.core.types import PowerOutcome, PowerVerb, ShutdownSignal, SleepSignal
from agent.power_actions import LogindPower
from agent.wake_alarm import WakeAlarm
from tests.aio import looped
from tests.logind_rig import Rig, logind_rig


@contextlib.asynccontextmanager
async def power(folder: Path, *, delay_max_s: float = 5.0) -> AsyncIterator[tuple[Rig, LogindPower]]:
    async with logind_rig(folder, delay_max_s=delay_max_s) as rig:
        actions = LogindPower(rig.around, WakeAlarm())
        await rig.connect()
        await actions.start()
        await rig.until(lambda: rig.logind.inhibited("sleep") and rig.logind.inhibited("shutdown"))
        try:
            yield rig, actions
        finally:
            await actions.close()


@looped
async def test_the_machine_sleeps_only_once_we_allow_it(tmp_path: Path) -> None:
    async with power(tmp_path) as (rig, actions):
        actions.request(PowerVerb.SUSPEND)
        await rig.until(lambda: rig.of(SleepSignal) and rig.of(PowerOutcome))
        assert rig.of(SleepSignal)[0].starting
        assert rig.of(PowerOutcome)[0].ok
        assert rig.powered == []
        actions.allow_sleep()
        await rig.until(lambda: rig.powered == ["suspend"])


@looped
async def test_the_delay_is_taken_again_after_the_resume(tmp_path: Path) -> None:
    async with power(tmp_path) as (rig, actions):
        rig.logind.prepare("suspend")  # somebody closed the lid
        await rig.until(lambda: rig.of(SleepSignal))
        actions.allow_sleep()
        await rig.until(lambda: rig.powered)
        assert not rig.logind.inhibited("sleep")
        rig.logind.resume()
        await rig.until(lambda: rig.logind.inhibited("sleep"))
        assert [signal.starting for signal in rig.of(SleepSignal)] == [True, False]


@looped
async def test_power_off_is_announced_and_delayed_as_well(tmp_path: Path) -> None:
    async with power(tmp_path) as (rig, actions):
        actions.request(PowerVerb.POWER_OFF)
        await rig.until(lambda: rig.of(ShutdownSignal))
        assert rig.powered == []
        actions.allow_sleep()
        await rig.until(lambda: rig.powered == ["power_off"])


@looped
async def test_a_delay_that_we_keep_too_long_ends_without_us(tmp_path: Path) -> None:
    async with power(tmp_path, delay_max_s=0.05) as (rig, actions):
        actions.request(PowerVerb.POWER_OFF)
        await rig.until(lambda: rig.powered == ["power_off"])


@looped
async def test_a_refusal_is_an_outcome_with_its_reason(tmp_path: Path) -> None:
    async with power(tmp_path) as (rig, actions):
        rig.logind.refuse["Suspend"] = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
        actions.request(PowerVerb.SUSPEND)
        await rig.until(lambda: rig.of(PowerOutcome))
        (outcome,) = rig.of(PowerOutcome)
        assert (outcome.verb, outcome.ok) == (PowerVerb.SUSPEND, False)
        assert "InteractiveAuthorizationRequired" in outcome.detail


@looped
async def test_the_delay_is_taken_again_when_logind_restarts(tmp_path: Path) -> None:
    async with power(tmp_path) as (rig, _actions):
        await rig.logind.stop()
        assert not rig.logind.inhibited("sleep")
        await rig.logind.start()
        await rig.until(lambda: rig.logind.inhibited("sleep"))


@looped
async def test_closing_lets_the_machine_go(tmp_path: Path) -> None:
    async with power(tmp_path) as (rig, actions):
        await actions.close()
        rig.logind.prepare("suspend")
        await rig.until(lambda: rig.powered == ["suspend"])
