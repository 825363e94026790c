"""Lives: in order of time, consistent, bounded, at home at the end; the physics can follow them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.types import BootNs, KeyPosition
from simulator.electrics import Supply
from simulator.vehicle import Engine, Vehicle, VehicleSpec
from simulator.virtual.acts import Act, Verb
from simulator.virtual.bare import BareVehicle, NoTablet
from simulator.virtual.lives import BUSY, DAY, HOUR, QUIET, Habits, draw, draw_habits, draw_vehicle

MOST_ACTS_A_DAY = 1_500  # ours: over twice what the busiest of 300 lives had
SEEDS = st.integers(0, 100_000)
DAYS = st.integers(1, 21)


class StrictWorld:
    """Real physics of the vehicle, and the rules of the rest: what cannot be done is an error."""

    def __init__(self, spec: VehicleSpec | None = None) -> None:
        self.vehicle = Vehicle(BootNs(0), spec)
        self.tablet = "seated"
        self.is_connected = self.has_coverage = True
        self.seen: Counter[str] = Counter()

    def live(self, acts: tuple[Act, ...]) -> None:
        for act in acts:
            self.vehicle.advance(BootNs(act.at_ns))
            act.do(self)
            self.seen[act.verb.value] += 1

    def turn_key(self, position: KeyPosition) -> None:
        assert self.is_connected
        assert position in (KeyPosition.ACCESSORY, KeyPosition.ON)
        assert self.vehicle.engine is Engine.OFF or (position is KeyPosition.ON and not self.vehicle.key_in)
        self.vehicle.turn_key(position)

    def pull_key(self, *, run_lock: bool = False) -> None:
        assert self.vehicle.key_in
        assert self.vehicle.engine is Engine.RUNNING or not run_lock
        assert self.vehicle.speed_dkmh == 0
        self.vehicle.pull_key(run_lock=run_lock)
        assert self.vehicle.kl15 is run_lock

    def crank(self, profile: str = "iso-1") -> None:
        assert self.vehicle.key is KeyPosition.ON
        assert self.vehicle.engine is Engine.OFF
        assert self.vehicle.charger is None
        battery = self.vehicle.battery
        battery.charge_mas = battery.capacity_mas  # a life takes for granted that engines start
        self.vehicle.crank(profile)

    def alternator(self, *, works: bool) -> None:
        raise AssertionError("in scenes only")

    def load_dump(self) -> None:
        raise AssertionError("in scenes only")

    def stop_start(self, *, stopped: bool) -> None:
        assert self.vehicle.engine is (Engine.RUNNING if stopped else Engine.STOPPED)
        assert self.vehicle.speed_dkmh == 0
        self.vehicle.stop_start(stopped=stopped)

    def drive(self, speed_dkmh: int) -> None:
        assert self.vehicle.engine is Engine.RUNNING
        assert self.vehicle.key_in
        assert self.vehicle.charger is None
        assert 0 <= speed_dkmh <= 2_000
        self.vehicle.drive(speed_dkmh)

    def blue_lights(self, ma: int) -> None:
        assert self.vehicle.kl15
        assert (self.vehicle.blue_lights_ma == 0) is (ma > 0)
        self.vehicle.blue_lights_ma = ma

    def charger(self, supply: Supply | None) -> None:
        assert (self.vehicle.charger is None) is (supply is not None)
        assert not self.vehicle.kl15
        self.vehicle.charger = supply

    def connect_battery(self, *, connected: bool) -> None:
        assert connected is not self.is_connected
        assert not self.vehicle.kl15
        assert self.vehicle.charger is None
        self.is_connected = connected

    def undock(self) -> None:
        self._move("unseated", "seated")

    def carry_away(self) -> None:
        self._move("away", "seated", "unseated", "foreign")

    def seat(self) -> None:
        self._move("seated", "unseated", "away")

    def seat_foreign(self) -> None:
        self._move("foreign", "away")

    def _move(self, to: str, *places: str) -> None:
        assert self.tablet in places
        self.tablet = to

    def press_button(self) -> None:
        """Possible anywhere and at any time."""

    def log_in(self) -> None:
        """Possible anywhere and at any time."""

    def coverage(self, *, there: bool) -> None:
        assert there is not self.has_coverage
        self.has_coverage = there

    def assert_is_at_home(self) -> None:
        vehicle = self.vehicle
        assert (vehicle.key, vehicle.key_in, vehicle.engine) == (KeyPosition.OFF, False, Engine.OFF)
        assert (vehicle.blue_lights_ma, vehicle.charger) == (0, None)
        assert (self.tablet, self.is_connected, self.has_coverage) == ("seated", True, True)


def lives() -> Iterator[tuple[Act, ...]]:
    for seed in range(12):
        rng = random.Random(seed)
        yield draw(rng, 14, draw_habits(rng))


@settings(max_examples=25, deadline=None)
@given(SEEDS, DAYS, st.integers(0, 6))
def test_a_life_is_in_order_consistent_bounded_and_ends_at_home(seed: int, days: int, weekday: int) -> None:
    rng = random.Random(seed)
    habits = draw_habits(rng)
    acts = draw(rng, days, habits, weekday)
    times = [act.at_ns for act in acts]
    assert times == sorted(times)
    assert all(0 <= at <= days * DAY for at in times)
    assert len(acts) <= days * MOST_ACTS_A_DAY
    world = StrictWorld(draw_vehicle(rng))
    world.live(acts)
    world.assert_is_at_home()


@settings(max_examples=20, deadline=None)
@given(SEEDS, DAYS)
def test_the_same_seed_is_the_same_life(seed: int, days: int) -> None:
    one, other = random.Random(seed), random.Random(seed)
    assert draw(one, days, draw_habits(one)) == draw(other, days, draw_habits(other))


def test_every_act_is_done_by_somebody_and_every_engine_starts() -> None:
    seen: Counter[str] = Counter()
    for acts in lives():
        world = StrictWorld()
        world.live(acts)
        seen += world.seen
    assert seen.keys() == {verb.value for verb in Verb} - {Verb.ALTERNATOR.value, Verb.LOAD_DUMP.value}


def test_a_busy_day_has_ten_hours_and_a_quiet_week_almost_none() -> None:
    for seed in range(20):
        busy = draw(random.Random(seed), 1, BUSY)
        used = [act.at_ns for act in busy if act.verb is not Verb.COVERAGE]
        assert 8 * HOUR <= used[-1] - used[0] <= 11.5 * HOUR
        quiet = draw(random.Random(seed), 7, QUIET)
        assert len(quiet) < len(busy)
    assert any(act.verb is Verb.CRANK for seed in range(20) for act in draw(random.Random(seed), 7, QUIET))


def test_weekends_are_different() -> None:
    habits = replace(BUSY, weekend_shift=0, short_trips=0, outages_a_day=0)
    days = {act.at_ns // DAY for act in draw(random.Random(1), 14, habits, first_weekday=0)}
    assert days == {0, 1, 2, 3, 4, 7, 8, 9, 10, 11}
    days = {act.at_ns // DAY for act in draw(random.Random(1), 7, habits, first_weekday=5)}
    assert days == {2, 3, 4, 5, 6}


def test_a_vehicle_may_stand_for_weeks() -> None:
    habits = Habits(long_park=1000, long_park_days=30)
    for seed in range(20):
        acts = draw(random.Random(seed), 60, habits)
        assert {act.verb for act in acts} <= {Verb.CHARGER, Verb.COVERAGE}


def test_a_thief_is_never_seated_and_the_tablet_comes_back() -> None:
    habits = replace(BUSY, theft=1000, on_foot=0)
    moves = [
        act.verb
        for act in draw(random.Random(2), 30, habits)
        if act.verb in (Verb.UNDOCK, Verb.CARRY_AWAY, Verb.SEAT, Verb.SEAT_FOREIGN)
    ]
    # Once a shift, but for a time that lies in its last trip.
    assert 25 <= moves.count(Verb.SEAT) <= 30
    assert Verb.SEAT_FOREIGN in moves


@pytest.mark.parametrize("field", [field.name for field in fields(Habits)])
def test_habits_have_bounds(field: str) -> None:
    for value in ("kick",) if field == "crank" else (-1, 1001):
        changes: dict[str, Any] = {field: value}
        with pytest.raises(ValueError, match=field):
            Habits(**changes)


def test_a_life_has_a_day() -> None:
    with pytest.raises(ValueError, match="at least one day, not 0"):
        draw(random.Random(1), 0, BUSY)


def test_an_act_reads_well_and_knows_what_it_can_be_done_with() -> None:
    assert str(Act(1_500_000_000, Verb.KEY, KeyPosition.ON)) == "       1.500 s  key on"
    assert str(Act(0, Verb.UNDOCK)) == "       0.000 s  undock"
    for verb, value in ((Verb.KEY, "on"), (Verb.UNDOCK, True), (Verb.CRANK, None)):
        with pytest.raises(ValueError, match=verb.value):
            Act(0, verb, value).do(StrictWorld())


def test_most_drawn_vehicles_start_all_week_without_a_tablet() -> None:
    failed = []
    for seed in range(20):
        rng = random.Random(seed)
        bare = BareVehicle(seed, draw_vehicle(rng), NoTablet())
        bare.live(draw(rng, 7, Habits()), BootNs(7 * DAY))
        failed.append(bare.vehicle.failed_starts > 0)
    assert sum(failed) <= 4
