"""The timeline: readable with and without colours."""

from __future__ import annotations

import io
from typing import Literal

import pytest
from rich.console import Console

from agent.core.types import SECOND, BootNs
from simulator.play import Verdict
from simulator.scenario import parse
from simulator.timeline import Lane, Timeline

SCENARIO = parse(
    """
name = "short"
about = "a test"
[[step]]
do = "undock"
say = "without a permit"
needs = ["logind"]
expect = { posture = "locked", within = "1 s" }
"""
)


def printed(*, terminal: bool) -> str:
    sink = io.StringIO()
    colours: Literal["standard", "auto"] = "standard" if terminal else "auto"
    console = Console(file=sink, force_terminal=terminal, width=120, highlight=False, color_system=colours)
    ticks = iter(range(100))
    timeline = Timeline(SCENARIO, lambda: BootNs(next(ticks) * SECOND), console)
    (step,) = SCENARIO.steps
    (expectation,) = step.expectations
    with timeline:
        timeline.heading({"broker": "one"})
        timeline.show(Lane.VEHICLE, "state", "parked")
        timeline.show(Lane.VEHICLE, "state", "parked")
        timeline.step(step)
        timeline.show(Lane.DOCK, "seat", "unseated", alarming=True)
        timeline.verdict(Verdict(step, expectation, True, 12_000_000, ""))
        timeline.verdict(Verdict(step, expectation, False, SECOND, "posture was usable"))
        timeline.skipped(step)
        timeline.table("What came of it", {"lost": "0"})
    return sink.getvalue()


def test_without_a_terminal_it_is_plain_text_in_columns() -> None:
    lines = [line.rstrip() for line in printed(terminal=False).splitlines()]
    assert "\x1b" not in "".join(lines)
    assert lines[:2] == ["short: a test", "  broker    one"]
    assert lines.count("    1.00  parked") == 1, "what did not change is not told again"
    dock = next(line for line in lines if "unseated" in line)
    assert dock.index("unseated") == lines[3].index("dock")
    assert "    2.00  ▶ undock: without a permit" in lines
    assert any("✓ posture locked within 1 s (12 ms)" in line for line in lines)
    assert any("✗ posture locked within 1 s: posture was usable (1,000 ms)" in line for line in lines)
    assert any(line.endswith("(left out: needs logind)") for line in lines)
    assert lines[-1].split() == ["lost", "0"]


def test_on_a_terminal_it_has_colours_and_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = printed(terminal=True)
    assert "\x1b[1;31munseated" in text
    assert "1/1" in text


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m" not in printed(terminal=True)
