"""Lives: what people do over days, as a list of timed acts drawn from one seed.

Pure. A life is consistent by itself: nobody drives an engine that stands, or takes out a tablet that is out.
It ends at home: parked, key out, tablet in its dock, in coverage. Faults (``simulator.faults``) lie over it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from agent.core.types import MINUTE, MS, SECOND, KeyPosition
from simulator.electrics import (
    AGM_OCV,
    CRANKS,
    FLOODED_OCV,
    PLAIN_ALTERNATOR,
    SMART_ALTERNATOR,
    BatterySpec,
)
from simulator.vehicle import VehicleSpec
from simulator.virtual.acts import Act, Value, Verb

HOUR = 60 * MINUTE
DAY = 24 * HOUR
WORKSHOP = 5 * HOUR  # at most
HOME_BY = HOUR  # before its end: whatever is begun is over an hour after it was to be


@dataclass(frozen=True, slots=True)
class Habits:
    """How a vehicle is used. All figures are ours; chances are per mille."""

    shift_begins_h: int = 7  # of the day; a shift may pass midnight
    shift_h: int = 10
    day_off: int = 100  # a weekday without a shift
    weekend_shift: int = 300
    short_trips: int = 300  # a day without a shift has a few short trips
    workshop: int = 30  # a day in the workshop instead
    long_park: int = 20  # from here on it stands for days
    long_park_days: int = 10  # at most
    theft: int = 15  # in a shift: somebody takes the tablet
    on_foot: int = 150  # the officer takes the tablet out, of what is done in a shift
    run_lock: int = 150  # of trips that end with the engine running
    stop_start: int = 300  # of stops on the way; 0: the vehicle has none
    failed_crank: int = 50
    crank: str = "iso-1"
    outages_a_day: int = 4  # without coverage

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name != "crank"):
            value, (least, most) = getattr(self, name), _LIMITS.get(name, (0, 1000))
            if not least <= value <= most:
                raise ValueError(f"{name} is a whole number from {least} to {most}, not {value!r}")
        if self.crank not in CRANKS:
            raise ValueError(f"crank is one of {[*CRANKS]}, not {self.crank!r}")


_LIMITS = {"shift_begins_h": (0, 23), "shift_h": (1, 14), "long_park_days": (2, 40), "outages_a_day": (0, 50)}

BUSY = Habits(day_off=0, weekend_shift=1000, workshop=0, long_park=0)
QUIET = Habits(day_off=1000, weekend_shift=0, short_trips=150, workshop=0, outages_a_day=1)


def draw_habits(rng: random.Random) -> Habits:
    """Some vehicle's habits; each is in the range that a fleet has, some are extreme."""
    return Habits(
        shift_begins_h=rng.choice((5, 7, 14, 18)),
        shift_h=rng.randint(6, 12),
        day_off=rng.randint(0, 300),
        weekend_shift=rng.choice((0, 300, 1000)),
        workshop=rng.choice((0, 30, 200)),
        long_park=rng.choice((0, 20, 100)),
        theft=rng.choice((0, 15, 200)),
        on_foot=rng.choice((0, 150, 400)),
        stop_start=rng.choice((0, 300, 800)),
        failed_crank=rng.choice((0, 50, 500)),
        crank=rng.choice([*CRANKS]),
        outages_a_day=rng.choice((0, 4, 20)),
    )


def draw_vehicle(rng: random.Random) -> VehicleSpec:
    """Some vehicle: its battery, its alternator, what it draws. Ranges are ours."""
    spec = VehicleSpec(
        battery=BatterySpec(
            capacity_mah=rng.choice((60_000, 70_000, 95_000)),
            ocv=rng.choice((FLOODED_OCV, AGM_OCV)),
            temperature_c=rng.choice((-15, 0, 10, 25, 35)),
        ),
        alternator=rng.choice((PLAIN_ALTERNATOR, SMART_ALTERNATOR)),
        charge_permille=rng.randint(650, 1000),
        idle_rpm=rng.randint(650, 950),
        parasitic_ma=rng.randint(20, 85),  # facts: 50 mA traditionally, 75 to 85 mA modern
    )
    aged = replace(spec.battery, health_permille=rng.choice((1000, 850, 700)))
    return replace(spec, battery=aged, charge_guard=rng.random() < 0.3)


