"""Status and reasons: their shape is a contract with ivmactl and with other software on the tablet."""

from __future__ import annotations

import json

import pytest

from agent.core.explain import TOPICS, decision_dict, status, why
from agent.core.policy import Policy, TetherPolicy
from agent.core.types import SECOND, BootNs, Explain, TabletPower
from tests.core_driver import Core

POLICY = Policy(tether=TetherPolicy(refill_after_s=5))


def test_the_status_of_a_docked_tablet() -> None:
    core = Core(POLICY).tethered()
    core.see(
        TabletPower(core.now, external=True, percent=80, battery_ma=500, battery_mv=8100, temperature_dc=300)
    )
    core.dock(0.2)
    shown = status(core.state, POLICY, core.now)
    assert shown["tether"] == {
        "state": "tethered", "usable": True, "posture": "usable",
        "since_ms_ago": shown["tether"]["since_ms_ago"], "ride_through_ms_left": None, "budget_ms": 60_000,
        "seated": {"value": True, "age_ms": 200}, "mated": {"value": True, "age_ms": 200},
        "locked": {"value": True, "age_ms": 200},
        "authenticated": {"value": True, "age_ms": shown["tether"]["authenticated"]["age_ms"]},
        "dock": "dock", "conflicts": [],
    }  # fmt: skip
    assert shown["hints"] == {}
    assert shown["ignition"] == {
        "state": "on", "confidence": 60, "grade": "single", "conflicts": [], "crank_window": False,
    }  # fmt: skip
    assert shown["power"] == {
        "state": "awake", "vehicle_mv": 12_600, "dock_mv": 12_000, "tablet_ma": 900, "tablet_percent": 80,
        "shedding": False,
        "energy_mwh": None, "run_on_ms_left": None,
    }  # fmt: skip


def test_the_ride_through_is_counted_down() -> None:
    core = Core(POLICY).tethered()
    last = core.state.tether.evidence_at
    core.run(2)
    assert last is not None
    shown = status(core.state, POLICY, BootNs(last + 3 * SECOND))
    assert shown["tether"]["state"] == "uncertain"
    assert shown["tether"]["ride_through_ms_left"] == 1000


@pytest.mark.parametrize("topic", TOPICS)
def test_why_is_plain_data_with_ages_as_of_now(topic: str) -> None:
    core = Core(POLICY).tethered()
    early, late = (why(core.state, topic, POLICY, BootNs(core.now + n * SECOND)) for n in (0, 60))
    assert json.loads(json.dumps(early)) == early
    assert set(early) == {"topic", "verdict", "rule", "because", "decided_ms_ago", "evidence", "conflicts"}
    assert late["decided_ms_ago"] == early["decided_ms_ago"] + 60_000
    for before, after in zip(early["evidence"], late["evidence"], strict=True):
        assert set(before) == {"source", "value", "age_ms", "fresh", "weight", "note"}
        if before["age_ms"] is not None:
            assert after["age_ms"] == before["age_ms"] + 60_000


def test_why_ignition_names_each_source_its_weight_and_the_rule() -> None:
    core = Core(POLICY).tethered()
    answer = why(core.state, "ignition", POLICY, core.now)
    assert answer["rule"] == "ignition.wire_on"
    wire, can, *_ = answer["evidence"]
    assert (wire["source"], wire["value"], wire["age_ms"], wire["weight"]) == (
        "dock wire (kl15)",
        "on",
        200,
        60,
    )
    assert (can["source"], can["value"], can["age_ms"]) == ("CAN ignition", "no evidence in this boot", None)


def test_an_unknown_topic_is_refused_by_name() -> None:
    core = Core()
    with pytest.raises(ValueError, match="'weather': expected one of tether, ignition, power"):
        why(core.state, "weather", POLICY, core.now)


def test_before_the_start_everything_is_unknown_and_locked() -> None:
    core = Core()
    shown = status(core.state, POLICY, core.now)
    assert (shown["tether"]["state"], shown["tether"]["posture"]) == ("unknown", "locked")


def test_a_published_decision_is_plain_data() -> None:
    core = Core(POLICY)
    core.start()
    core.dock(2)
    for effect in core.made(Explain):
        shown = decision_dict(effect.decision)
        assert json.loads(json.dumps(shown)) == shown
