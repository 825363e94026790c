"""Sources without a key: what they say, what policy lets them do, and what they never do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.core.catalogue import TETHER_CHANGED, TETHER_CONFLICT
from agent.core.explain import status as shown
from agent.core.explain import why
from agent.core.machine import last_words
from agent.core.policy import DockBit, HintUse, Policy, TetherPolicy, problems
from agent.core.state import IgnitionState, TetherState
from agent.core.types import (
    MS,
    SECOND,
    Basis,
    BootNs,
    CanSignal,
    DockHint,
    DockLinkLost,
    HintKind,
    KeyPosition,
    LinkLoss,
    Lock,
    Release,
    SignalKind,
)
from tests.core_driver import Core, status

LINES, USB, SWITCH, SUPPLY = HintKind
QUICK = TetherPolicy(refill_after_s=5)
REPORTING = Policy(tether=QUICK)
HOLD_S = QUICK.hint_hold_ms / 1000


def using(**uses: Any) -> Policy:
    return Policy(tether=replace(QUICK, **uses))


def hint(core: Core, kind: HintKind = SWITCH, dock: str = "tray", **values: Any) -> DockHint:
    return DockHint(core.now, dock, kind, **values)


def lines(core: Core, seconds: float, **values: Any) -> None:
    """Control lines as their port reports them: once a second."""
    for _ in range(round(seconds)):
        core.see(hint(core, LINES, "cradle", **values))
        core.run(1)


@pytest.mark.parametrize("kind", HintKind)
@pytest.mark.parametrize("use", [HintUse.REPORT, HintUse.RESTRICT])
def test_no_hint_opens_anything(kind: HintKind, use: HintUse) -> None:
    core = Core(using(hint_lines=use, hint_usb=use, hint_switch=use))
    core.start()
    for _ in range(20):
        core.see(hint(core, kind, seated=True, mated=True, locked=True, kl15=True, supply_ok=True))
        core.run(1)
    assert not core.usable()
    assert core.state.tether.state is TetherState.UNKNOWN


@pytest.mark.parametrize("kind", [LINES, USB, SWITCH])
def test_by_default_a_hint_of_out_against_proof_is_reported_and_locks_nothing(kind: HintKind) -> None:
    core = Core(REPORTING)
    core.tethered()
    core.see(hint(core, kind, seated=False))
    core.dock(HOLD_S - 0.5)
    assert core.records(TETHER_CONFLICT) == []
    core.dock(60)
    assert core.usable()
    begun = [record.as_dict() for record in core.records(TETHER_CONFLICT)]
    assert [(each["source"], each["kind"], each["begins"]) for each in begun] == [("tray", kind.value, True)]
    answer = why(core.state, "tether", core.policy, core.now)
    assert answer["verdict"] == "tethered"
    assert answer["conflicts"] == [begun[0]["detail"]]
    assert "tray says out" in answer["conflicts"][0]

    core.see(hint(core, kind, seated=True))
    core.dock(1)
    assert [record.as_dict()["begins"] for record in core.records(TETHER_CONFLICT)] == [True, False]
    assert why(core.state, "tether", core.policy, core.now)["conflicts"] == []


def test_a_hint_of_in_against_an_authenticated_out_is_reported_and_opens_nothing() -> None:
    core = Core(REPORTING)
    core.tethered()
    core.see(hint(core, seated=True))
    core.see(status(core.now, seated=False))
    core.dock(HOLD_S + 1, seated=False)
    assert not core.usable()
    (record,) = core.records(TETHER_CONFLICT)
    assert "tray says in, dock dock says out, authenticated" in str(record.as_dict()["detail"])


def test_a_chattering_switch_makes_a_bounded_number_of_records() -> None:
    core = Core(REPORTING)
    core.tethered()
    for n in range(600):
        core.see(hint(core, seated=n % 2 == 0))
        core.dock(0.2)
    assert core.records(TETHER_CONFLICT) == []
    assert core.usable()


def test_each_hint_is_shown_with_its_age_apart_from_what_is_proved() -> None:
    core = Core(REPORTING)
    core.tethered()
    core.see(hint(core, USB, "hub", mated=True))
    core.see(hint(core, SWITCH, "tray", seated=False))
    core.run(1)
    answer = shown(core.state, core.policy, core.now)
    assert answer["hints"] == {
        "hub": {"value": "mated yes", "age_ms": 1000},
        "tray": {"value": "seated no", "age_ms": 1000},
    }
    assert answer["tether"]["seated"]["value"] is True  # the dock's word
    sources = {each["source"]: each for each in why(core.state, "tether", core.policy, core.now)["evidence"]}
    assert sources["USB presence hub"]["weight"] == 0
    assert "policy: report" in sources["dock switch tray"]["note"]


# --- restrict -------------------------------------------------------------------------------------


def test_where_policy_says_so_a_lasting_out_restricts_and_only_its_end_and_proof_release() -> None:
    core = Core(using(hint_switch=HintUse.RESTRICT))
    core.tethered()
    core.see(hint(core, seated=False))
    core.dock(HOLD_S - 0.5)
    assert core.usable(), "a cable that wobbles is no removal"
    core.dock(1)
    assert not core.usable()
    assert core.state.tether.decision.rule == "tether.hinted_out"
    core.dock(30)
    assert not core.usable()
    core.see(hint(core, seated=True))
    core.dock(1)
    assert core.usable()
    assert [effect.basis for effect in core.made(Release)][-1] is Basis.PROOF


def test_pulling_the_source_does_not_end_its_restriction() -> None:
    core = Core(using(hint_usb=HintUse.RESTRICT))
    core.tethered()
    core.see(hint(core, USB, mated=False))
    core.dock(HOLD_S + 1)
    assert not core.usable()
    core.see(DockLinkLost(core.now, "tray", LinkLoss.CLOSED))
    core.dock(10)
    assert not core.usable()
    core.see(hint(core, USB, mated=True))
    core.dock(1)
    assert core.usable()


def test_a_crank_does_not_let_a_hint_begin_to_restrict() -> None:
    core = Core(using(hint_usb=HintUse.RESTRICT))
    core.tethered()
    core.see(CanSignal(core.now, "can", SignalKind.IGNITION, KeyPosition.START))
    core.see(hint(core, USB, mated=False))
    core.dock(HOLD_S + 2)
    assert core.usable()
    core.see(hint(core, USB, mated=True))
    core.dock(30)
    assert core.usable()


def test_a_crank_does_not_release_what_a_hint_restricted() -> None:
    core = Core(using(hint_usb=HintUse.RESTRICT))
    core.tethered()
    core.see(hint(core, USB, mated=False))
    core.dock(HOLD_S + 1)
    core.see(CanSignal(core.now, "can", SignalKind.IGNITION, KeyPosition.START))
    core.dock(5)
    assert not core.usable()


# --- allow: a fleet of docks that have control lines only ---------------------------------------------


ALLOWING = using(hint_lines=HintUse.ALLOW)


def test_control_lines_hold_the_tablet_where_policy_explicitly_lets_them() -> None:
    core = Core(ALLOWING)
    core.start()
    lines(core, 3, seated=True)
    assert core.usable()
    assert core.state.tether.decision.rule == "tether.hinted_in"
    assert [effect.basis for effect in core.made(Release)] == [Basis.HINT]
    answer = shown(core.state, core.policy, core.now)["tether"]
    assert answer["authenticated"]["value"] is False
    assert answer["seated"] == {"value": True, "age_ms": 1000}
    (change,) = core.records(TETHER_CHANGED)
    assert change.as_dict()["rule"] == "tether.hinted_in"


def test_their_out_is_a_loss_of_evidence_with_a_ride_through_and_then_restricts() -> None:
    core = Core(ALLOWING)
    core.start()
    lines(core, 10, seated=True)
    core.see(hint(core, LINES, "cradle", seated=False))
    assert core.state.tether.state is TetherState.UNCERTAIN
    core.run(QUICK.ride_through_ms / 1000 - 1.5)
    assert core.usable()
    core.run(2)
    assert not core.usable()
    assert core.state.tether.decision.rule == "tether.ride_through_over"
    assert core.state.tether.budget_ns < QUICK.budget_ms * MS
    lines(core, 3, seated=True)
    assert core.usable()


def test_silent_control_lines_are_stale_and_hold_nothing() -> None:
    core = Core(ALLOWING)
    core.start()
    lines(core, 10, seated=True)
    core.run(QUICK.hint_fresh_ms / 1000)
    assert core.state.tether.state is TetherState.UNCERTAIN
    core.run(QUICK.ride_through_ms / 1000)
    assert not core.usable()


def test_a_pulled_cable_of_control_lines_holds_nothing() -> None:
    core = Core(ALLOWING)
    core.start()
    lines(core, 10, seated=True)
    core.see(DockLinkLost(core.now, "cradle", LinkLoss.UNPLUGGED))
    assert core.state.tether.state is TetherState.UNCERTAIN


@pytest.mark.parametrize("values", [{"mated": True}, {"seated": True}, {"seated": True, "locked": False}])
def test_every_required_bit_must_be_known_and_set(values: dict[str, bool]) -> None:
    core = Core(using(hint_lines=HintUse.ALLOW, required=(DockBit.SEATED, DockBit.LOCKED)))
    core.start()
    lines(core, 5, **values)
    assert not core.usable()


def test_only_control_lines_hold_where_control_lines_may() -> None:
    core = Core(ALLOWING)
    core.start()
    for kind in (USB, SWITCH, SUPPLY):
        core.see(hint(core, kind, kind.value, seated=True, mated=True))
    core.run(2)
    assert not core.usable()


def test_beside_a_dock_that_proved_itself_control_lines_hold_nothing() -> None:
    core = Core(ALLOWING)
    core.tethered()
    lines(core, 12, seated=True)
    assert not core.usable()


def test_one_cradle_that_says_out_outweighs_another_that_says_in() -> None:
    core = Core(ALLOWING)
    core.start()
    lines(core, 5, seated=True)
    core.see(hint(core, LINES, "other cradle", seated=False))
    lines(core, 6, seated=True)
    assert not core.usable()


def test_restricted_by_control_lines_outlives_a_restart_and_a_restart_within_the_ride_through_keeps_use() -> (
    None
):
    core = Core(ALLOWING)
    core.start()
    lines(core, 10, seated=True)
    core.restart(last_words(core.state, core.now))
    assert core.usable()
    lines(core, 2, seated=True)
    core.run(20)
    assert core.made(Lock)
    core.restart(core.remembered)
    assert core.state.tether.state is TetherState.RESTRICTED


def test_other_kinds_cannot_be_let_to_stand_for_proof() -> None:
    for kind in ("usb", "switch"):
        (problem,) = problems(using(**{f"hint_{kind}": HintUse.ALLOW}))
        assert f"policy.tether.hint_{kind}" in problem


# --- ignition -------------------------------------------------------------------------------------


def test_a_supply_without_a_key_tells_ignition_and_voltage_where_no_dock_does() -> None:
    core = Core(REPORTING)
    core.start()
    for _ in range(6):
        core.see(hint(core, SUPPLY, "psu", kl15=True, vehicle_mv=12_400))
        core.run(0.5)
    assert core.state.ignition.state.value == "on"
    assert core.state.ignition.kl15_at is None, "it earns no crank extension"
    assert core.state.power.filtered_uv is not None
    notes = [each["note"] for each in why(core.state, "ignition", core.policy, core.now)["evidence"]]
    assert any("source without a key" in each for each in notes)
    for _ in range(8):
        core.see(hint(core, SUPPLY, "psu", kl15=False, vehicle_mv=12_400))
        core.run(0.5)
    assert core.state.ignition.state is IgnitionState.OFF


def test_an_authenticated_wire_outranks_a_hint() -> None:
    core = Core(REPORTING)
    core.tethered(kl15=True)
    for _ in range(20):
        core.see(hint(core, SUPPLY, "psu", kl15=False, vehicle_mv=9000))
        core.dock(0.4, kl15=True)
    assert core.state.ignition.state is IgnitionState.ON
    assert core.state.ignition.crank is None, "two meters that differ are no crank"


def test_hints_can_be_kept_out_of_ignition() -> None:
    core = Core(replace(REPORTING, ignition=replace(REPORTING.ignition, hints=False)))
    core.start()
    core.see(hint(core, SUPPLY, "psu", kl15=True, vehicle_mv=12_400))
    core.run(5)
    assert core.state.ignition.state is IgnitionState.UNKNOWN


def test_a_word_older_than_the_last_says_nothing() -> None:
    core = Core(ALLOWING)
    core.start()
    old = hint(core, LINES, "cradle", seated=True)
    core.run(1)
    core.see(hint(core, LINES, "cradle", seated=False))
    core.see(replace(old, at=BootNs(core.now - SECOND)))
    core.run(1)
    assert not core.usable()
