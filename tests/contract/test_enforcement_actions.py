"""What every enforcement action of the registry keeps to; a new one is here by its entry point."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from pathlib import Path

import pytest

from agent.core.types import Basis, BootNs, Decision, Lock, LockOutcome, Observation, Release
from agent.dbus import Bus
from agent.enforcement.base import EnforcementAction, Outcome, SettingsError, Surroundings
from agent.enforcement.chain import Chain
from drivers import registry
from tests.aio import looped
from tests.logind_rig import boot_now

ROOT = Path(__file__).parents[2]
ACTIONS = registry.names(registry.ENFORCEMENT)
# Settings with which an action has its outcome soon; every other action has to be quick without.
QUICK = {"logind": {"verify_ms": 50}, "network": {"delay_s": 0, "verify_ms": 100}}
LEAVE_S = 90.0

every_action = pytest.mark.parametrize("name", ACTIONS)


class Bench:
    """An action with a bus that nobody serves."""

    def __init__(self, name: str, folder: Path, **settings: object) -> None:
        self.seen: list[Observation] = []
        self.buses: list[Bus] = []
        self._folder = folder
        make = registry.load(registry.ENFORCEMENT, name)
        assert isinstance(make, type)
        assert issubclass(make, EnforcementAction)
        around = Surroundings(self.seen.append, boot_now, self._bus, folder)
        self.action = make(settings or QUICK.get(name, {}), around)

    def _bus(self) -> Bus:
        self.buses.append(Bus(lambda: 0.5, f"unix:path={self._folder}/none"))
        return self.buses[-1]


def lock(number: int) -> Lock:
    return Lock(number, Decision("tether", "restricted", "tether.unseated", "taken out", boot_now()))


def release(number: int) -> Release:
    return Release(number, Decision("tether", "tethered", "tether.proven", "back", boot_now()), Basis.PROOF)


async def outcome_of(awaitable: Awaitable[Outcome]) -> Outcome:
    async with asyncio.timeout(LEAVE_S):
        return await awaitable


def test_what_the_documents_name_is_registered() -> None:
    assert set(ACTIONS) >= {"logind", "console", "hooks", "network"}


@every_action
def test_an_action_has_its_name_its_words_and_its_row_in_the_documents(name: str, tmp_path: Path) -> None:
    action = Bench(name, tmp_path).action
    assert action.name == name
    assert type(action).__doc__
    assert f"\n| `{name}` | " in (ROOT / "docs/operating.md").read_text(), "say what it does and its settings"


@every_action
def test_unknown_settings_are_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"enforcement\.{name}\b.*nonesuch"):
        Bench(name, tmp_path, nonesuch=1)


@every_action
def test_to_make_one_touches_nothing(name: str, tmp_path: Path) -> None:
    bench = Bench(name, tmp_path)  # outside any loop
    assert [bus.connected for bus in bench.buses] == [False] * len(bench.buses)
    assert list(tmp_path.iterdir()) == []


@every_action
def test_a_lock_has_an_outcome_also_when_nothing_answers(name: str, tmp_path: Path) -> None:
    @looped
    async def check() -> None:
        bench = Bench(name, tmp_path)
        await bench.action.start()
        before = boot_now()
        outcome = await outcome_of(bench.action.lock(lock(1)))
        assert 0 <= outcome.took_ns <= boot_now() - before
        assert outcome.detail
        assert not outcome.ok or not bench.buses, "nobody was there who could have locked"
        json.dumps(bench.action.status())
        await bench.action.close()

    check()


@every_action
def test_a_lock_comes_at_once_and_a_newer_one_takes_its_place(name: str, tmp_path: Path) -> None:
    @looped
    async def check() -> None:
        bench = Bench(name, tmp_path)
        chain = Chain([bench.action], bench.seen.append, boot_now)
        await chain.start()
        for number in (1, 2, 2):
            chain.lock(lock(number))
        async with asyncio.timeout(LEAVE_S):
            while len(found := [o.decision for o in bench.seen if isinstance(o, LockOutcome)]) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert sorted(found) == [1, 2, 2]
        await chain.close()

    check()


@every_action
def test_a_release_without_a_lock_and_a_second_close_harm_nothing(name: str, tmp_path: Path) -> None:
    @looped
    async def check() -> None:
        bench = Bench(name, tmp_path)
        await bench.action.start()
        bench.action.release(release(1))
        bench.action.release(release(1))
        await bench.action.close()
        await bench.action.close()

    check()


@every_action
def test_a_close_in_the_middle_leaves_nothing_running(name: str, tmp_path: Path) -> None:
    @looped
    async def check() -> None:
        bench = Bench(name, tmp_path)
        await bench.action.start()
        chain = Chain([bench.action], bench.seen.append, lambda: BootNs(0))
        chain.lock(lock(1))
        await chain.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    check()
