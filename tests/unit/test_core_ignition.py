"""Ignition: the rules cell by cell, the conflict table row by row, staleness, the crank window, reasons."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from agent.core import ignition_evidence
from agent.core.catalogue import IGNITION_CHANGED
from agent.core.ignition_rules import RULES, EngineWord, KeyWord, When, WireWord, decide
from agent.core.ignition_words import crank_open
from agent.core.policy import IgnitionPolicy, Policy, Wire
from agent.core.state import Grade, IgnitionState, PowerMode
from agent.core.types import (
    MS,
    BootNs,
    BusState,
    CanBus,
    CanSignal,
    KeyPosition,
    SignalKind,
)
from tests.core_driver import Core, status

UNKNOWN, OFF, ACCESSORY, ON, CRANKING, RUNNING = IgnitionState
W, K, E = WireWord, KeyWord, EngineWord
FEED = Policy(ignition=IgnitionPolicy(wire=Wire.ACCESSORY))

# Verdicts by wire and key; the columns are the engine's words in order: nothing, still, cranking, running.
# "?" is a contradiction, "-" no evidence; "F" is RUNNING with a wire fault.
CELLS = {
    (W.NONE, K.NONE): "- - C R",
    (W.NONE, K.OFF): "0 0 ? ?",
    (W.NONE, K.ACCESSORY): "A A ? ?",
    (W.NONE, K.ON): "1 1 C R",
    (W.NONE, K.START): "C C C R",
    (W.OFF, K.NONE): "0 0 F F",
    (W.OFF, K.OFF): "0 0 F F",
    (W.OFF, K.ACCESSORY): "A A F F",
    (W.OFF, K.ON): "? ? F F",
    (W.OFF, K.START): "? ? F F",
    (W.ON, K.NONE): "1 1 C R",
    (W.ON, K.OFF): "? ? ? ?",
    (W.ON, K.ACCESSORY): "? ? ? ?",
    (W.ON, K.ON): "1 1 C R",
    (W.ON, K.START): "C C C R",
    (W.FEED_OFF, K.NONE): "0 0 F F",
    (W.FEED_OFF, K.OFF): "0 0 F F",
    (W.FEED_OFF, K.ACCESSORY): "? ? F F",
    (W.FEED_OFF, K.ON): "? ? F F",
    (W.FEED_OFF, K.START): "? ? F F",
    (W.FEED_ON, K.NONE): "A A C R",
    (W.FEED_ON, K.OFF): "? ? ? ?",
    (W.FEED_ON, K.ACCESSORY): "A A ? ?",
    (W.FEED_ON, K.ON): "1 1 C R",
    (W.FEED_ON, K.START): "C C C R",
}
VERDICTS = {
    "-": UNKNOWN,
    "?": UNKNOWN,
    "0": OFF,
    "A": ACCESSORY,
    "1": ON,
    "C": CRANKING,
    "R": RUNNING,
    "F": RUNNING,
}


@pytest.mark.parametrize(("wire", "key", "engine"), list(product(W, K, E)))
def test_each_combination_of_words_has_its_verdict(wire: WireWord, key: KeyWord, engine: EngineWord) -> None:
    sign = CELLS[wire, key].split()[list(E).index(engine)]
    rule = decide(wire, key, engine)
    assert rule.verdict is VERDICTS[sign]
    assert (rule.rule == "ignition.contradiction") == (sign == "?")
    assert (rule.rule == "ignition.wire_fault") == (sign == "F")


def test_every_rule_is_the_first_that_fits_somewhere() -> None:
    circumstances = [frozenset[When](), *(frozenset({when}) for when in When)]
    used = {decide(*words).rule for words in product(W, K, E, circumstances)}
    assert used == {rule.rule for rule in RULES}


def ignition(core: Core) -> IgnitionState:
    return core.state.ignition.state


def feed(core: Core, seconds: float, *, rpm: int | None = None, key: KeyPosition | None = None,
         kl15: bool | None = None, mv: int = 12_600) -> None:  # fmt: skip
    """All sources at 5 Hz for a while; None leaves one silent."""
    for _ in range(round(seconds * 5)):
        if kl15 is not None:
            core.see(status(core.now, kl15=kl15, vehicle_mv=mv))
        if key is not None:
            core.key(key)
        if rpm is not None:
            core.rpm(rpm)
        core.run(0.2)


def started(policy: Policy | None = None) -> Core:
    core = Core(policy)
    core.start()
    return core


# --- the conflict table ---------------------------------------------------------------------------


def test_wire_on_against_can_off_is_a_stuck_wire_after_ten_minutes() -> None:
    core = started()
    feed(core, 599, kl15=True, key=KeyPosition.OFF, rpm=0)
    assert ignition(core) is UNKNOWN
    assert core.state.ignition.conflict == "sources contradict each other"
    feed(core, 2, kl15=True, key=KeyPosition.OFF, rpm=0)
    assert ignition(core) is OFF
    assert core.state.ignition.decision.rule == "ignition.wire_stuck"
    assert core.state.ignition.conflict == "wire stuck on"


def test_a_bus_that_said_off_and_fell_silent_still_contradicts_the_wire() -> None:
    """Stale, it is never taken for off; but what it said last keeps the wire from being believed alone."""
    core = started()
    feed(core, 40, kl15=True, key=KeyPosition.OFF, rpm=0)
    feed(core, 3600, kl15=True)
    assert ignition(core) is UNKNOWN
    assert core.state.ignition.decision.rule == "ignition.silent_after_off"
    assert core.state.power.mode is PowerMode.AWAKE, "a fresh source says on"
    feed(core, 5, kl15=True, key=KeyPosition.ON)
    assert ignition(core) is ON
    feed(core, 10, kl15=True)
    assert ignition(core) is ON, "the bus took it back"


def test_a_bus_that_is_cut_as_the_key_is_turned_contradicts_nothing() -> None:
    """It had no time to say on: its last word was of before."""
    core = started()
    feed(core, 10, kl15=False, key=KeyPosition.OFF, rpm=0)
    feed(core, 1, kl15=True, key=KeyPosition.OFF, rpm=0)
    feed(core, 10, kl15=True)
    assert ignition(core) is ON


@pytest.mark.parametrize(("rpm", "mv"), [(800, 12_600), (0, 13_900)])
def test_a_wire_is_not_stuck_while_something_turns_or_charges(rpm: int, mv: int) -> None:
    core = started()
    feed(core, 605, kl15=True, key=KeyPosition.OFF, rpm=rpm, mv=mv)
    assert ignition(core) is UNKNOWN


def test_wire_off_against_rotation_is_running_with_a_wire_fault() -> None:
    core = started()
    feed(core, 1.8, kl15=False, rpm=800)
    assert ignition(core) is UNKNOWN, "contradictions must settle first"
    feed(core, 0.4, kl15=False, rpm=800)
    assert ignition(core) is RUNNING
    assert core.state.ignition.conflict == "wire says off while the engine turns"


@pytest.mark.parametrize("key", [None, KeyPosition.OFF, KeyPosition.ACCESSORY])
@pytest.mark.parametrize("rpm", [None, 0])
def test_a_wire_lost_within_a_crank_window_holds_the_verdict(
    key: KeyPosition | None, rpm: int | None
) -> None:
    core = started()
    feed(core, 2, kl15=True, key=KeyPosition.ON)
    core.key(KeyPosition.START)
    assert ignition(core) is CRANKING
    feed(core, 14, key=key, rpm=rpm)
    assert ignition(core) is CRANKING
    core.run(5)
    assert ignition(core) is UNKNOWN


def test_a_wire_lost_within_a_crank_window_does_not_hide_that_the_engine_runs() -> None:
    core = started()
    feed(core, 2, kl15=True, key=KeyPosition.ON)
    core.key(KeyPosition.START)
    feed(core, 5, key=KeyPosition.ON, rpm=800)
    assert ignition(core) is RUNNING


def test_a_wire_lost_outside_a_crank_window_is_unknown() -> None:
    core = started()
    feed(core, 2, kl15=True)
    core.run(2)
    assert ignition(core) is UNKNOWN


def test_any_other_contradiction_is_unknown_after_settling() -> None:
    core = started()
    feed(core, 5, kl15=True, key=KeyPosition.ON)
    assert ignition(core) is ON
    feed(core, 1.8, kl15=False, key=KeyPosition.ON)
    assert ignition(core) is ON
    feed(core, 0.4, kl15=False, key=KeyPosition.ON)
    assert ignition(core) is UNKNOWN
    assert core.records(IGNITION_CHANGED)[-1].as_dict()["conflicts"] == '["sources contradict each other"]'


def test_a_bus_that_dies_with_the_key_is_no_contradiction() -> None:
    core = started()
    feed(core, 5, kl15=True, key=KeyPosition.ON, rpm=800)
    core.effects.clear()
    feed(core, 10, kl15=False)
    assert [record.as_dict()["verdict"] for record in core.records(IGNITION_CHANGED)] == ["off"]


# --- sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kl15", "expected"), [(True, ON), (False, OFF)],
)  # fmt: skip
def test_the_wire_decides_and_then_staleness_is_unknown_never_off(
    kl15: bool, expected: IgnitionState
) -> None:
    core = started()
    feed(core, 3, kl15=kl15)
    assert ignition(core) is expected
    core.until(BootNs(core.now - 200 * MS + 1500 * MS))
    assert ignition(core) is UNKNOWN


def test_an_untagged_status_is_no_wire() -> None:
    core = started()
    for _ in range(20):
        core.see(status(core.now, authenticated=False))
        core.run(0.2)
    assert ignition(core) is UNKNOWN
    assert core.state.ignition.dock_mv is None


@pytest.mark.parametrize("mv", [11_000, 12_500, 14_400])
def test_voltage_alone_decides_nothing(mv: int) -> None:
    core = started()
    for _ in range(50):
        core.see(status(core.now, kl15=None, vehicle_mv=mv))
        core.see(CanSignal(core.now, "can", SignalKind.ALTERNATOR, mv))
        core.run(0.2)
    assert ignition(core) is UNKNOWN


def test_engine_speed_zero_is_not_off() -> None:
    core = started()
    feed(core, 10, rpm=0)
    assert ignition(core) is UNKNOWN


def test_a_ready_electric_vehicle_runs() -> None:
    core = started()
    for _ in range(10):
        core.see(CanSignal(core.now, "can", SignalKind.READY, value=True))
        core.run(0.2)
    assert ignition(core) is RUNNING


@pytest.mark.parametrize(
    ("kl15", "key", "expected"),
    [(True, None, ACCESSORY), (True, KeyPosition.ON, ON), (False, None, OFF)],
)
def test_an_accessory_feed_never_proves_on(
    kl15: bool, key: KeyPosition | None, expected: IgnitionState
) -> None:
    core = started(FEED)
    feed(core, 5, kl15=kl15, key=key)
    assert ignition(core) is expected


def test_an_accessory_feed_may_drop_during_the_crank() -> None:
    core = started(FEED)
    feed(core, 3, kl15=True, key=KeyPosition.ON)
    feed(core, 3, kl15=False, key=KeyPosition.START)
    assert ignition(core) is CRANKING
    assert not core.state.ignition.conflict


# --- debounce and crank window --------------------------------------------------------------------


def test_it_debounces_both_ways() -> None:
    core = started()
    feed(core, 0.4, kl15=True)
    assert ignition(core) is UNKNOWN
    feed(core, 0.4, kl15=True)
    assert ignition(core) is ON
    feed(core, 1.8, kl15=False)
    assert ignition(core) is ON
    feed(core, 0.4, kl15=False)
    assert ignition(core) is OFF


def test_a_verdict_that_changes_while_it_waits_waits_anew() -> None:
    core = started()
    feed(core, 3, kl15=True)
    feed(core, 1.2, kl15=False)
    feed(core, 1.4, kl15=False, key=KeyPosition.ON)
    assert ignition(core) is ON
    feed(core, 1, kl15=False, key=KeyPosition.ON)
    assert ignition(core) is UNKNOWN


def window(core: Core) -> bool:
    return crank_open(core.state.ignition, core.now, core.policy.ignition)


@pytest.mark.parametrize(("rpm", "opens"), [(0, False), (1, True), (399, True), (400, False)])
def test_cranking_speed_opens_the_window(rpm: int, opens: bool) -> None:
    core = started()
    core.rpm(rpm)
    assert window(core) is opens


@pytest.mark.parametrize(
    ("after_ms", "mv", "opens"), [(100, 11_000, True), (100, 11_100, False), (1000, 8000, False)]
)
def test_a_sharp_fall_of_the_supply_opens_the_window(after_ms: int, mv: int, opens: bool) -> None:
    core = started()
    core.see(status(core.now))
    core.run(after_ms / 1000)
    core.see(status(core.now, vehicle_mv=mv))
    assert window(core) is opens


def test_the_window_closes_two_seconds_after_running() -> None:
    core = started()
    feed(core, 1, kl15=True, rpm=200)
    feed(core, 2, kl15=True, rpm=800)
    assert ignition(core) is RUNNING
    assert window(core)
    feed(core, 1, kl15=True, rpm=800)
    assert not window(core)


def test_the_window_closes_fifteen_seconds_after_the_last_sign_and_sixty_at_most() -> None:
    core = started()
    core.key(KeyPosition.START)
    core.run(14.9)
    assert window(core)
    core.run(0.1)
    assert not window(core)
    feed(core, 59.8, rpm=200)
    assert window(core)
    feed(core, 30, rpm=200)
    assert not window(core)


# --- reasons --------------------------------------------------------------------------------------


def test_evidence_names_every_source_also_those_never_seen() -> None:
    core = started()
    seen = ignition_evidence.evidence(core.state.ignition, core.now, core.policy.ignition)
    assert {item.source for item in seen} == {
        "dock wire (kl15)", "CAN ignition", "engine speed", "EV ready", "vehicle supply (dock)",
        "vehicle battery (CAN)", "alternator (CAN)", "CAN bus",
    }  # fmt: skip
    assert all(item.value == "no evidence in this boot" and item.age_ns is None for item in seen)


def test_grade_and_confidence_grow_with_independent_evidence() -> None:
    core = started()
    feed(core, 3, kl15=True)
    assert grade(core) is Grade.SINGLE
    alone = confidence(core)
    feed(core, 3, kl15=True, key=KeyPosition.ON, rpm=900, mv=14_000)
    assert grade(core) is Grade.CONFIRMED
    assert alone < confidence(core) <= 100
    core.run(5)
    assert confidence(core) == 0


def grade(core: Core) -> Grade:
    return core.state.ignition.grade


def confidence(core: Core) -> int:
    seen = ignition_evidence.evidence(core.state.ignition, core.now, core.policy.ignition)
    return ignition_evidence.confidence(core.state.ignition, seen)


def test_rotation_alone_is_inferred() -> None:
    core = started()
    feed(core, 2, rpm=900)
    assert core.state.ignition.grade is Grade.INFERRED


def test_a_silent_bus_corroborates_off_late() -> None:
    core = started()
    core.see(CanBus(core.now, "powertrain", BusState.SILENT))
    feed(core, 39, kl15=False)
    seen = ignition_evidence.evidence(core.state.ignition, core.now, core.policy.ignition)
    assert ignition_evidence.graded(seen) is Grade.SINGLE
    feed(core, 2, kl15=False)
    seen = ignition_evidence.evidence(core.state.ignition, core.now, core.policy.ignition)
    assert ignition_evidence.graded(seen) is Grade.CONFIRMED


def test_a_silent_bus_corroborates_nothing_while_the_battery_is_charged() -> None:
    """A wire that broke and a bus that is cut off look like off, while the engine runs."""
    core = started()
    core.see(CanBus(core.now, "powertrain", BusState.SILENT))
    feed(core, 45, kl15=False, mv=14_200)
    seen = ignition_evidence.evidence(core.state.ignition, core.now, core.policy.ignition)
    assert ignition_evidence.graded(seen) is Grade.SINGLE
    [bus] = [row for row in seen if row.source == "CAN bus powertrain"]
    assert (bus.weight, bus.note.split(":")[0]) == (0, "corroborates nothing")


def test_a_quiet_status_has_no_effects_but_the_power_sample() -> None:
    core = started(replace(Policy(), power=replace(Policy().power, sample_s=3600)))
    feed(core, 10, kl15=True)
    core.effects.clear()
    feed(core, 10, kl15=True)
    assert core.effects == []
