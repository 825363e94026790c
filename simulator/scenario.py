"""Scenario files: what happens to a vehicle, its dock, its network, and what must be seen of the tablet.

A scenario is a TOML file of steps. A step has a time, something to do, and what must then be seen::

    [[step]]
    after = "2 s"                # since the step before was done with; or at = "12 s", since the start
    do = "undock"
    say = "taken out of the dock without a permit"
    expect = { tether = "restricted", session = "locked", within = "1 s" }
    needs = ["logind"]           # left out where there is none

``within`` is the time in which all of it must be seen at once; ``throughout`` is one over which it must not
stop being so. ``expect`` may also be a list of such tables, looked at one after the other. A file is checked
whole before anything runs.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.core.types import MINUTE, MS, SECOND

SCENARIOS = Path(__file__).parent / "scenarios"
DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?) ?(ms|s|min)")
UNITS = {"ms": MS, "s": SECOND, "min": MINUTE}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A setting of an action: an integer between bounds, or one of some words."""

    name: str
    default: int | str
    meaning: str
    least: int = 0
    most: int = 0
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    name: str
    meaning: str
    parameters: tuple[Parameter, ...] = ()


ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        Action("wait", "do nothing; only look"),
        Action("key on", "turn the key to ON (KL15)"),
        Action("key accessory", "turn the key to ACCESSORY (KL_S)"),
        Action("key off", "turn the key to OFF, which stops the engine, and take it out"),
        Action(
            "crank",
            "start the engine",
            (Parameter("profile", "iso-1", "the voltage over the start", words=("iso-1", "bmw", "cold")),),
        ),
        Action("drive", "drive at a speed", (Parameter("speed_kmh", 48, "km/h", 0, 250),)),
        Action(
            "glitch",
            "lose what the serial line carries for a while, as a pothole does",
            (Parameter("ms", 400, "ms", 1, 60_000),),
        ),
        Action(
            "noise",
            "random bytes on the serial line",
            (Parameter("kilobytes", 64, "kB", 1, 10_240),),
        ),
        Action("undock", "take the tablet out of its seat; the dock says so, authenticated"),
        Action("return", "put the tablet back into its seat"),
        Action("unplug", "pull the dock's cable"),
        Action("plug", "put the cable back"),
        Action("plug foreign", "put the cable into a dock that is not the paired one"),
        Action(
            "officer", "the officer authenticates: the session is unlocked by its owner, not by the agent"
        ),
        Action("button", "somebody wakes the tablet, or turns it on"),
        Action("network cut", "end every connection and refuse new ones"),
        Action("network stall", "keep connections open and let nothing through"),
        Action("network heal", "undo the faults of the network"),
        Action("kill agent", "SIGKILL"),
        Action("start agent", "start it again, in the same boot"),
        Action("kill broker", "SIGKILL, and start it again"),
        Action("kill depot", "SIGKILL, and start it again"),
    )
}

# What not every rig has; a step that needs it is left out where it is missing.
PROVISIONS = ("logind",)

# What can be looked at, and its values. The first four are the agent's own words, from its status.
OBSERVABLES: dict[str, tuple[str, ...]] = {
    "tether": ("unknown", "tethered", "uncertain", "restricted", "foreign"),
    "ignition": ("off", "accessory", "on", "cranking", "running", "unknown"),
    "power": ("awake", "run_on", "suspending", "sleeping", "shutting_down", "powering_off"),
    "posture": ("locked", "usable"),
    "session": ("locked", "unlocked", "none"),
    "tablet": ("on", "suspended", "off"),
    "agent": ("running", "stopped"),
    "link": ("up", "down"),
    "supply": ("on", "off"),
    "fleet": ("online", "sleeping", "shutting_down", "lost"),
    "queue": ("empty", "waiting"),
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """Values that must be seen together: within a time, or throughout one."""

    values: Mapping[str, str]
    limit_ns: int
    throughout: bool

    def __str__(self) -> str:
        what = ", ".join(f"{name} {value}" for name, value in self.values.items())
        how = "throughout" if self.throughout else "within"
        return f"{what} {how} {self.limit_ns / SECOND:g} s"


@dataclass(frozen=True, slots=True)
class Step:
    number: int  # from 1, as a person counts them in the file
    action: Action
    arguments: Mapping[str, int | str]
    at_ns: int | None  # since the start of the scenario
    after_ns: int  # since the end of the step before, if there is no ``at_ns``
    say: str
    needs: frozenset[str]
    expectations: tuple[Expectation, ...]

    def __str__(self) -> str:
        return f"step {self.number} ({self.action.name})"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario. ``policy`` and ``agent`` go into the agent's configuration as they are."""

    name: str
    about: str
    steps: tuple[Step, ...]
    profile: str = "vw-mqb"
    policy: Mapping[str, Any] = field(default_factory=dict)


class ScenarioError(ValueError):
    """A scenario file that cannot be played: which step, what was expected, what came."""


def find(name: str) -> Path:
    """The file of a shipped scenario by its name, or the path itself if it is one. Raises ScenarioError."""
    if name.endswith(".toml"):
        return Path(name)
    if name not in names():
        raise ScenarioError(
            f"no scenario {name!r}{_nearest(name, names())}; a path to a file ends with .toml"
        )
    return SCENARIOS / f"{name}.toml"


def names() -> list[str]:
    return sorted(path.stem for path in SCENARIOS.glob("*.toml"))


def load(path: Path) -> Scenario:
    """Read and check a scenario file. Raises ScenarioError, naming every problem in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path))


def parse(text: str, file: str = "scenario") -> Scenario:
    """Check the text of a scenario. Raises ScenarioError, naming every problem in it."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{file}: not valid TOML: {error}") from None
    reader = _Reader()
    scenario = reader.scenario(data)
    if reader.problems:
        raise ScenarioError("\n".join(f"{file}: {problem}" for problem in reader.problems))
    return scenario


