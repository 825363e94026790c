"""The chain of actions, its plug-ins, and the console action."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Mapping
from pathlib import Path

import pytest

from agent.__main__ import main
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
from agent.enforcement.hooks import HooksAction
from agent.enforcement.logind import LogindAction
from agent.enforcement.network import NetworkAction
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
    return Surroundings(observe, lambda: BootNs(1000), no_bus, Path())  # type: ignore[arg-type]  # never called


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
    wrong: list[tuple[type[EnforcementAction], str, object]] = [
        (LogindAction, "verify_ms", 5), (LogindAction, "verify_ms", "x"), (LogindAction, "terminate", 1),
        (LogindAction, "exempt", "root"), (LogindAction, "x", 1), (LogindAction, "terminate_after", True),
        (LogindAction, "terminate_after", 101),
        (HooksAction, "on_lock", "x"), (HooksAction, "on_lock", [["relay"]]), (HooksAction, "on_lock", [[]]),
        (HooksAction, "on_release", [["/bin/x", 1]]), (HooksAction, "on_lock", [["/bin/x"]] * 9),
        (HooksAction, "on_lock", [["/bin/x\0"]]), (HooksAction, "limit_ms", 99),
        (HooksAction, "limit_ms", True),
        (NetworkAction, "off", []), (NetworkAction, "off", "wifi"), (NetworkAction, "off", ["lan"]),
        (NetworkAction, "delay_s", -1), (NetworkAction, "verify_ms", 5),
    ]  # fmt: skip
    for make, key, value in wrong:
        with pytest.raises(SettingsError, match=rf"enforcement\.{make.name}.*{key}"):
            make({key: value}, around(seen))


def test_check_config_names_an_action_whose_settings_are_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "agent.toml"
    head = '[device]\nfleet = "f"\nname = "t"\n[enforcement]\nactions = ["console", "hooks", "sirens"]\n'
    file.write_text(f'{head}[enforcement.settings.hooks]\non_lock = [["relay"]]\n')
    assert main(["check-config", str(file)]) == 78
    said = capsys.readouterr().err
    assert "enforcement.hooks.on_lock[0]: expected a list of words that begins with an absolute path" in said
    assert "`sirens` is not registered in ivma.enforcement" in said


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
