"""The chain of actions, its plug-ins, and the console action."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Mapping

import pytest

from agent.core.types import (
    Basis,
    BootNs,
    Decision,
    Lock,
    LockOutcome,
    Observation,
    PowerVerb,
    Release,
    ShutdownSignal,
    SleepSignal,
)
from agent.enforcement.base import EnforcementAction, Outcome, SettingsError, Surroundings
from agent.enforcement.chain import Chain
from agent.enforcement.console import ConsoleAction
from agent.enforcement.logind import LogindAction
from agent.power_console import ConsolePower
from tests.aio import looped

CAUSE = Decision("tether", "restricted", "tether.unseated", "taken out", BootNs(5))


def no_bus() -> object:
    raise AssertionError("an action that needs no bus must not open one")


class Seen(list[Observation]):
    """Observations as they come, with a way to wait for the next."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def __call__(self, observation: Observation) -> None:
        self.append(observation)
        self._more.set()

    async def reach(self, n: int) -> None:
        async with asyncio.timeout(5):
            while len(self) < n:
                self._more.clear()
                await self._more.wait()


def around(observe: Seen) -> Surroundings:
    return Surroundings(observe, lambda: BootNs(1000), no_bus)  # type: ignore[arg-type]  # never called


class SiteAction(EnforcementAction):
    """A fleet's own action that fails in the way asked for."""

    name = "site"

    def __init__(self, settings: Mapping[str, object], around: Surroundings) -> None:
        self._fails = settings.get("fails")

    def lock(self, order: Lock) -> Awaitable[Outcome]:
        if self._fails == "at once":
            raise OSError("no relay")
        return self._later()

    async def _later(self) -> Outcome:
        raise OSError("relay stuck")

    def release(self, order: Release) -> None:
        raise OSError("no relay")


@pytest.mark.parametrize(("fails", "words"), [("at once", "no relay"), ("later", "relay stuck")])
def test_an_action_that_fails_keeps_no_other_from_locking(fails: str, words: str) -> None:
    @looped
    async def check() -> None:
        seen, out = Seen(), io.StringIO()
        chain = Chain(
            [SiteAction({"fails": fails}, around(seen)), ConsoleAction({}, around(seen), out)],
            seen,
            lambda: BootNs(2000),
        )
        chain.lock(Lock(3, CAUSE))
        await seen.reach(2)
        outcomes = {o.action: o for o in seen if isinstance(o, LockOutcome)}
        assert not outcomes["site"].ok
        assert words in outcomes["site"].detail
        assert outcomes["console"].ok
        chain.release(Release(4, CAUSE, Basis.PROOF))
        assert [json.loads(line)["enforcement"] for line in out.getvalue().splitlines()] == [
            "lock",
            "release",
        ]
        await chain.close()

    check()


@looped
async def test_the_console_prints_one_line_for_each_change() -> None:
    seen, out = Seen(), io.StringIO()
    chain = Chain([ConsoleAction({}, around(seen), out)], seen, lambda: BootNs(2000))
    chain.lock(Lock(3, CAUSE))
    expected = {"enforcement": "lock", "decision": 3, "rule": "tether.unseated", "boot_ns": 1000}
    assert json.loads(out.getvalue()) == expected
    await seen.reach(1)
    assert seen == [LockOutcome(BootNs(2000), 3, "console", True, 0, "printed")]
    await chain.close()


def test_settings_are_checked_and_named() -> None:
    seen = Seen()
    with pytest.raises(SettingsError, match=r"enforcement\.console: takes no settings, not colour"):
        ConsoleAction({"colour": "red"}, around(seen))
    for key, value in (("verify_ms", 5), ("verify_ms", "x"), ("terminate", 1), ("exempt", "root"), ("x", 1)):
        with pytest.raises(SettingsError, match=key):
            LogindAction({key: value}, around(seen))


@looped
async def test_console_power_waits_to_be_allowed_and_resumes_by_signal() -> None:
    seen, out = Seen(), io.StringIO()
    power = ConsolePower(seen, lambda: BootNs(7), out)
    power.request(PowerVerb.SUSPEND)
    assert SleepSignal(BootNs(7), True) in seen
    assert out.getvalue() == ""
    power.allow_sleep()
    assert json.loads(out.getvalue()) == {"power": "suspend", "boot_ns": 7}
    power.resumed()
    power.resumed()
    assert seen.count(SleepSignal(BootNs(7), False)) == 1
    power.request(PowerVerb.POWER_OFF)
    assert ShutdownSignal(BootNs(7), True) in seen
    power.allow_sleep()
    assert json.loads(out.getvalue().splitlines()[-1])["power"] == "power_off"
    await power.close()
