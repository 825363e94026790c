"""A shift in virtual time: what the production agent does, and that one seed makes one history."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.records import Stream
from agent.core.types import (
    MINUTE,
    MS,
    SECOND,
    BootNs,
    KeyPosition,
    Lock,
    Release,
    TabletPower,
)
from simulator.compose_virtual import Options, World
from simulator.faults.knobs import Behind, FaultyWorld, Step
from simulator.tablet import Power, TabletSpec
from simulator.virtual import events as ev
from simulator.virtual.acts import Lived
from tests.virtual_shift import POLICY, shift

ROOT = Path(__file__).parents[2]
PINNED = Path(__file__).with_name("virtual_shift.hash")
SEED = 1


class Log:
    """Events as they came, with questions about them."""

    def __init__(self) -> None:
        self.events: list[ev.Event] = []

    def times(self, *like: ev.Event) -> list[float]:
        """When each of these came first after the one before, in s; fails if one did not."""
        times, rest = [], iter(self.events)
        for wanted in like:
            found = next((event for event in rest if _like(event, wanted)), None)
            assert found is not None, f"nothing like {wanted}"
            times.append(found.at / SECOND)
        return times

    def effects(self, kind: type[Lock] | type[Release]) -> list[float]:
        return [
            event.at / SECOND
            for event in self.events
            if isinstance(event, ev.Effected) and isinstance(event.effect, kind)
        ]

    def records(self, name: str) -> int:
        return sum(
            record.kind.name == name
            for event in self.events
            if isinstance(event, ev.Attempted)
            for record in event.records
        )


def _like(event: ev.Event, wanted: ev.Event) -> bool:
    fields = [name for name in wanted.__dataclass_fields__ if name != "at"]
    return type(event) is type(wanted) and all(getattr(event, n) == getattr(wanted, n) for n in fields)


def at(seconds: float) -> BootNs:
    return BootNs(int(seconds * SECOND))


ANY = BootNs(0)


@pytest.fixture
def world() -> Iterator[World]:
    made = World(SEED, Options(POLICY))
    yield made
    made.close()


@pytest.fixture
def log(world: World) -> Log:
    made = Log()
    world.events.subscribe(made.events.append)
    return made


def in_use(world: World) -> None:
    """Booted, ignition on, proved, and the officer has logged in; it is a minute."""
    world.run_until(at(20))
    world.turn_key(KeyPosition.ON)
    world.run_until(at(30))
    world.log_in()
    world.run_until(at(60))
    assert world.tablet.usable


# --- one seed, one history ------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_history_also_on_another_python() -> None:
    here = shift(SEED)
    assert shift(SEED) == here
    others = _other_pythons()
    for python in others:
        run = [str(python), "-m", "tests.virtual_shift", str(SEED)]
        result = subprocess.run(
            run, capture_output=True, text=True, cwd=ROOT, timeout=100, env={"PYTHONHASHSEED": "7"}
        )
        assert (result.stdout.strip(), result.returncode) == (here, 0), f"{python}: {result.stderr}"
    if not others:
        assert here == PINNED.read_text().strip(), (
            f"the agent decides otherwise than before; if that is meant: python -m tests.virtual_shift {SEED}"
            f" > {PINNED.relative_to(ROOT)}"
        )


def _other_pythons() -> list[Path]:
    """Virtual environments beside ours, `.venv-3.13` for one, or named in IVMA_PYTHONS."""
    named = [Path(name) for name in os.environ.get("IVMA_PYTHONS", "").split(os.pathsep) if name]
    return [*named, *sorted(ROOT.glob(".venv-*/bin/python"))]


def test_another_seed_makes_another_history() -> None:
    assert shift(SEED) != shift(SEED + 1)


def test_what_watches_changes_nothing() -> None:
    seen: list[ev.Event] = []
    assert shift(SEED, seen.append) == shift(SEED)
    assert seen


# --- a shift ----------------------------------------------------------------------------------------------


def test_the_tablet_boots_proves_and_is_used(world: World, log: Log) -> None:
    in_use(world)
    locked, released = log.effects(Lock)[0], log.effects(Release)[0]
    assert 12 < locked < released < locked + 1
    log.times(
        ev.Power(ANY, "on"), ev.Agent(ANY, "started", 1), ev.LockState(ANY, False), ev.Usable(ANY, True)
    )


def test_a_tablet_that_is_taken_out_is_locked_at_once_and_open_again_for_its_officer(
    world: World, log: Log
) -> None:
    in_use(world)
    world.undock()
    world.run_until(at(70))
    assert log.times(ev.Act(ANY, "out"), ev.Usable(ANY, False))[1] < 60.25
    assert log.effects(Lock)[-1] < 60.1
    world.seat()
    world.run_until(at(80))
    assert not world.tablet.usable  # nobody has given a password yet
    world.log_in()
    world.run_until(at(90))
    assert world.tablet.usable


def test_a_session_that_is_opened_without_leave_is_locked_again(world: World, log: Log) -> None:
    in_use(world)
    world.undock()
    world.run_until(at(70))
    world.log_in()
    world.run_until(at(80))
    log.times(ev.Act(ANY, "out"), ev.Usable(ANY, False), ev.Usable(ANY, True), ev.Usable(ANY, False))
    assert log.records("enforcement.defied") >= 1


def test_run_on_ends_in_a_suspend_locked_and_ignition_wakes_it(world: World, log: Log) -> None:
    in_use(world)
    world.pull_key()
    world.run_until(at(1000))
    locked, slept = log.times(ev.LockState(ANY, True), ev.Power(ANY, "suspended"))
    assert 60 + 120 < locked < slept < 60 + 130
    world.turn_key(KeyPosition.ON)
    world.run_until(at(1010))
    world.log_in()
    world.run_until(at(1020))
    assert world.tablet.usable
    assert log.times(ev.Power(ANY, "suspended"), ev.Power(ANY, "on"), ev.Usable(ANY, True))[1] == 1000


def test_an_hour_after_the_key_an_awake_tablet_powers_off_and_the_dock_cuts_its_supply(
    world: World, log: Log
) -> None:
    in_use(world)
    world.pull_key()
    for minute in range(5, 70, 2):  # somebody keeps waking it
        world.at(at(60 * minute), world.press_button)
    world.run_until(at(60 * 60 + 58))
    world.run_until(at(60 * 64))
    log.times(ev.Power(ANY, "suspended"), ev.Agent(ANY, "stopped", 1), ev.Power(ANY, "off"))


def test_everything_that_was_committed_is_delivered(world: World, log: Log) -> None:
    in_use(world)
    world.network.cut = True
    world.undock()
    world.run_until(at(180))
    world.network.cut = False
    world.run_until(at(400))
    committed = {
        (stream, seq)
        for event in log.events
        if isinstance(event, ev.Committed)
        for stream, first, last in event.seqs
        for seq in range(first, last + 1)
    }
    delivered = {
        (event.stream, seq)
        for event in log.events
        if isinstance(event, ev.Delivered)
        for seq in range(event.first, event.last + 1)
    }
    assert len(committed) > 20
    assert {each for each in committed if each not in delivered} <= _latest(committed)


def _latest(committed: set[tuple[Stream, int]]) -> set[tuple[Stream, int]]:
    """What may still be on its way: the last of each stream."""
    return {(stream, max(seq for s, seq in committed if s is stream)) for stream, _ in committed}


# --- ends -------------------------------------------------------------------------------------------------


def test_a_killed_agent_is_started_again_and_nothing_of_the_old_one_runs(world: World, log: Log) -> None:
    in_use(world)
    world.tablet.kill_agent(1, Step.EFFECTS)
    world.undock()
    world.run_until(at(61))
    killed, started = log.times(ev.Agent(ANY, "killed", 1), ev.Agent(ANY, "started", 2))
    assert killed < started < killed + 1
    between = [
        event
        for event in log.events
        if isinstance(event, ev.Observed | ev.Effected) and killed < event.at / SECOND < started
    ]
    assert between == []
    assert not world.tablet.usable


def test_a_kill_that_waits_can_be_taken_back(world: World) -> None:
    in_use(world)
    world.tablet.kill_agent(1, Step.EFFECTS)
    world.tablet.spare_agent()
    world.undock()
    world.run_until(at(70))
    assert world.tablet.runs == 1


@pytest.mark.parametrize("step", Step)
def test_power_that_goes_in_the_middle_leaves_a_store_that_opens(world: World, log: Log, step: Step) -> None:
    in_use(world)
    world.tablet.cut_power(1, step)
    world.undock()
    world.run_until(at(80))
    assert world.tablet.power is Power.OFF
    world.seat()
    world.press_button()
    world.run_until(at(120))
    log.times(ev.Agent(ANY, "cut", 1), ev.Power(ANY, "off"), ev.Agent(ANY, "started", 2))
    started = [
        event.observation
        for event in log.events
        if isinstance(event, ev.Observed) and type(event.observation).__name__ == "Started"
    ]
    assert started[0].boot_id != started[1].boot_id  # type: ignore[attr-defined]  # named above


def test_a_tablet_whose_battery_runs_out_is_off(world: World, log: Log) -> None:
    in_use(world)
    world.carry_away()
    world.run_until(BootNs(30 * 60 * MINUTE))
    assert world.tablet.power is Power.OFF
    power = [
        event.observation
        for event in log.events
        if isinstance(event, ev.Observed) and isinstance(event.observation, TabletPower)
    ]
    assert power[-1].external is False


def test_a_battery_that_ran_out_just_before_the_supply_comes_ends_the_run_before_the_next(
    world: World, log: Log
) -> None:
    in_use(world)
    runs = world.tablet.runs
    world.tablet.body.power = Power.OFF  # as it does when its charge is gone, which nobody has looked at yet
    world.tablet.supply_changed(there=True)
    world.run_until(BootNs(world.now + 60 * SECOND))
    power = [event.state for event in log.events if isinstance(event, ev.Power)]
    assert power[-2:] == ["off", "on"]
    assert world.tablet.runs == runs + 1


def test_numbers_of_changes_never_go_back_when_the_memory_cannot_be_read(world: World, log: Log) -> None:
    in_use(world)
    before = max(event.effect.decision for event in log.events if _changes(event))  # type: ignore[attr-defined]
    world.disk.read_only = True
    world.tablet.cut_power(0, Step.EFFECTS)
    world.run_until(at(70))
    del log.events[:]
    world.press_button()
    world.run_until(at(100))
    world.disk.read_only = False
    world.undock()
    world.run_until(at(110))
    after = [event.effect.decision for event in log.events if _changes(event)]  # type: ignore[attr-defined]
    assert after == sorted(after)
    assert before < after[0] < after[-1] < 2**53


def _changes(event: ev.Event) -> bool:
    return isinstance(event, ev.Effected) and isinstance(event.effect, Lock | Release)


def test_a_tablet_with_an_empty_battery_does_not_start_before_it_has_a_supply() -> None:
    world = World(SEED, Options(POLICY, tablet=TabletSpec(charge_permille=0)))
    world.carry_away()
    world.run_until(at(10))
    world.press_button()
    world.run_until(at(100))
    assert (world.tablet.power, world.tablet.runs) == (Power.OFF, 0)
    world.seat()
    world.run_until(at(200))
    assert (world.tablet.power, world.tablet.runs) == (Power.ON, 1)
    world.close()


# --- wires ------------------------------------------------------------------------------------------------


def test_it_conforms_to_what_lives_and_faults_do_to_it(world: World) -> None:
    lived: Lived = world
    faulty: FaultyWorld = world
    assert lived
    assert faulty


@pytest.mark.parametrize("behind", Behind)
def test_only_its_own_dock_keeps_a_tablet_usable(world: World, behind: Behind) -> None:
    in_use(world)
    world.dockwire.plug(behind, after_bytes=20)
    world.run_until(at(80))
    assert not world.tablet.usable
    world.dockwire.plug(None)
    world.run_until(at(85))
    world.log_in()
    world.run_until(at(90))
    assert world.tablet.usable


def test_a_line_that_does_all_that_a_line_can_do_does_not_keep_the_link_from_coming_back(
    world: World,
) -> None:
    in_use(world)
    wire = world.dockwire
    wire.lose_permille, wire.flip_permille, wire.split_bytes = 10, 10, 7
    wire.merge_ns, wire.delay_ns = 30 * MS, 40 * MS
    wire.duplicate_permille = wire.replay_permille = 200
    world.run_until(at(120))
    wire.lose_permille = wire.flip_permille = wire.split_bytes = 0
    wire.merge_ns = wire.delay_ns = wire.duplicate_permille = wire.replay_permille = 0
    world.run_until(at(130))
    world.log_in()
    world.run_until(at(140))
    assert world.tablet.usable


def test_a_bus_that_is_off_silent_frozen_or_shared_does_not_end_the_world(world: World, log: Log) -> None:
    in_use(world)
    can = world.canwire
    for name in ("bus_off", "silent", "frozen"):
        setattr(can, name, True)
        world.run_until(BootNs(world.now + 10 * SECOND))
        setattr(can, name, False)
        world.run_until(BootNs(world.now + 20 * SECOND))
    can.foreign_period_ns = 10 * MS
    world.run_until(BootNs(world.now + 10 * SECOND))
    states = [
        event.observation.state.value
        for event in log.events
        if isinstance(event, ev.Observed) and hasattr(event.observation, "state")
    ]
    assert states[-4:] == ["down", "active", "silent", "active"]


def test_a_wall_clock_that_jumps_is_told_and_changes_nothing_else(world: World) -> None:
    in_use(world)
    before = world.clock.wall_ns()
    world.clock.step_wall(-3600 * SECOND)
    assert world.clock.wall_ns() == before - 3600 * SECOND
    assert world.clock.boot() == world.now