def draw(rng: random.Random, days: int, habits: Habits, first_weekday: int = 0) -> tuple[Act, ...]:
    """A life of ``days``, in order of time; ``first_weekday`` as in ``date.weekday``, 0 is Monday."""
    if days < 1:
        raise ValueError(f"a life has at least one day, not {days}")
    outages = list(_outages(rng, days, habits))
    people = _People(rng, habits, end=days * DAY - HOME_BY)
    day = 0
    while day < days:
        weekend = (first_weekday + day) % 7 >= 5
        day += people.live_a_day(day * DAY, habits.weekend_shift if weekend else 1000 - habits.day_off)
    return tuple(sorted([*people.acts, *outages], key=lambda act: act.at_ns))


def _outages(rng: random.Random, days: int, habits: Habits) -> Iterator[Act]:
    """Out of coverage: a minute in a car park, hours in a valley."""
    now = 0
    while habits.outages_a_day:
        now += rng.randrange(MINUTE, 2 * DAY // habits.outages_a_day)
        back = now + rng.choice((MINUTE, 10 * MINUTE, 3 * HOUR)) * rng.randint(50, 100) // 100
        if back > days * DAY - HOME_BY:
            return
        yield Act(now, Verb.COVERAGE, False)
        yield Act(back, Verb.COVERAGE, True)
        now = back


class _People:
    """Writes acts one after the other; between two methods the vehicle is parked, its tablet docked."""

    def __init__(self, rng: random.Random, habits: Habits, end: int) -> None:
        self.acts: list[Act] = []
        self._now = 0
        self._end = end
        self._until = 0  # of the shift: nothing is begun after it
        self._rng = rng
        self._habits = habits

    def live_a_day(self, midnight: int, shift: int) -> int:
        """What happens from then on, with that chance of a shift. Returns how many days it took."""
        begin = midnight + self._habits.shift_begins_h * HOUR + self._between(0, 20 * MINUTE)
        self._now = max(begin, self._now + HOUR)
        self._until = min(self._now + self._habits.shift_h * HOUR, self._end)
        left = self._until - self._now
        if left < HOUR:
            return 1
        if self._chance(self._habits.long_park):
            return self._park(self._between(2, self._habits.long_park_days))
        if left >= WORKSHOP and self._chance(self._habits.workshop):
            self._workshop()
        elif self._chance(shift):
            self._shift()
        elif self._chance(self._habits.short_trips):
            self._short_trips()
        return 1

    def _chance(self, permille: int) -> bool:
        return self._rng.randrange(1000) < permille

    def _between(self, least: int, most: int) -> int:
        return self._rng.randint(least, most)

    def _wait(self, least: int, most: int) -> None:
        self._now += self._between(least, most)

    def _do(self, verb: Verb, value: Value = None) -> None:
        self.acts.append(Act(self._now, verb, value))

    # --- whole days -----------------------------------------------------------------------------------

    def _shift(self) -> None:
        stolen_at = self._between(self._now, self._until) if self._chance(self._habits.theft) else None
        while self._now < self._until:
            if stolen_at is not None and self._now >= stolen_at:
                self._theft()
                stolen_at = None
            elif self._chance(self._habits.on_foot):
                self._on_foot()
            elif self._chance(200):
                self._sit()
            else:
                self._trip(legs=8)
            self._wait(10 * SECOND, self._rng.choice((MINUTE, 10 * MINUTE, 30 * MINUTE)))

    def _short_trips(self) -> None:
        for _ in range(self._between(1, 3)):
            if self._now < self._until:
                self._trip(legs=2)
                self._wait(MINUTE, HOUR)

    def _park(self, days: int) -> int:
        """Left for days, at times on a charger."""
        until = min(self._now + days * DAY - 12 * HOUR, self._end)
        if self._chance(500):
            self._do(Verb.CHARGER, True)
            self._now = until
            self._do(Verb.CHARGER, False)
        self._now = until
        return days

    def _workshop(self) -> None:
        """Ignition on and off without a start, the tablet in and out, the battery off, then a start."""
        for _ in range(self._between(2, 6)):
            self._do(Verb.KEY, self._rng.choice((KeyPosition.ACCESSORY, KeyPosition.ON)))
            self._wait(SECOND, 5 * MINUTE)
            self._do(Verb.PULL_KEY)
            self._wait(SECOND, 5 * MINUTE)
            if self._chance(300):
                self._on_foot()
                self._wait(SECOND, MINUTE)
        self._do(Verb.BATTERY, False)
        self._wait(MINUTE, HOUR)
        self._do(Verb.BATTERY, True)
        self._wait(MINUTE, 10 * MINUTE)
        self._do(Verb.CHARGER, True)
        self._wait(10 * MINUTE, HOUR)
        self._do(Verb.CHARGER, False)
        self._wait(SECOND, MINUTE)
        self._trip(legs=1)

    # --- parts of a day -------------------------------------------------------------------------------

    def _trip(self, legs: int) -> None:
        self._start()
        for _ in range(self._between(1, legs)):
            if self._now < self._until:
                self._leg()
        if self._chance(self._habits.run_lock):
            self._do(Verb.RUN_LOCK)
            self._wait(10 * SECOND, 10 * MINUTE)
            self._do(Verb.KEY, KeyPosition.ON)
            self._wait(SECOND, MINUTE)
        self._do(Verb.PULL_KEY)

    def _start(self) -> None:
        """Get in, turn the key, start the engine, log in."""
        if self._chance(300):
            self._do(Verb.KEY, KeyPosition.ACCESSORY)
            self._wait(SECOND, 30 * SECOND)
        self._do(Verb.KEY, KeyPosition.ON)
        self._wait(SECOND // 2, 20 * SECOND)
        if self._chance(self._habits.failed_crank):
            self._do(Verb.CRANK, self._habits.crank)
            self._wait(50 * MS, 500 * MS)
            self._do(Verb.PULL_KEY)
            self._wait(2 * SECOND, 10 * SECOND)
            self._do(Verb.KEY, KeyPosition.ON)
            self._wait(SECOND, 5 * SECOND)
        self._do(Verb.CRANK, self._habits.crank)
        self._now += CRANKS[self._habits.crank].length_ns
        self._wait(2 * SECOND, 10 * SECOND)
        self._use()

    def _use(self) -> None:
        """The tablet is switched on if it is not, then somebody logs in."""
        self._do(Verb.BUTTON)
        self._wait(10 * SECOND, 40 * SECOND)
        self._do(Verb.LOG_IN)
        self._wait(SECOND, 20 * SECOND)

    def _leg(self) -> None:
        blue = self._chance(150)
        if blue:
            self._do(Verb.BLUE_LIGHTS, self._between(8_000, 20_000))  # ours: lamps and siren
        for _ in range(self._between(1, 3)):
            self._do(Verb.DRIVE, self._between(50, 1_800 if blue else 1_100))
            self._wait(20 * SECOND, 4 * MINUTE)
        self._do(Verb.DRIVE, 0)
        self._wait(SECOND, 5 * SECOND)
        if self._chance(self._habits.stop_start):
            self._do(Verb.STOP_ENGINE)
            self._wait(3 * SECOND, 90 * SECOND)
            self._do(Verb.GO_ON)
            self._wait(SECOND, 5 * SECOND)
        if self._chance(300):
            self._use()
        if blue:
            self._do(Verb.BLUE_LIGHTS, 0)

    def _sit(self) -> None:
        """Engine off, ignition on, at times with the blue lights on: what empties batteries."""
        self._do(Verb.KEY, KeyPosition.ON)
        self._wait(SECOND, 20 * SECOND)
        self._use()
        blue = self._chance(300)
        if blue:
            self._do(Verb.BLUE_LIGHTS, self._between(8_000, 20_000))
        self._wait(2 * MINUTE, 25 * MINUTE)
        if blue:
            self._do(Verb.BLUE_LIGHTS, 0)
        self._do(Verb.PULL_KEY)

    def _on_foot(self) -> None:
        """The officer takes the tablet along, or lifts it and sets it back."""
        self._do(Verb.UNDOCK)
        self._wait(100 * MS, 3 * SECOND)
        if self._chance(700):
            self._do(Verb.CARRY_AWAY)
            self._wait(5 * SECOND, 20 * MINUTE)
        self._do(Verb.SEAT)
        self._wait(SECOND, 5 * SECOND)
        self._use()

    def _theft(self) -> None:
        """Taken, tried with a password, put into another vehicle's dock, recovered."""
        if self._chance(500):
            self._do(Verb.UNDOCK)
            self._wait(100 * MS, 2 * SECOND)
        self._do(Verb.CARRY_AWAY)
        self._wait(10 * SECOND, 10 * MINUTE)
        if self._chance(300):
            self._use()
        if self._chance(700):
            self._do(Verb.SEAT_FOREIGN)
            self._wait(5 * SECOND, HOUR // 2)
            if self._chance(500):
                self._use()
            self._do(Verb.CARRY_AWAY)
            self._wait(10 * SECOND, 10 * MINUTE)
        self._do(Verb.SEAT)
        self._wait(SECOND, MINUTE)
        self._use()
