"""Availability in the simulated world: the production agent counts a shift and ends a period at sleep."""

from __future__ import annotations

from functools import partial

from agent.core.types import SECOND, BootNs, KeyPosition
from simulator.compose_tablet import AgentRun
from simulator.compose_virtual import Options, World
from tests.virtual_shift import POLICY


def test_a_shift_with_an_undocking_is_counted_as_it_was() -> None:
    """Key on from 300 to 1200 s, undocked from 600 to 660: the share usable and its cause."""
    world = World(5, Options(POLICY))
    for at_s, act in [
        (300, partial(world.turn_key, KeyPosition.ON)),
        (305, world.log_in),
        (310, partial(world.crank, "bmw")),
        (600, world.undock),
        (660, world.seat),
        (662, world.log_in),
        (1200, world.pull_key),
    ]:
        world.at(BootNs(at_s * SECOND), partial(_do, act))
    try:
        world.run_until(BootNs(1260 * SECOND))
        run = world.tablet.run
        assert isinstance(run, AgentRun)
        told = run.life.availability.told_at(world.clock.boot())["since_start"]
        assert isinstance(told, dict)
        assert told["shifts"] == 1
        assert 890 <= told["shift_s"] <= 910
        assert 45 <= told["causes_s"]["unseated"] <= 70
        assert told["causes_s"].keys() <= {"unseated", "starting"}
        assert 90 <= told["usable_percent"] <= 95
        assert told["first_use_max_ms"] <= 5_000
        world.run_until(BootNs(2400 * SECOND))  # the run-on is over: the tablet has gone to sleep
        periods = run.life.availability.told()["periods"]
        assert isinstance(periods, list)
        assert [period["shifts"] for period in periods] == [1]
    finally:
        world.close()


def _do(act: partial[object] | object) -> None:
    assert callable(act)
    act()
