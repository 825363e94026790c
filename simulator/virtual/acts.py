"""What people do to a vehicle, its dock and its tablet: the acts that lives are made of."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent.core.types import SECOND, KeyPosition
from simulator.electrics import MAINS_CHARGER, Supply


class Lived(Protocol):
    """The world as people act on it."""

    def turn_key(self, position: KeyPosition) -> None: ...
    def pull_key(self, *, run_lock: bool = False) -> None: ...
    def crank(self, profile: str = "iso-1") -> None: ...
    def stop_start(self, *, stopped: bool) -> None: ...
    def drive(self, speed_dkmh: int) -> None: ...
    def blue_lights(self, ma: int) -> None: ...
    def charger(self, supply: Supply | None) -> None: ...
    def alternator(self, *, works: bool) -> None: ...
    def load_dump(self) -> None: ...

    def connect_battery(self, *, connected: bool) -> None:
        """A workshop takes the vehicle's battery off: dock and bus are dead without it."""
        ...

    def undock(self) -> None:
        """The tablet out of its seat, its contacts still mated: the dock can say so."""
        ...

    def carry_away(self) -> None:
        """The contacts part, from in the seat too: nothing is behind the tablet's serial path."""
        ...

    def seat(self) -> None:
        """Into its own dock."""
        ...

    def seat_foreign(self) -> None:
        """Into a dock that is not the paired one; ``carry_away`` takes it out again."""
        ...

    def press_button(self) -> None: ...

    def log_in(self) -> None:
        """Somebody with the officer's password unlocks the session, if the tablet is on."""
        ...

    def coverage(self, *, there: bool) -> None: ...


class Verb(enum.Enum):
    """What is done; the value of an act is its argument."""

    KEY = "key"  # KeyPosition
    PULL_KEY = "pull key"
    RUN_LOCK = "run lock"  # the key comes out and the engine runs on
    CRANK = "crank"  # name of a profile
    STOP_ENGINE = "stop engine"  # stop-start, at a light
    GO_ON = "go on"
    DRIVE = "drive"  # int, 0.1 km/h
    BLUE_LIGHTS = "blue lights"  # int, mA
    CHARGER = "charger"  # bool
    ALTERNATOR = "alternator"  # bool: it works
    LOAD_DUMP = "load dump"
    BATTERY = "battery"  # bool: connected
    UNDOCK = "undock"
    CARRY_AWAY = "carry away"
    SEAT = "seat"
    SEAT_FOREIGN = "seat foreign"
    BUTTON = "button"
    LOG_IN = "log in"
    COVERAGE = "coverage"  # bool


Value = KeyPosition | str | int | bool | None


@dataclass(frozen=True, slots=True)
class Act:
    """Something done ``at_ns`` after the life began."""

    at_ns: int
    verb: Verb
    value: Value = None

    def do(self, world: Lived) -> None:
        match self.verb, self.value:
            case Verb.KEY, KeyPosition() as position:
                world.turn_key(position)
            case Verb.CRANK, str() as profile:
                world.crank(profile)
            case Verb.CHARGER, bool() as on:
                world.charger(MAINS_CHARGER if on else None)
            case Verb.ALTERNATOR, bool() as works:
                world.alternator(works=works)
            case Verb.BATTERY, bool() as connected:
                world.connect_battery(connected=connected)
            case Verb.COVERAGE, bool() as there:
                world.coverage(there=there)
            case Verb.DRIVE, int() as speed_dkmh:
                world.drive(speed_dkmh)
            case Verb.BLUE_LIGHTS, int() as ma:
                world.blue_lights(ma)
            case verb, None if verb in _PLAIN:
                _PLAIN[verb](world)
            case verb, value:
                raise ValueError(f"{verb.value!r} cannot be done with {value!r}")

    def __str__(self) -> str:
        value = self.value.value if isinstance(self.value, enum.Enum) else self.value
        return f"{self.at_ns / SECOND:12.3f} s  {self.verb.value}{'' if value is None else f' {value}'}"


_PLAIN: dict[Verb, Callable[[Lived], None]] = {
    Verb.PULL_KEY: lambda world: world.pull_key(),
    Verb.RUN_LOCK: lambda world: world.pull_key(run_lock=True),
    Verb.STOP_ENGINE: lambda world: world.stop_start(stopped=True),
    Verb.GO_ON: lambda world: world.stop_start(stopped=False),
    Verb.LOAD_DUMP: lambda world: world.load_dump(),
    Verb.UNDOCK: lambda world: world.undock(),
    Verb.CARRY_AWAY: lambda world: world.carry_away(),
    Verb.SEAT: lambda world: world.seat(),
    Verb.SEAT_FOREIGN: lambda world: world.seat_foreign(),
    Verb.BUTTON: lambda world: world.press_button(),
    Verb.LOG_IN: lambda world: world.log_in(),
}
