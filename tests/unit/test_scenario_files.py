"""Scenario files: what they say, and what is said about bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.state import IgnitionState, PowerMode, TetherState
from agent.core.types import MS, SECOND, Posture
from simulator import scenario
from simulator.scenario import ACTIONS, OBSERVABLES, ScenarioError, parse
from sync import topics

GOOD = """
name = "short"
about = "a test"
policy = { tether = { ride_through_ms = 1500 } }

[[step]]
at = "500 ms"
do = "key on"
say = "the day begins"
expect = { ignition = "on", within = "2 s" }

[[step]]
after = "0.25 s"
do = "drive"
speed_kmh = 30

[[step]]
expect = [{ posture = "usable", throughout = "1 min" }, { tether = "tethered", within = "1 s" }]
"""


def problems(text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        parse(text, "bad.toml")
    return str(caught.value)


def test_a_scenario_is_read() -> None:
    read = parse(GOOD)
    first, second, third = read.steps
    assert (read.name, read.profile) == ("short", "vw-mqb")
    assert read.policy == {"tether": {"ride_through_ms": 1500}}
    assert (first.at_ns, first.action.name, first.say) == (500 * MS, "key on", "the day begins")
    assert first.expectations[0].values == {"ignition": "on"}
    assert first.expectations[0].limit_ns == 2 * SECOND
    assert (second.at_ns, second.after_ns, second.arguments) == (None, 250 * MS, {"speed_kmh": 30})
    assert third.action is ACTIONS["wait"]
    assert [each.throughout for each in third.expectations] == [True, False]


def test_arguments_have_defaults() -> None:
    (step,) = parse('name = "x"\n[[step]]\ndo = "crank"').steps
    assert step.arguments == {"profile": "iso-1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not valid TOML"),
        ('name = "x"', "no [[step]]"),
        ('[[step]]\ndo = "wait"', "name wants a text"),
        (
            'name = "x"\n[[step]]\ndo = "undok"',
            "step 1: do = 'undok' is not an action; did you mean 'undock'?",
        ),
        (
            'name = "x"\n[[step]]\nafer = "1 s"',
            "step 1 (wait): 'afer' is not a known key; did you mean 'after'?",
        ),
        ('name = "x"\n[[step]]\nat = "1 s"\nafter = "1 s"', "has both at and after"),
        ('name = "x"\n[[step]]\nat = "1 hour"', 'at wants a time such as "300 ms" or "2 s", not \'1 hour\''),
        ('name = "x"\n[[step]]\nat = 5', "at wants a time"),
        (
            'name = "x"\n[[step]]\ndo = "drive"\nspeed_kmh = 900',
            "speed_kmh is a whole number, 0 to 250 km/h, not 900",
        ),
        ('name = "x"\n[[step]]\ndo = "crank"\nprofile = "warm"', "profile is one of iso-1, bmw, cold, not"),
        ('name = "x"\n[[step]]\nexpect = { within = "1 s" }', "expect wants something to see"),
        ('name = "x"\n[[step]]\nexpect = { tether = "foreign" }', "either within or throughout"),
        (
            'name = "x"\n[[step]]\nexpect = { tether = "loose", within = "1 s" }',
            "tether is one of unknown, teth",
        ),
        ('name = "x"\n[[step]]\nexpect = { teather = "x", within = "1 s" }', "did you mean 'tether'?"),
        ('name = "x"\n[[step]]\nexpect = [3]', "not 3"),
        ('name = "x"\n[[step]]\nneeds = ["luck"]', "needs wants a list of logind, not ['luck']"),
    ],
)
def test_a_bad_scenario_is_refused_and_the_problem_named(text: str, said: str) -> None:
    message = problems(text)
    assert said in message
    assert message.startswith("bad.toml: ")


def test_every_problem_is_named_at_once() -> None:
    assert len(problems('name = "x"\n[[step]]\ndo = "a"\n[[step]]\nat = "b"').splitlines()) == 2


@settings(max_examples=100)
@given(
    st.recursive(
        st.one_of(st.integers(), st.booleans(), st.text(max_size=5), st.sampled_from(sorted(ACTIONS))),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["do", "at", "expect", "tether", "within", "profile"]), inner),
        ),
        max_leaves=8,
    )
)
def test_no_data_makes_the_reader_stumble(step: object) -> None:
    reader = scenario._Reader()
    read = reader.scenario({"name": "x", "step": [step] if not isinstance(step, list) else step})
    assert read.steps or reader.problems


@pytest.mark.parametrize("name", scenario.names())
def test_each_shipped_scenario_is_sound(name: str) -> None:
    assert scenario.load(scenario.find(name)).name == name


def test_an_unknown_scenario_is_named_with_the_nearest() -> None:
    with pytest.raises(ScenarioError, match="did you mean 'shift'"):
        scenario.find("shft")
    assert scenario.find("my.toml") == Path("my.toml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"none\.toml: cannot be read"):
        scenario.load(tmp_path / "none.toml")


def test_what_can_be_looked_at_is_what_the_agent_says() -> None:
    enums = {"tether": TetherState, "ignition": IgnitionState, "power": PowerMode, "posture": Posture}
    for name, enum in enums.items():
        assert set(OBSERVABLES[name]) == {member.value for member in enum}
    assert set(OBSERVABLES["fleet"]) == {topics.ONLINE, topics.SLEEPING, topics.SHUTTING_DOWN, topics.LOST}
