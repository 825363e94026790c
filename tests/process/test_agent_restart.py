"""A run of the daemon and the next one: what rides through a restart, what locks, and what is recorded."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.core.types import KeyPosition
from simulator.compose_bench import Options, Rig
from tests.agent_rig import docked, until_status
from tests.aio import looped
from tests.system import need

# Use without proof is refilled after a second, as little rides through as may be, and nothing goes to sleep.
POLICY: Mapping[str, Any] = {
    "tether": {"refill_after_s": 1, "ride_through_ms": 1500},
    "power": {"run_on_s": 600, "max_s": 900},
}


def rig(folder: Path, *, guard: bool = True, **policy: Any) -> Rig:
    need("dbus-daemon")
    return Rig(folder, Options(policy={**POLICY, **policy}, guard=guard))


async def back(it: Rig) -> None:
    """The agent has been started and answers."""
    await it.agent.start()
    await it.until(lambda: it.control.connected, 20, "the control socket")


async def events(it: Rig) -> list[dict[str, Any]]:
    """The newest records of this run, those of its start too."""
    answer = await it.control.ask("events", last=200)
    found: list[dict[str, Any]] = answer["events"]
    return found


def store_takes(it: Rig, most: int) -> None:
    """Bytes that a file of the agent may have from now on: a full disk, for this process alone."""
    _, hard = resource.prlimit(it.agent.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(it.agent.pid, resource.RLIMIT_FSIZE, (most, hard))


@looped
async def test_an_orderly_restart_in_the_dock_does_not_lock(tmp_path: Path) -> None:
    # Python takes a while to start on a busy machine; the default of the field is 4 s.
    async with rig(tmp_path, tether={"refill_after_s": 1, "ride_through_ms": 8000}) as it:
        await docked(it)
        locks = list(it.system.lock_times)
        await it.agent.stop()
        await back(it)
        assert it.system.session == "unlocked"
        await it.until_seen(10, tether="tethered", posture="usable", session="unlocked")
        assert it.system.lock_times == locks
        kinds = [event["kind"] for event in await events(it)]
        assert "agent.started" in kinds
        assert "enforcement.changed" not in kinds


@pytest.mark.slow
@looped
async def test_a_kill_while_tethered_locks_at_the_start_and_has_its_record(tmp_path: Path) -> None:
    """The last committed evidence is old by then: without a guard nobody knows what happened meanwhile."""
    async with rig(tmp_path, guard=False) as it:
        await docked(it)
        # What is remembered was committed when the ride-through was refilled, a second after the proof.
        await until_status(it, lambda status: status["tether"]["since_ms_ago"] > 3000)
        locks = len(it.system.lock_times)
        await it.agent.kill()
        await back(it)
        await it.until(lambda: len(it.system.lock_times) > locks, 5, "a lock")
        changed = [e["fields"] for e in await events(it) if e["kind"] == "enforcement.changed"]
        assert (changed[0]["posture"], changed[0]["rule"]) == ("locked", "tether.restart")
        await it.until_seen(10, tether="tethered", posture="usable", session="locked")


@looped
async def test_a_lock_that_a_kill_kept_from_its_commit_is_recorded_by_the_next_run(tmp_path: Path) -> None:
    """And stands: what the store remembers from before it does not ride through."""
    async with rig(
        tmp_path, tether={"refill_after_s": 1, "ride_through_ms": 30_000, "crank_ride_through_ms": 30_000}
    ) as it:
        await docked(it)
        marker = it.layout.runtime / "lock-pending.json"
        store_takes(it, 4096)
        it.undock()
        await it.until_seen(5, posture="locked", session="locked")
        assert marker.exists()
        await it.agent.kill()
        it.world.unplug()
        await back(it)
        recovered = [e["fields"] for e in await events(it) if e["kind"] == "enforcement.recovered"]
        assert [fields["rule"] for fields in recovered] == ["tether.unseated"]
        await it.until_seen(5, tether="restricted", posture="locked")
        it.world.plug()
        it.world.seat(seated=True)
        await it.until_seen(10, tether="tethered", posture="usable")
        assert not marker.exists()
        assert (await it.settle()).hold


@looped
async def test_a_full_disk_stops_no_lock_and_no_return_and_what_it_kept_back_is_delivered(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as it:
        await docked(it)
        store_takes(it, 4096)
        it.undock()
        await it.until_seen(5, posture="locked", session="locked")
        assert it.undock_to_lock_ms()[0] < 1000
        it.world.seat(seated=True)
        await it.until_seen(10, tether="tethered", posture="usable")
        store_takes(it, resource.RLIM_INFINITY)
        accounts = await it.settle()
        assert accounts.hold, accounts


@pytest.mark.slow
@looped
async def test_kills_of_agent_broker_and_depot_in_mid_flow_lose_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path, power={"run_on_s": 600, "max_s": 900, "sample_s": 1}) as it:
        await docked(it)
        for kill in ("agent", "broker", "depot"):
            it.world.vehicle.turn_key(KeyPosition.ON)
            it.undock()
            match kill:
                case "agent":
                    await it.agent.kill()
                    await back(it)
                case "broker":
                    await it.kill_broker()
                case "depot":
                    await it.kill_depot()
            it.world.vehicle.pull_key()
            await it.until_seen(10, session="locked")
            it.world.seat(seated=True)
            await it.until_seen(10, tether="tethered", posture="usable")
            it.system.unlock()
        accounts = await it.settle(40)
        assert accounts.hold, accounts
        assert it.can_frames_transmitted == 0
