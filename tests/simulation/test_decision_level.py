"""The world at the level of decisions: what its tablet does that the core does not know of."""

from __future__ import annotations

from itertools import pairwise

import pytest

from agent.core.policy import Policy
from agent.core.types import (
    MINUTE,
    MS,
    SECOND,
    Basis,
    BootNs,
    Decision,
    DockStatus,
    Effect,
    Effects,
    KeyPosition,
    Lock,
    Observation,
    Release,
    Remembered,
    Started,
)
from simulator.compose_soak import core
from simulator.faults.knobs import Step
from simulator.tablet import Power, Tablet, TabletSpec
from simulator.vehicle import VehicleSpec
from simulator.virtual import events as ev
from simulator.virtual.decider import Core
from simulator.virtual.decisions import DecisionWorld
from simulator.virtual.reports import STATUS_NS, STEADY_NS


@pytest.fixture
def world() -> DecisionWorld:
    made = DecisionWorld(3, core(Policy()), VehicleSpec())
    made.events.subscribe(lambda event: None, ev.Observed)  # what nobody wants is not told
    made.run_until(BootNs(20 * SECOND))
    assert made.tablet.power is Power.ON
    return made


def runs(world: DecisionWorld) -> list[str]:
    seen: list[str] = []
    world.events.subscribe(lambda event: seen.append(getattr(event, "what", "")), ev.Agent)
    return seen


def test_a_cut_that_is_over_before_it_came_does_not_come(world: DecisionWorld) -> None:
    seen = runs(world)
    world.tablet.cut_power(1000, Step.WRITES)
    world.tablet.switch_on()
    world.turn_key(KeyPosition.ON)
    world.run_until(BootNs(30 * MINUTE))
    assert seen == []
    assert world.tablet.power is Power.ON


def test_a_cut_comes_although_somebody_turns_the_key(world: DecisionWorld) -> None:
    seen = runs(world)
    world.tablet.cut_power(20, Step.WRITES)
    world.turn_key(KeyPosition.ON)
    world.undock()
    world.seat()
    world.run_until(BootNs(30 * MINUTE))
    assert seen[:2] == ["cut", "started"] or seen == ["cut"]


def test_a_tablet_with_an_empty_battery_does_not_start_before_it_has_a_supply() -> None:
    world = DecisionWorld(3, core(Policy()), VehicleSpec())
    world.tablet.body = Tablet(world.now, TabletSpec(charge_permille=0))
    seen = runs(world)
    world.carry_away()
    world.run_until(BootNs(10 * SECOND))
    world.press_button()
    world.seat()
    world.run_until(BootNs(100 * SECOND))
    assert seen == ["started"]


def test_a_release_that_a_lock_of_the_same_step_overtook_is_not_carried_out() -> None:
    """As in the agent's loop: what tightens goes first, and what loosens must still be wanted."""
    why = Decision("tether", "x", "test", "for a test", BootNs(0))
    changes = (Lock(2, why), Release(1, why, Basis.OVERRIDE), Release(3, why, Basis.OVERRIDE))

    def step(state: None, observation: Observation, policy: None) -> tuple[None, Effects]:
        return None, changes if isinstance(observation, Started) else ()

    scripted = Core(
        None, lambda policy: None, step, lambda state, policy: None, lambda state, at: Remembered()
    )
    world = DecisionWorld(3, scripted, VehicleSpec())
    done: list[Effect] = []

    def see(event: ev.Event) -> None:
        if isinstance(event, ev.Effected):
            done.append(event.effect)

    world.events.subscribe(see, ev.Effected)
    world.run_until(BootNs(20 * SECOND))
    assert done == [changes[0], changes[2]]


def test_no_status_overtakes_another_when_the_line_becomes_quick_again(world: DecisionWorld) -> None:
    ages: list[int] = []

    def see(event: ev.Event) -> None:
        if isinstance(event, ev.Observed) and isinstance(event.observation, DockStatus):
            ages.append(event.observation.evidence_at)

    world.events.subscribe(see, ev.Observed)
    world.dockwire.delay_ns = 3 * SECOND
    world.run_until(BootNs(30 * SECOND))
    world.dockwire.delay_ns = 0
    world.run_until(BootNs(40 * SECOND))
    assert len(ages) > 60
    assert ages == sorted(ages)


def test_what_says_nothing_new_is_told_of_as_often_as_keeps_it_fresh(world: DecisionWorld) -> None:
    told: list[object] = []
    world.events.subscribe(lambda event: told.append(getattr(event, "observation", None)), ev.Observed)
    world.turn_key(KeyPosition.ON)
    world.run_until(BootNs(40 * SECOND))
    at = [each.at for each in told if isinstance(each, DockStatus)]
    assert max(b - a for a, b in pairwise(at)) <= STEADY_NS
    assert len(at) < 20 * SECOND // STATUS_NS // 2  # a dock says it five times a second


def test_evidence_is_no_older_for_what_was_left_out_when_the_line_goes(world: DecisionWorld) -> None:
    told: list[DockStatus] = []

    def keep(event: ev.Event) -> None:
        if isinstance(event, ev.Observed) and isinstance(event.observation, DockStatus):
            told.append(event.observation)

    world.events.subscribe(keep, ev.Observed)
    world.run_until(BootNs(30 * SECOND))
    while told[-1].at + STATUS_NS * 3 // 2 > world.tablet.boot_time():  # between two that are told
        world.run_until(BootNs(world.now + 10 * MS))
    before, now = told[-1], world.tablet.boot_time()
    world.carry_away()
    after = told[-1]
    assert after is not before
    assert now - STATUS_NS < after.at <= now
    assert after.seated is True  # that it is out nobody told any more
    assert after.evidence_at > before.evidence_at or after.at - after.evidence_at < SECOND // 2


def test_what_a_bad_line_lost_does_not_come_when_the_line_goes(world: DecisionWorld) -> None:
    """The last STATUS that came said that the tablet was seated; it is not in its seat any more."""
    world.dockwire.lose_permille = 1000
    world.undock()
    world.run_until(BootNs(world.now + SECOND))
    seen: list[ev.Event] = []
    world.events.subscribe(seen.append, ev.Observed)
    world.carry_away()
    world.run_until(BootNs(world.now + SECOND))
    assert not [
        each for each in seen if isinstance(each, ev.Observed) and isinstance(each.observation, DockStatus)
    ]
