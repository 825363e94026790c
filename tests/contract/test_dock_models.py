"""Every registered dock model brings what docs/adding-a-dock.md asks for, and keeps a session's contract."""

from __future__ import annotations

import importlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.types import (
    SECOND,
    BootNs,
    CommandOutcome,
    DockCommandDone,
    DockLinkLost,
    DockLinkUp,
    DockProof,
    DockStatus,
    DriveOutputs,
    LinkLoss,
)
from agent.trace_format import Step
from drivers import registry
from drivers.spec import Capability, DockSession, DockSettings, DockSpec, PortKind
from simulator.compose_replay import replay_wires
from tests.traces import library
from tests.traces.library import Trace

ROOT = Path(__file__).parents[2]
MODELS = registry.names(registry.DOCKS)
# What the tables of models that need one say.
OPTIONS: dict[str, dict[str, object]] = {
    "control-lines": {"seated": "dsr", "latch": "dtr", "poll_ms": 200},
    "usb-presence": {"vendor": "1209", "product": "0d0c"},
}


@dataclass(frozen=True)
class Parts:
    """Where a model keeps what it must bring along. A new model adds its line to ``PARTS``."""

    page: str
    vectors: str


PARTS = {
    "reference": Parts("docs/dock-link.md", "tests/vectors/dock_link.json"),
    "control-lines": Parts("docs/docks.md", "tests/vectors/control_lines.json"),
    "usb-presence": Parts("docs/docks.md", "tests/vectors/usb_presence.json"),
    "dock-switch": Parts("docs/docks.md", "tests/vectors/dock_switch.json"),
    "dcdc-usb": Parts("docs/docks.md", "tests/vectors/dcdc_usb.json"),
}


def load(model: str) -> DockSpec:
    spec = registry.load(registry.DOCKS, model)
    assert isinstance(spec, DockSpec)
    return spec


def build(model: str) -> DockSession:
    settings = DockSettings("yard", "DK-1", "VIN-1", bytes(range(32)), options=OPTIONS.get(model, {}))
    return load(model).build(settings, random.Random(1).randbytes)


def package(model: str) -> str:
    return model.replace("-", "_")


def test_there_is_a_registered_model() -> None:
    assert "reference" in MODELS


@pytest.mark.parametrize("model", MODELS)
def test_a_model_brings_its_parts(model: str) -> None:
    spec = load(model)
    assert spec.model == model
    assert (spec.baud > 0) is (spec.port is PortKind.SERIAL)
    assert importlib.import_module(f"drivers.docks.{package(model)}.codec").__doc__
    assert importlib.import_module(f"simulator.docks.{package(model)}").__doc__
    assert model in PARTS, f"{model}: add its page and vectors to PARTS of this test"
    vectors = json.loads((ROOT / PARTS[model].vectors).read_text())
    assert vectors["valid"]
    assert vectors["invalid"]
    page = (ROOT / PARTS[model].page).read_text()
    assert len(page) > 1000
    assert model in page


@pytest.mark.parametrize("model", MODELS)
def test_a_model_has_a_trace_that_says_the_same_again(model: str) -> None:
    assert load(model).scrub is not None, f"{model}: say in its spec what is secret on its wire"
    traces = [trace for trace in map(Trace, library.names()) if model in trace.models()]
    assert traces, f"{model}: record a trace, see tests/traces/"
    for trace in traces:
        wires = list(replay_wires(trace.entries(), trace.docks()))
        assert [wire.difference for wire in wires] == [""] * len(wires)
        assert sum(wire.calls for wire in wires) > 0
        sends = {name for name, dock in trace.docks().items() if dock.spec.port.sends}
        assert all(wire.sent > 0 for wire in wires if wire.dock in sends and wire.calls > 10)


@pytest.mark.parametrize("model", MODELS)
def test_a_session_reports_its_link_and_loses_commands_with_it(model: str) -> None:
    session = build(model)
    assert session.name == "yard"
    assert session.outgoing() == b""
    assert session.link_up(BootNs(0)) == [DockLinkUp(BootNs(0), "yard")]
    assert bool(session.outgoing()) is load(model).port.sends
    assert session.outgoing() == b""
    session.drive(DriveOutputs(latch=True), BootNs(1))
    seen = session.link_lost(BootNs(2), LinkLoss.UNPLUGGED)
    assert seen[0] == DockLinkLost(BootNs(2), "yard", LinkLoss.UNPLUGGED)
    done = [each for each in seen if isinstance(each, DockCommandDone)]
    asked = Capability.LATCH in load(model).capabilities
    assert [each.outcome for each in done] == ([CommandOutcome.LOST] if asked else [])
    assert session.next_deadline() is None


@pytest.mark.parametrize("model", MODELS)
@given(chunks=st.lists(st.binary(max_size=400), max_size=12))
@settings(max_examples=50, deadline=None)
def test_a_session_takes_any_bytes_and_proves_nothing_from_them(model: str, chunks: list[bytes]) -> None:
    session = build(model)
    at = BootNs(0)
    session.link_up(at)
    for chunk in chunks:
        at = BootNs(at + SECOND // 10)
        seen = [*session.feed(chunk, at), *session.timer(at)]
        session.outgoing()
        deadline = session.next_deadline()
        assert deadline is None or deadline > at
        assert not [each for each in seen if isinstance(each, DockProof)]
        assert not [each for each in seen if isinstance(each, DockStatus) and each.authenticated]


@pytest.mark.parametrize("model", MODELS)
def test_a_model_without_a_key_reports_hints_and_nothing_else(model: str) -> None:
    """Its whole trace: no proof, no STATUS, and every hint of the kind that its policy is about."""
    if Capability.PROOF in load(model).capabilities:
        return
    (trace,) = [trace for trace in map(Trace, library.names()) if model in trace.models()]
    names = {name for name, dock in trace.docks().items() if dock.spec.model == model}
    said = [
        entry
        for entry in trace.entries()
        if isinstance(entry, Step) and entry.observation.get("dock") in names
    ]
    assert {entry.kind for entry in said} <= {"DockHint", "DockLinkUp", "DockLinkLost", "DockCommandDone"}
    kinds = {entry.observation["kind"] for entry in said if entry.kind == "DockHint"}
    assert len(kinds) == 1


def test_a_name_that_nobody_registered_is_refused_with_those_that_are() -> None:
    with pytest.raises(registry.NotRegisteredError, match=r"`refrence` is not registered.*reference"):
        registry.load(registry.DOCKS, "refrence")
