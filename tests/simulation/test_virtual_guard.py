"""The guard in the virtual world: the agent dies, hangs and comes back, and so does the guard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.core.policy import Policy, TetherPolicy
from agent.core.types import SECOND, BootNs, KeyPosition
from simulator.compose_virtual import Options, World
from simulator.faults.knobs import Step
from simulator.virtual import events as ev

POLICY = Policy(tether=TetherPolicy(refill_after_s=20))
IN_USE = 120  # s: docked, the budget is full, the officer has logged in


class Watched:
    """A world in use, and what was seen of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.locks: list[float] = []
        self.records: list[tuple[str, dict[str, object]]] = []
        world.events.subscribe(self._see, ev.LockState, ev.Attempted)
        world.at(BootNs(20 * SECOND), lambda: world.turn_key(KeyPosition.ON))
        world.at(BootNs(40 * SECOND), world.log_in)
        self.run(IN_USE)
        assert world.tablet.usable
        self.locks.clear()
        self.records.clear()

    def run(self, until_s: float) -> None:
        self.world.run_until(BootNs(int(until_s * SECOND)))

    def of(self, kind: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.records if name == kind]

    def _see(self, event: ev.Event) -> None:
        if isinstance(event, ev.LockState) and event.locked:
            self.locks.append(event.at / SECOND)
        elif isinstance(event, ev.Attempted):
            self.records += [(record.kind.name, dict(record.as_dict())) for record in event.records]


@pytest.fixture
def it() -> Iterator[Watched]:
    world = World(3, replace(Options(), policy=POLICY))
    yield Watched(world)
    world.close()


def test_an_agent_that_is_killed_and_back_within_its_lease_locks_nothing(it: Watched) -> None:
    for at in range(IN_USE + 10, IN_USE + 100, 30):
        it.run(at)
        it.world.tablet.kill_agent(0, Step.EFFECTS)
    it.run(IN_USE + 130)
    assert it.locks == []
    assert it.world.tablet.runs == 4
    assert it.of("enforcement.changed") == it.of("enforcement.recovered") == []


def test_an_agent_that_is_stopped_is_locked_out_in_time_and_has_it_recorded(it: Watched) -> None:
    it.world.tablet.stop_agent()
    it.run(IN_USE + 20)
    (locked,) = it.locks
    assert locked - IN_USE < POLICY.tether.ride_through_ms / 1000 + 1
    it.world.tablet.go_on_agent()
    it.run(IN_USE + 30)
    changed = it.of("enforcement.changed")
    assert [fields["posture"] for fields in changed] == ["locked", "usable"]
    assert not it.world.tablet.usable, "the officer authenticates"
    it.world.log_in()
    it.run(IN_USE + 60)
    assert it.world.tablet.usable


def test_a_session_that_is_opened_while_the_agent_is_stopped_is_locked_again(it: Watched) -> None:
    it.world.tablet.stop_agent()
    for at in (10, 13, 16):
        it.run(IN_USE + at)
        it.world.log_in()
    it.run(IN_USE + 20)
    assert len(it.locks) == 4
    assert not it.world.tablet.usable


def test_a_guard_that_is_gone_for_long_is_recorded_and_locks_nothing_when_it_is_back(it: Watched) -> None:
    it.world.tablet.guard_down = True
    it.run(IN_USE + 60)
    it.world.tablet.guard_down = False
    it.run(IN_USE + 90)
    assert [fields["present"] for fields in it.of("guard.changed")] == [False, True]
    assert it.locks == []


def test_a_lease_that_ran_out_in_a_sleep_locks_as_soon_as_the_tablet_wakes(it: Watched) -> None:
    it.world.tablet.stop_agent()
    it.run(IN_USE + 1)
    it.world.tablet.suspend()  # logind waits 5 s for the agent's inhibitor, in vain
    it.world.tablet.guard_down = True  # and nobody locks before it
    it.run(IN_USE + 600)
    assert it.locks == []
    it.world.tablet.guard_down = False
    it.world.press_button()
    it.run(IN_USE + 603)
    assert len(it.locks) == 1


def test_a_record_of_the_guards_lock_is_made_by_the_next_run(it: Watched) -> None:
    it.world.tablet.stop_agent()
    it.run(IN_USE + 10)
    assert len(it.locks) == 1
    it.world.tablet.kill_agent(0, Step.EFFECTS)
    it.run(IN_USE + 40)
    (recovered,) = it.of("enforcement.recovered")
    assert recovered["rule"] == "guard.lease_ran_out"
    postures = [fields["posture"] for fields in it.of("enforcement.changed")]
    assert postures == ["usable"], "seated all the while"
