"""A parked tablet that wakes by the hardware clock's alarm, in both worlds, within its energy budget."""

from __future__ import annotations

import contextlib
from typing import Any

from agent.core.catalogue import WOKE
from agent.core.policy import Policy, PowerPolicy
from agent.core.types import MINUTE, SECOND, BootNs, KeyPosition
from simulator.compose_soak import core
from simulator.compose_virtual import Options, World
from simulator.tablet import Power
from simulator.vehicle import VehicleSpec
from simulator.virtual import events as ev
from simulator.virtual.decisions import DecisionWorld

HOUR_S = 3600


def policy(budget_wh: int) -> Policy:
    """Asleep it takes 1 W from the vehicle, by the model: 1.25 Wh an hour with the wake."""
    return Policy(
        power=PowerPolicy(
            run_on_s=60, max_s=100 * HOUR_S, budget_wh=budget_wh, wake_sync_s=HOUR_S, model_asleep_mw=1000
        )
    )


def parked(world: DecisionWorld | World, hours: int) -> tuple[list[str], list[tuple[int, str]]]:
    """Reasons of waking, and changes of power, of a vehicle that drove a minute and stands."""
    reasons: list[str] = []
    powers: list[tuple[int, str]] = []

    def committed(event: Any) -> None:
        reasons.extend(record.as_dict()["reason"] for record in event.records if record.kind is WOKE)

    def changed(event: Any) -> None:
        powers.append((event.at, event.state))

    world.events.subscribe(committed, ev.Attempted)
    world.events.subscribe(changed, ev.Power)
    world.run_until(BootNs(20 * SECOND))
    world.turn_key(KeyPosition.ON)
    world.run_until(BootNs(MINUTE))
    world.pull_key()
    world.run_until(BootNs(hours * 60 * MINUTE))
    return reasons, powers


def test_a_long_park_is_woken_every_hour_while_the_budget_affords_it() -> None:
    world = DecisionWorld(3, core(policy(budget_wh=5)), VehicleSpec())
    reasons, powers = parked(world, 12)
    assert 1 <= len(reasons) <= 4
    assert all(reason.startswith("alarm for a scheduled sync") for reason in reasons)
    assert powers[-1][1] == "suspended"
    assert world.tablet.power is Power.SUSPENDED


def test_a_budget_for_no_sleep_sets_no_alarm() -> None:
    world = DecisionWorld(3, core(policy(budget_wh=1)), VehicleSpec())
    reasons, _ = parked(world, 5)
    assert reasons == []
    assert world.tablet.power is Power.SUSPENDED


def test_the_whole_agent_is_woken_by_its_alarm_and_sleeps_again() -> None:
    with contextlib.closing(World(3, Options(policy=policy(budget_wh=20)))) as world:
        reasons, powers = parked(world, 2)
        assert len(reasons) == 1
        assert reasons[0].startswith("alarm for a scheduled sync")
        assert world.tablet.power is Power.SUSPENDED
        assert [what for _, what in powers][-3:] == ["suspended", "on", "suspended"]
