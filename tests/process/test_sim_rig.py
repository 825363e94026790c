"""The rig of real processes: whatever is pulled, killed or cut, the tablet's records reach the depot."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.types import KeyPosition
from simulator.compose_bench import Options, Rig
from tests.aio import looped
from tests.system import need

pytestmark = pytest.mark.slow


def options() -> Options:
    need("mosquitto")
    return Options(broker="mosquitto", dbus=False, policy={"tether": {"refill_after_s": 1}})


@looped
async def test_sigkill_of_agent_broker_and_depot_loses_nothing(tmp_path: Path) -> None:
    async with Rig(tmp_path, options()) as rig:
        rig.world.vehicle.turn_key(KeyPosition.ON)
        await rig.until_seen(tether="tethered", ignition="on", fleet="online")
        for _ in range(3):
            rig.undock()
            await rig.until_seen(session="locked")
            rig.world.seat(seated=True)
            await rig.agent.kill()
            await rig.agent.start()
            await rig.until_seen(tether="tethered", posture="usable")
        await rig.kill_depot()
        rig.undock()
        await rig.kill_broker()
        await rig.until_seen(posture="locked")
        accounts = await rig.settle(60)
        assert accounts.hold, accounts
        assert rig.can_frames_transmitted == 0
        assert len(rig.undock_to_lock_ms()) == 4


@looped
async def test_a_foreign_dock_a_pulled_cable_and_noise_end_in_the_right_states(tmp_path: Path) -> None:
    async with Rig(tmp_path, options()) as rig:
        rig.world.vehicle.turn_key(KeyPosition.ON)
        await rig.until_seen(tether="tethered", ignition="on")
        await rig.world.noise(1_000_000)
        await rig.until_seen(tether="tethered", posture="usable")
        rig.world.plug(foreign=True)
        await rig.until_seen(15, tether="foreign", posture="locked", session="locked")
        rig.world.plug()
        await rig.until_seen(15, tether="tethered", posture="usable")
        rig.world.unplug()
        await rig.until_seen(15, tether="restricted", posture="locked", link="down")
        assert rig.agent.running


@looped
async def test_what_a_stalled_network_holds_back_arrives_when_it_heals(tmp_path: Path) -> None:
    async with Rig(tmp_path, options()) as rig:
        rig.world.vehicle.turn_key(KeyPosition.ON)
        await rig.until_seen(tether="tethered", ignition="on", queue="empty")
        rig.network.stall()
        rig.undock()
        await rig.until_seen(posture="locked", queue="waiting")
        await rig.network.heal()
        await rig.until_seen(30, queue="empty", fleet="online")
