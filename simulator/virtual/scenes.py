"""Scenes: ten vehicles that are hard on their batteries, or on whoever says whether the ignition is on.

Each is a vehicle with the acts of some days, for the world of decisions, and says what must come of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.core.types import MINUTE, SECOND, KeyPosition
from simulator.electrics import AGM_OCV, SMART_ALTERNATOR, BatterySpec
from simulator.vehicle import VehicleSpec
from simulator.virtual.acts import Act, Value, Verb
from simulator.virtual.lives import DAY, HOUR

OLD = BatterySpec(health_permille=650, temperature_c=-15)
ON, ACCESSORY = KeyPosition.ON, KeyPosition.ACCESSORY


@dataclass(frozen=True, slots=True)
class Scene:
    """``stuck_from_ns``: from then on the ignition line reads ON whatever the key does."""

    name: str
    words: str
    days: int
    acts: tuple[Act, ...]
    vehicle: VehicleSpec
    stuck_from_ns: int | None = None


class _Script:
    """Writes acts, one after the other."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.now = 0

    def at(self, day: int, hour: float) -> None:
        self.now = round(day * DAY + hour * HOUR)

    def do(self, verb: Verb, value: Value = None, then_s: float = 1.0) -> None:
        self.acts.append(Act(self.now, verb, value))
        self.now += round(then_s * SECOND)

    def start(self, crank: str = "iso-1") -> None:
        self.do(Verb.KEY, ON, 3)
        self.do(Verb.CRANK, crank, 6)
        self.do(Verb.BUTTON, None, 30)
        self.do(Verb.LOG_IN, None, 2)

    def trip(self, minutes: float, crank: str = "iso-1") -> None:
        self.start(crank)
        self.do(Verb.DRIVE, 500, minutes * 60)
        self.do(Verb.DRIVE, 0, 2)
        self.do(Verb.PULL_KEY)


def _winter(script: _Script) -> None:
    for day in range(2):
        script.at(day, 6)
        script.trip(20, "cold")
        script.at(day, 18)
        script.trip(20, "cold")


def _city(script: _Script) -> None:
    script.at(0, 8)
    script.start()
    for _ in range(60):
        script.do(Verb.DRIVE, 300, 60)
        script.do(Verb.DRIVE, 0, 2)
        script.do(Verb.STOP_ENGINE, None, 40)
        script.do(Verb.GO_ON, None, 2)
    script.do(Verb.PULL_KEY)


def _electric(script: _Script) -> None:
    script.at(0, 8)
    for _ in range(4):
        script.trip(30)
        script.now += 40 * MINUTE


def _run_lock(script: _Script) -> None:
    script.at(0, 20)
    script.start()
    for _ in range(6):
        script.do(Verb.DRIVE, 400, 600)
        script.do(Verb.DRIVE, 0, 5)
        script.do(Verb.RUN_LOCK, None, 2400)
        script.do(Verb.KEY, ON, 30)
    script.do(Verb.PULL_KEY)


def _fortnight(script: _Script) -> None:
    script.at(0, 8)
    script.trip(60)
    script.at(14, 9)
    script.trip(30)


def _charger(script: _Script) -> None:
    script.at(0, 8)
    script.trip(20)
    script.do(Verb.CHARGER, True, 6 * 3600)
    for _ in range(4):
        script.do(Verb.KEY, ACCESSORY, 120)
        script.do(Verb.KEY, ON, 240)
        script.do(Verb.PULL_KEY, None, 1800)
    script.do(Verb.CHARGER, False, 60)
    script.trip(20)


def _load_dump(script: _Script) -> None:
    script.at(0, 8)
    script.start()
    for _ in range(20):
        script.do(Verb.DRIVE, 600, 120)
        script.do(Verb.LOAD_DUMP, None, 60)
    script.do(Verb.PULL_KEY)


def _dying_alternator(script: _Script) -> None:
    script.at(0, 8)
    script.start()
    script.do(Verb.DRIVE, 600, 1800)
    script.do(Verb.ALTERNATOR, False)
    script.do(Verb.BLUE_LIGHTS, 12_000)
    script.do(Verb.DRIVE, 600, 2 * 3600)
    script.do(Verb.BLUE_LIGHTS, 0)
    script.do(Verb.PULL_KEY)


def _short_trips(script: _Script) -> None:
    for day in range(30):
        for hour in (8, 17):
            script.at(day, hour)
            script.trip(6)


def _stuck_line(script: _Script) -> None:
    for hour, minutes in ((8, 30), (11, 20), (14, 10)):
        script.at(0, hour)
        script.trip(minutes)


def _scenes() -> Iterator[Scene]:
    def scene(
        name: str, words: str, days: int, write: Callable[[_Script], None],
        vehicle: VehicleSpec | None = None, stuck_from_ns: int | None = None,
    ) -> Scene:  # fmt: skip
        script = _Script()
        write(script)
        return Scene(name, words, days, tuple(script.acts), vehicle or VehicleSpec(), stuck_from_ns)

    yield scene("winter", "cold starts at -15 degC on an old battery", 2, _winter, VehicleSpec(OLD))
    yield scene("stop-start", "a city shift with sixty stops of the engine", 1, _city)
    yield scene("electric", "an electric car: no starter, no engine speed", 1, _electric,
                VehicleSpec(electric=True))  # fmt: skip
    yield scene("run-lock", "a night with the engine running and no key", 2, _run_lock)
    yield scene("fortnight", "parked for a fortnight, with a charge guard before the dock", 15, _fortnight,
                VehicleSpec(parasitic_ma=85, charge_guard=True))  # fmt: skip
    yield scene("charger", "a workshop's charger on a parked vehicle", 1, _charger)
    yield scene("load-dump", "the battery's clamp comes off again and again", 1, _load_dump)
    yield scene("dying-alternator", "it charges no more, and the blue lights are on", 2, _dying_alternator,
                VehicleSpec(charge_guard=True))  # fmt: skip
    yield scene("short-trips", "two short trips a day for a month, smart alternator, cold", 31, _short_trips,
                VehicleSpec(BatterySpec(ocv=AGM_OCV, temperature_c=0), SMART_ALTERNATOR))  # fmt: skip
    yield scene(
        "stuck-line", "the ignition line sticks at ON", 1, _stuck_line, stuck_from_ns=8 * HOUR + 20 * MINUTE
    )


SCENES: dict[str, Scene] = {scene.name: scene for scene in _scenes()}
