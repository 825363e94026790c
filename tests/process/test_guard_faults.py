"""Whatever befalls the agent, the guard locks soon after the lease's end; a mere restart locks nothing."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from agent.guard.posture import Posture
from simulator.compose_bench import Rig
from tests.agent_rig import docked, until_status
from tests.aio import looped
from tests.guard_rig import LIMIT_S, PATIENCE_S, Fault, guarded, leased, shown, strike

# Python takes a while to start on a busy machine; the default of the field is 4 s.
PATIENT = {"refill_after_s": 1, "ride_through_ms": 30_000, "crank_ride_through_ms": 30_000}


async def back(it: Rig) -> None:
    await it.agent.start()
    await it.until(lambda: it.control.connected, PATIENCE_S, "the control socket")


async def kinds(it: Rig, kind: str) -> list[dict[str, Any]]:
    answer = await it.control.ask("events", last=200)
    return [event["fields"] for event in answer["events"] if event["kind"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
@looped
async def test_the_tablet_is_locked_within_three_seconds_of_the_end_of_the_lease(
    tmp_path: Path, fault: Fault
) -> None:
    async with guarded(tmp_path) as it:
        struck = await strike(it, fault)
        assert struck.locked_s < LIMIT_S


@looped
async def test_a_lock_of_the_guard_is_recorded_once_by_the_next_run_and_stands(tmp_path: Path) -> None:
    async with guarded(tmp_path) as it:
        await strike(it, Fault.KILL)
        # The session is locked first, then the file says so.
        await it.until(lambda: (seen := shown(it)) is not None and not seen.usable, 5, "the posture: locked")
        posture = shown(it)
        assert posture is not None
        assert posture.lapsed is not None
        it.world.unplug()
        await back(it)
        await it.until_seen(10, tether="restricted", posture="locked", session="locked")
        recovered = await kinds(it, "enforcement.recovered")
        assert [(f["decision"], f["rule"]) for f in recovered] == [
            (posture.lapsed + 1, "guard.lease_ran_out")
        ]
        assert await kinds(it, "enforcement.changed") == []
        await it.until(lambda: (shown(it) or posture).lapsed is None, 5, "the guard to be told")
        await it.agent.stop()
        await back(it)
        assert await kinds(it, "enforcement.recovered") == []
        it.world.plug()
        await it.until_seen(10, tether="tethered", posture="usable")
        assert (await it.settle()).hold


@looped
async def test_a_kill_and_a_start_within_the_lease_lock_nothing_and_lose_nothing(tmp_path: Path) -> None:
    async with guarded(tmp_path, tether=PATIENT) as it:
        await docked(it)
        # What is remembered was committed when the ride-through was refilled: only the guard knows better.
        await until_status(it, lambda status: status["tether"]["since_ms_ago"] > 3000)
        locks = list(it.system.lock_times)
        await leased(it)
        await it.agent.kill()
        await back(it)
        await it.until_seen(10, tether="tethered", posture="usable", session="unlocked")
        assert it.system.lock_times == locks
        assert await kinds(it, "enforcement.changed") == []
        assert await kinds(it, "guard.changed") == []
        assert (await it.settle()).hold


@looped
async def test_an_upgrade_while_driving_locks_nothing(tmp_path: Path) -> None:
    """The agent, then the guard, are stopped in order and started anew, again and again."""
    async with guarded(tmp_path, tether=PATIENT) as it:
        await docked(it)
        locks = list(it.system.lock_times)
        assert it.guard is not None
        for _ in range(2):
            await it.agent.stop()
            await back(it)
            await it.until_seen(10, tether="tethered", posture="usable", session="unlocked")
            await it.guard.stop()
            await it.guard.start()
            await until_status(it, lambda status: bool(status["guard"]["present"]))
            await leased(it)
        assert it.system.session == "unlocked"
        assert it.system.lock_times == locks
        assert (await it.settle()).hold


@looped
async def test_a_guard_that_dies_is_noticed_and_recorded_and_so_is_its_return(tmp_path: Path) -> None:
    async with guarded(tmp_path, lease={"unguarded_s": 2}) as it:
        await docked(it)
        assert it.guard is not None
        await it.guard.kill()
        await until_status(it, lambda status: not status["guard"]["present"])
        await it.until_seen(10, posture="locked", session="locked")
        await it.guard.start()
        await it.until_seen(10, posture="usable")
        await leased(it)
        assert [f["present"] for f in await kinds(it, "guard.changed")] == [False, True]
        changed = [(f["posture"], f["rule"]) for f in await kinds(it, "enforcement.changed")]
        assert changed[-2:] == [("locked", "guard.missing"), ("usable", "tether.proven")]


@looped
async def test_a_guard_that_hangs_is_noticed(tmp_path: Path) -> None:
    async with guarded(tmp_path) as it:
        await docked(it)
        assert it.guard is not None
        it.guard.signal(signal.SIGSTOP)
        await until_status(it, lambda status: not status["guard"]["present"])
        it.guard.signal(signal.SIGCONT)
        await until_status(it, lambda status: bool(status["guard"]["present"]))
        await leased(it)
        assert it.system.session == "unlocked"


@looped
async def test_a_session_that_is_unlocked_while_there_is_no_agent_is_locked_again(tmp_path: Path) -> None:
    async with guarded(tmp_path) as it:
        await strike(it, Fault.KILL)
        for _ in range(3):
            it.system.unlock()
            assert it.system.session == "unlocked"
            await it.until_seen(LIMIT_S, session="locked")


@looped
async def test_an_agent_that_was_stopped_and_goes_on_finds_itself_locked(tmp_path: Path) -> None:
    async with guarded(tmp_path) as it:
        await strike(it, Fault.STOP)
        before = (shown(it) or Posture(True, "")).decision
        it.agent.signal(signal.SIGCONT)
        await until_status(it, lambda status: status["enforcement"]["decision"] > before)
        await until_status(it, lambda status: status["tether"]["posture"] == "usable")
        assert it.system.session == "locked", "the officer authenticates"
        changed = [f["posture"] for f in await kinds(it, "enforcement.changed")]
        assert changed[-2:] == ["locked", "usable"]
        await leased(it)
        it.system.unlock()
        assert (await it.settle()).hold


@looped
async def test_without_an_agent_and_without_a_configuration_a_session_is_locked(tmp_path: Path) -> None:
    """As after a boot with an agent that refuses its configuration: nobody opens the tablet."""
    async with guarded(tmp_path) as it:
        await it.until(lambda: it.control.connected, PATIENCE_S, "the tablet to have booted")
        await it.agent.kill()
        assert it.guard is not None
        await it.guard.kill()
        (it.layout.guard / "posture").unlink(missing_ok=True)
        it.system.unlock()
        await it.guard.start()
        await it.until_seen(LIMIT_S + 2, session="locked")
        posture = shown(it)
        assert posture is not None
        assert not posture.usable
