"""A dock with control lines only: what its levels mean, debounce, pulses, outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CommandOutcome,
    DockCommandDone,
    DockHint,
    DriveOutputs,
    HintKind,
    LinkLoss,
    Observation,
)
from drivers.docks.control_lines.codec import Input, LookDecoder
from drivers.docks.control_lines.session import REPEAT_NS, ControlLinesSession
from drivers.docks.control_lines.wiring import Wiring
from drivers.spec import DockSettings
from simulator.docks.control_lines import ControlLinesDock

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/control_lines.json").read_text())
OPTIONS = {"seated": "dsr", "mated": "!cts", "latch": "dtr", "led": "!rts", "debounce_ms": 50}


class Bench:
    """A session and the dock at the other end, in virtual time."""

    def __init__(self, **options: Any) -> None:
        self.session = ControlLinesSession(DockSettings("cradle", options=OPTIONS | options), bytes)
        self.dock = ControlLinesDock(
            {"dsr": "seated", "cts": "!mated", "dtr": "latch", "rts": "!led"},
            switches={"seated": True, "mated": True},
        )
        self.at = BootNs(10 * SECOND)
        self.session.link_up(self.at)
        self.carry()

    def carry(self) -> None:
        data = self.session.outgoing()
        if data:
            from drivers.docks.control_lines.codec import decode_set

            outputs = decode_set(data)
            assert outputs is not None
            self.dock.drive(outputs)

    def look(self, after_ms: int = 0, moved: Input | None = None) -> list[Observation]:
        self.at = BootNs(self.at + after_ms * MS)
        return self.session.feed(self.dock.look(Input(0) if moved is None else moved), self.at)

    def pass_time(self, ms: int) -> list[Observation]:
        self.at = BootNs(self.at + ms * MS)
        return self.session.timer(self.at)


def hints(seen: list[Observation]) -> list[DockHint]:
    return [each for each in seen if isinstance(each, DockHint)]


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["name"])
def test_levels_mean_what_the_wiring_says(vector: dict[str, Any]) -> None:
    options = VECTORS["wiring"] | {"debounce_ms": 0}
    session = ControlLinesSession(DockSettings("cradle", options=options), bytes)
    session.link_up(BootNs(0))
    (hint,) = hints(session.feed(bytes.fromhex(vector["bytes"]), BootNs(1)))
    assert hint.kind is HintKind.LINES
    for name in ("seated", "mated", "kl15", "supply_ok"):
        assert getattr(hint, name) is vector[name]
    assert hint.locked is None, "there is no line for it"


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: vector["name"])
def test_what_is_no_look_is_dropped_and_counted(vector: dict[str, Any]) -> None:
    decoder = LookDecoder()
    assert list(decoder.feed(bytes.fromhex(vector["bytes"]))) == []
    assert decoder.dropped[vector["reason"]] >= 1
    assert len(list(decoder.feed(bytes.fromhex("8200")))) == 1, "the next whole look is read"


@pytest.mark.parametrize("vector", VECTORS["set"], ids=lambda vector: vector["byte"])
def test_outputs_have_their_polarity(vector: dict[str, Any]) -> None:
    session = ControlLinesSession(DockSettings("cradle", options=VECTORS["wiring"]), bytes)
    session.link_up(BootNs(0))
    session.outgoing()
    session.drive(DriveOutputs(**vector["outputs"]), BootNs(1))
    assert session.outgoing().hex() == vector["byte"]


def test_a_bounce_shorter_than_the_debounce_is_no_change() -> None:
    bench = Bench()
    assert hints(bench.look()) == []
    assert [hint.seated for hint in hints(bench.pass_time(50))] == [True]
    for _ in range(10):
        bench.dock.put(seated=not bench.dock.switches["seated"])
        assert hints(bench.look(after_ms=20)) == []
    bench.dock.put(seated=False)
    bench.look(after_ms=20)
    deadline = bench.session.next_deadline()
    assert deadline == bench.at + 50 * MS
    assert [hint.seated for hint in hints(bench.pass_time(50))] == [False]


def test_a_hint_is_said_again_with_each_look_after_a_while_and_never_without_one() -> None:
    bench = Bench(debounce_ms=0)
    assert len(hints(bench.look())) == 1
    assert hints(bench.look(after_ms=500)) == []
    assert len(hints(bench.look(after_ms=500))) == 1
    assert hints(bench.pass_time(10 * REPEAT_NS // MS)) == [], "a port that hangs says nothing"


def test_a_line_that_has_moved_is_not_said_again_as_it_was_while_it_is_debounced() -> None:
    """It would make evidence fresh that the last look denies."""
    bench = Bench(debounce_ms=2000)
    bench.look()
    assert len(hints(bench.pass_time(2000))) == 1
    bench.dock.put(seated=False)
    for _ in range(4):
        assert hints(bench.look(after_ms=480)) == []
    assert [hint.seated for hint in hints(bench.look(after_ms=600))] == [False]


def test_a_pulse_between_two_looks_is_counted_and_told_of() -> None:
    bench = Bench(debounce_ms=0)
    bench.look()
    bench.look(after_ms=300, moved=Input.DSR)
    assert bench.session.counters().values["pulses"] == 1
    (hint,) = hints(bench.look(after_ms=700))
    assert (hint.seated, hint.detail) == (True, "a pulse on DSR")
    assert hints(bench.look(after_ms=1000))[0].detail == "", "told once"


def test_an_output_is_done_when_it_is_read_back_and_lost_when_it_is_not() -> None:
    bench = Bench(debounce_ms=0)
    bench.look()
    bench.session.drive(DriveOutputs(latch=True, led=True, power_hold=True), bench.at)
    assert [each for each in bench.look() if isinstance(each, DockCommandDone)] == [], "not set yet"
    bench.carry()
    assert bench.dock.parts() == {"latch": True, "led": True}
    (done,) = [each for each in bench.look() if isinstance(each, DockCommandDone)]
    assert (done.command, done.outcome) == ("outputs", CommandOutcome.DONE)

    bench.session.drive(DriveOutputs(latch=False), bench.at)  # and nobody sets it
    (lost,) = [each for each in bench.pass_time(1000) if isinstance(each, DockCommandDone)]
    assert lost.outcome is CommandOutcome.LOST
    assert bench.session.next_deadline() is None


def test_a_model_without_an_output_is_asked_nothing() -> None:
    session = ControlLinesSession(DockSettings("cradle", options={"seated": "dsr"}), bytes)
    session.link_up(BootNs(0))
    session.outgoing()
    session.drive(DriveOutputs(latch=True), BootNs(1))
    session.cut_power(30, BootNs(1))
    assert session.outgoing() == b""
    assert session.next_deadline() is None


def test_the_power_cut_line_is_asserted_until_it_is_taken_back() -> None:
    options = {"seated": "dsr", "power_cut": "!rts"}
    session = ControlLinesSession(DockSettings("cradle", options=options), bytes)
    session.link_up(BootNs(0))
    assert session.outgoing().hex() == "42", "not cut, on an inverted line"
    session.cut_power(30, BootNs(1))
    assert session.outgoing().hex() == "40"
    session.cut_power(None, BootNs(2))
    assert session.outgoing().hex() == "42"


def test_outputs_come_back_with_the_port() -> None:
    bench = Bench()
    bench.session.drive(DriveOutputs(latch=True, led=True), bench.at)
    bench.session.link_lost(bench.at, LinkLoss.UNPLUGGED)
    bench.session.link_up(bench.at)
    bench.carry()
    assert bench.dock.parts() == {"latch": True, "led": True}


def test_a_dock_without_power_asserts_nothing_whatever_the_polarity() -> None:
    bench = Bench(debounce_ms=0)
    bench.look()
    bench.dock.power(False)
    (hint,) = hints(bench.look())
    assert (hint.seated, hint.mated) == (False, True), "an inverted sense reads true on a dead dock"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"latch": "dtr"}, "no line means anything"),
        ({"seated": "cts", "led": "dtr", "buzzer": "!dtr"}, "same line"),
    ],
)
def test_a_wiring_that_cannot_be_is_refused(options: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Wiring.of(options)