class _Reader:
    """Turns TOML data into a Scenario; collects problems instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def scenario(self, data: dict[str, Any]) -> Scenario:
        self._known("the file", data, ("name", "about", "profile", "policy", "step"))
        steps = data.get("step")
        if not isinstance(steps, list) or not steps:
            self.problems.append("no [[step]]; a scenario has at least one")
            steps = []
        return Scenario(
            name=self._text("the file", data, "name", required=True),
            about=self._text("the file", data, "about"),
            steps=tuple(self._step(number, step) for number, step in enumerate(steps, 1)),
            profile=self._text("the file", data, "profile") or "vw-mqb",
            policy=data.get("policy", {}),
        )

    def _step(self, number: int, data: Any) -> Step:
        if not isinstance(data, dict):
            self.problems.append(f"step {number} wants a table, not {data!r}")
            data = {}
        name = self._text(f"step {number}", data, "do") or "wait"
        where = f"step {number} ({name})"
        action = ACTIONS.get(name)
        if action is None:
            self.problems.append(f"step {number}: do = {name!r} is not an action{_nearest(name, ACTIONS)}")
            action = Action(str(name), "")
        else:
            parameters = tuple(parameter.name for parameter in action.parameters)
            self._known(where, data, ("at", "after", "do", "say", "needs", "expect", *parameters))
        if "at" in data and "after" in data:
            self.problems.append(f"{where}: has both at and after; give one")
        return Step(
            number,
            action,
            {parameter.name: self._argument(where, data, parameter) for parameter in action.parameters},
            self._duration(where, data, "at") if "at" in data else None,
            self._duration(where, data, "after") if "after" in data else 0,
            self._text(where, data, "say"),
            self._needs(where, data.get("needs", [])),
            tuple(self._expectations(where, data.get("expect", []))),
        )

    def _needs(self, where: str, data: Any) -> frozenset[str]:
        if isinstance(data, list) and all(need in PROVISIONS for need in data):
            return frozenset(data)
        self.problems.append(f"{where}: needs wants a list of {', '.join(PROVISIONS)}, not {data!r}")
        return frozenset()

    def _expectations(self, where: str, data: Any) -> Iterator[Expectation]:
        for table in data if isinstance(data, list) else [data]:
            if not isinstance(table, dict):
                self.problems.append(f"{where}: expect wants a table or a list of tables, not {table!r}")
                continue
            values = {key: value for key, value in table.items() if key not in ("within", "throughout")}
            if not values or ("within" in table) == ("throughout" in table):
                self.problems.append(
                    f"{where}: expect wants something to see and either within or throughout; came {table!r}"
                )
            for key, value in values.items():
                self._value(where, key, value)
            throughout = "throughout" in table
            limit = self._duration(where, table, "throughout" if throughout else "within")
            yield Expectation(values, limit, throughout)

    def _value(self, where: str, key: str, value: Any) -> None:
        if key not in OBSERVABLES:
            near = _nearest(key, OBSERVABLES)
            self.problems.append(f"{where}: expect: {key!r} cannot be looked at{near}")
        elif value not in OBSERVABLES[key]:
            expected = ", ".join(OBSERVABLES[key])
            self.problems.append(f"{where}: expect: {key} is one of {expected}, not {value!r}")

    def _argument(self, where: str, data: dict[str, Any], parameter: Parameter) -> int | str:
        value = data.get(parameter.name, parameter.default)
        if parameter.words:
            if value not in parameter.words:
                expected = ", ".join(parameter.words)
                self.problems.append(f"{where}: {parameter.name} is one of {expected}, not {value!r}")
        elif type(value) is not int or not parameter.least <= value <= parameter.most:
            span = f"{parameter.least} to {parameter.most} {parameter.meaning}"
            self.problems.append(f"{where}: {parameter.name} is a whole number, {span}, not {value!r}")
        return value if isinstance(value, int | str) else parameter.default

    def _duration(self, where: str, data: dict[str, Any], key: str) -> int:
        value = data.get(key)
        match = DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            if value is not None:
                self.problems.append(f'{where}: {key} wants a time such as "300 ms" or "2 s", not {value!r}')
            return 0
        return round(float(match[1]) * UNITS[match[2]])

    def _text(self, where: str, data: dict[str, Any], key: str, *, required: bool = False) -> str:
        value = data.get(key)
        if isinstance(value, str) and value:
            return value
        if required or value is not None:
            self.problems.append(f"{where}: {key} wants a text, not {value!r}")
        return ""

    def _known(self, where: str, data: dict[str, Any], known: tuple[str, ...]) -> None:
        for key in data.keys() - set(known):
            self.problems.append(f"{where}: {key!r} is not a known key{_nearest(key, known)}")


def _nearest(word: Any, known: Any) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
