"""What an officer is shown for what the agent says; what is missing never says that the tablet is usable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.core import tether_rules
from agent.core.types import MS, SECOND, BootNs
from agent.notice.view import KINDS, SILENT, Report, render, report
from agent.notice.words import ENGLISH, WordsError, load
from tests.control_rig import STATUS
from tests.notice_rig import NO_GRANTS

NOW = BootNs(50 * SECOND)
WORDS = load()


def said(
    state: str, *, usable: bool = False, left_ms: int | None = None, rule: str = "x",
    grants: dict[str, Any] | None = None,
) -> Report:  # fmt: skip
    held = {**STATUS["tether"], "state": state, "usable": usable, "ride_through_ms_left": left_ms}
    told = {"tether": held, "grants": {**NO_GRANTS, **(grants or {})}}
    return report({**told, "rule": rule, "because": "in the agent's words"}, NOW)


@pytest.mark.parametrize("state", ["uncertain", "restricted", "foreign", "unknown"])
def test_a_locked_state_says_why_what_to_do_and_offers_the_override(state: str) -> None:
    view = render(said(state), WORDS, NOW)
    assert view["kind"] == ("restricted" if state == "uncertain" else state)
    assert view["why"] == "In the agent's words."
    assert any("dock" in step for step in view["steps"])
    assert view["override"]["left"] == 2
    assert view["countdown"] is None


def test_the_reason_is_that_of_the_rule_in_the_words_of_the_language() -> None:
    assert (
        render(said("restricted", rule="tether.unseated"), WORDS, NOW)["why"]
        == WORDS.rules["tether.unseated"]
    )


def test_every_rule_that_can_decide_a_locked_tether_has_its_words() -> None:
    rules = {row.rule for row in tether_rules.TABLE} - {"tether.proven", tether_rules.BY_HINT}
    assert rules <= set(WORDS.rules)


def test_the_ride_through_is_counted_down_from_a_boot_time() -> None:
    uncertain = said("uncertain", usable=True, left_ms=3600)
    assert uncertain.until == NOW + 3600 * MS
    assert render(uncertain, WORDS, BootNs(NOW + 600 * MS))["countdown"]["left_ms"] == 3000
    assert render(uncertain, WORDS, BootNs(NOW + SECOND * 60))["countdown"]["left_ms"] == 0


@pytest.mark.parametrize(
    ("grants", "kind", "left_ms"),
    [
        ({"state": "override", "override_s_left": 800}, "override", 800_000),
        ({"state": "permit and override", "override_s_left": 8, "permit": {"s_left": 500}}, "override", 8000),
        ({"state": "permit", "permit": {"s_left": 3000}}, "permit", 3_000_000),
    ],
)
def test_a_grant_is_shown_with_its_time_and_offers_nothing_more(
    grants: dict[str, Any], kind: str, left_ms: int
) -> None:
    view = render(said("restricted", usable=True, grants=grants), WORDS, NOW)
    assert (view["kind"], view["countdown"]["left_ms"]) == (kind, left_ms)
    assert (view["override"], view["code"]) == (None, None)


def test_a_grant_that_does_not_make_usable_is_not_shown_as_one() -> None:
    assert said("foreign", grants={"state": "permit", "permit": {"s_left": 9}}).kind == "foreign"


def test_docked_is_said_only_of_a_tablet_that_is_usable() -> None:
    assert said("tethered", usable=True).kind == "docked"
    assert said("tethered").kind == "unknown"


def test_an_agent_without_grants_is_offered_none() -> None:
    held = {**STATUS["tether"], "state": "restricted", "usable": False}
    view = render(report({"tether": held, "rule": "x", "because": "y"}, NOW), WORDS, NOW)
    assert (view["override"], view["code"]) == (None, None)


def test_a_challenge_is_shown_in_groups_until_it_is_over_and_a_wait_counts_down() -> None:
    asked = said(
        "restricted", grants={"challenge": {"challenge": "7Q2M9XKD", "s_left": 10}, "code_wait_s": 30}
    )
    code = render(asked, WORDS, NOW)["code"]
    assert (code["challenge"], code["wait_ms"]) == ("7Q2M-9XKD", 30_000)
    later = render(asked, WORDS, BootNs(NOW + 10 * SECOND))["code"]
    assert (later["challenge"], later["wait_ms"]) == ("", 20_000)


@pytest.mark.parametrize(
    "told",
    [{}, {"tether": {}}, {"tether": {"state": "open", "usable": True}},
     {"tether": {"state": "uncertain", "usable": True, "ride_through_ms_left": None}},
     {"tether": {"state": "restricted", "usable": True}, "grants": {"state": "override"}}],
)  # fmt: skip
def test_what_is_not_understood_is_an_error_and_never_a_usable_tablet(told: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        report({"rule": "", "because": "", **told}, NOW)


def test_silence_says_that_the_tablet_locks_and_offers_nothing() -> None:
    view = render(SILENT, WORDS, NOW)
    assert "locks, or stays locked" in view["why"]
    assert (view["override"], view["code"], view["countdown"]) == (None, None, None)


def test_every_kind_has_a_title_of_its_own() -> None:
    assert len({getattr(WORDS.states, kind).title for kind in KINDS}) == len(KINDS)


def test_a_language_that_lacks_or_misspells_a_key_is_refused_by_name(tmp_path: Path) -> None:
    text = ENGLISH.read_text()
    for wrong, what in (
        (text.replace("what_to_do =", "what_todo ="), "what_to"),
        (text.replace('title = "Wrong dock"', ""), "title"),
        ("= 1", "at line 1"),
    ):
        file = tmp_path / "xx.toml"
        file.write_text(wrong)
        with pytest.raises(WordsError, match=what):
            load(file)
    with pytest.raises(WordsError, match="cannot be read"):
        load(tmp_path / "none.toml")
