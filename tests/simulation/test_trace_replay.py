"""Replay: the traces of tests/traces/ decide what they decided; what differs is said; no key is in them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from agent.core.policy import Policy
from agent.replay import replay
from agent.trace_format import Damage, Entry, Head, Step, Wire, encode, read, read_path, repack
from drivers.docks.reference.auth import session_key
from drivers.docks.reference.codec import Challenge, Decoder, Frame, Proof
from simulator.__main__ import main as ivma_sim
from simulator.compose_replay import replay_wires
from tests.traces import library, update
from tests.traces.library import Trace
from tests.traces.scripts import SCRIPTS
from tests.traces.stage import Stage

COMPRESS = zstandard.ZstdCompressor().compress
NAMES = library.names()


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of tests/traces/ that the update command works on."""
    for file in library.FOLDER.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    return tmp_path


def entries_of(name: str) -> list[Entry]:
    return [entry for entry in Trace(name).entries() if not isinstance(entry, Damage)]


def write(path: Path, entries: list[Entry]) -> Path:
    path.write_bytes(repack(entries, COMPRESS))
    return path


def without_a_lock(entries: list[Entry]) -> list[Entry]:
    """The same trace, as a core would have made it that does not lock."""
    return [
        Step(entry.kind, entry.observation, [each for each in entry.effects if each[0] != "Lock"])
        if isinstance(entry, Step)
        else entry
        for entry in entries
    ]


# --- the regression -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_trace_decides_what_it_decided(name: str) -> None:
    trace = Trace(name)
    outcome = replay(trace.entries())
    told = "\n".join(line for difference in outcome.differences for line in difference.text())
    assert not told, f"python -m tests.traces.update {name} shows and renews this:\n{told}"
    assert (outcome.skipped, outcome.gaps, outcome.problems) == (0, 0, [])
    assert outcome.steps > 100
    text = "".join(f"{line}\n" for line in library.decisions(trace.entries()))
    assert trace.reference.read_text() == text, f"python -m tests.traces.update {name}"


@pytest.mark.parametrize("name", NAMES)
def test_its_wire_says_what_it_said(name: str) -> None:
    trace = Trace(name)
    wires = list(replay_wires(trace.entries(), trace.docks()))
    assert [wire.difference for wire in wires] == [""] * len(wires)
    assert sum(wire.seen for wire in wires) > 100


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_makes_the_same_trace_each_time(name: str) -> None:
    assert SCRIPTS[name]() == SCRIPTS[name]()


def test_the_traces_go_through_what_matters() -> None:
    steps = [entry for name in NAMES for entry in entries_of(name) if isinstance(entry, Step)]
    effects = {name for step in steps for name, _ in step.effects}
    assert effects >= {"Lock", "Release", "RequestPower", "AllowSleep", "DriveOutputs", "CutPowerIn", "Prove"}
    assert {step.kind for step in steps} >= {
        "CanSignal",
        "DockForeign",
        "DockLinkLost",
        "TabletPower",
        "Started",
    }


# --- differences ----------------------------------------------------------------------------------


def test_the_command_says_that_all_is_the_same(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ivma_sim(["replay", str(copy / "reference-dock.trace")]) == 0
    assert "decisions: the same; " in capsys.readouterr().out


def test_a_decision_that_differs_is_shown_field_by_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = write(tmp_path / "t", without_a_lock(entries_of("reference-dock")))
    assert ivma_sim(["replay", str(trace), "--all"]) == 1
    out = capsys.readouterr().out
    assert "+1 Lock.cause.rule = 'tether.unseated'" in out
    assert "DockStatus" in out
    assert "steps differ; " in out


def test_only_the_first_differences_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = entries_of("reference-dock")
    wrong = [
        Step(e.kind, e.observation, [("Shed", {"on": True})]) if isinstance(e, Step) else e for e in entries
    ]
    assert ivma_sim(["replay", str(write(tmp_path / "t", wrong))]) == 1
    assert "more steps differ; --all shows them" in capsys.readouterr().out


@pytest.mark.parametrize("act", ["in", "out"])
def test_a_wire_that_differs_is_shown_with_its_bytes(act: str) -> None:
    entries = entries_of("reference-dock")
    at = [n for n, entry in enumerate(entries) if isinstance(entry, Wire) and entry.act == act][20]
    hurt = entries[at]
    assert isinstance(hurt, Wire)
    entries[at] = Wire(hurt.dock, hurt.act, hurt.at, bytes([hurt.what[0] ^ 1]) + hurt.what[1:])
    differences = [wire.difference for wire in replay_wires(entries, Trace("reference-dock").docks())]
    assert any("recorded: " in each and "replayed: " in each for each in differences)


@pytest.mark.parametrize("content", [b"", b"no trace", bytes(100)])
def test_what_is_no_trace_is_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t").write_bytes(content)
    assert ivma_sim(["replay", str(tmp_path / "t")]) == 2
    assert ivma_sim(["replay", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.count("ivma-sim replay: ") == 2


def test_a_trace_without_its_beginning_or_with_a_hole_is_replayed_from_the_next_head(tmp_path: Path) -> None:
    entries = entries_of("reference-dock")
    begins = [n for n, entry in enumerate(entries) if isinstance(entry, Head)]
    assert len(begins) > 1
    outcome = replay(entries[5:])
    assert (outcome.skipped > 0, outcome.steps > 0, outcome.differences) == (True, True, [])
    raw = bytearray(write(tmp_path / "t", entries).read_bytes())
    raw[200] ^= 1
    outcome = replay(read(bytes(raw)))
    assert (outcome.gaps, outcome.skipped > 0, outcome.differences) == (1, True, [])


def test_entries_of_another_version_are_left_out_by_name(tmp_path: Path) -> None:
    entries = entries_of("reference-dock")
    entries.insert(20, Step("Weather", {"at": 1}, []))
    outcome = replay(entries)
    (problem,) = outcome.problems
    assert "an observation 'Weather', which this version does not know" in problem
    assert outcome.skipped > 1


# --- the update command ---------------------------------------------------------------------------


def test_an_update_shows_what_changes_and_writes_after_a_yes(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (copy / "shift.trace").read_bytes()
    write(copy / "shift.trace", without_a_lock(entries_of("shift")))
    old = (copy / "shift.trace").read_bytes()
    monkeypatch.setattr("builtins.input", lambda _question: "n")
    assert update.main(["shift"]) == 1
    assert (copy / "shift.trace").read_bytes() == old
    assert "+1 Lock.decision = 1" in capsys.readouterr().out
    assert update.main(["shift", "--yes"]) == 0
    assert list(read_path(copy / "shift.trace")) == list(read(good))
    assert update.main([]) == 0
    assert "nothing changes" in capsys.readouterr().out


# --- what is not in a trace -----------------------------------------------------------------------


def plain(raw: bytes) -> bytes:
    """Everything that a trace holds, uncompressed."""
    return b"".join(encode(entry) for entry in read(raw) if not isinstance(entry, Damage))


def session_keys(raw: bytes, key: bytes) -> Iterator[bytes]:
    """The session keys that somebody could compute who has the pairing key."""
    nonce = b""
    for entry in read(raw):
        if isinstance(entry, Wire) and isinstance(entry.what, bytes):
            for item in Decoder().feed(entry.what):
                if isinstance(item, Frame) and isinstance(item.message, Challenge):
                    nonce = item.message.nonce
                elif isinstance(item, Frame) and isinstance(item.message, Proof):
                    yield session_key(key, nonce, item.message.dock_nonce)


def test_no_key_is_in_a_trace() -> None:
    key = hashlib.sha256(b"a pairing key without zeros").digest()
    stage = Stage(key, Policy())
    stage.put(seated=True, mated=True, kl15=True, vehicle_mv=12_500, dock_mv=12_000, tablet_ma=900)
    stage.start()
    stage.run(65)
    stage.recorder.flush()
    raw = stage.pile.file()
    keys = [key, *session_keys(raw, key)]
    assert len(keys) > 3
    text = plain(raw)
    for secret in keys:
        assert secret not in text
        assert secret.hex().encode() not in text
        assert secret[:16] not in text
    assert stage.dock.in_session()


def test_the_configured_docks_are_replayed_through_their_sessions(
    tmp_path: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dock.key").write_text(bytes(range(32)).hex())
    config = tmp_path / "agent.toml"
    config.write_text(
        '[device]\nfleet = "met"\nname = "t"\n[[dock]]\nport = "/dev/ttyX"\nserial = "DK-000042"\n'
        f'vehicle_id = "WV1ZZZ7HZNH000042"\nkey_file = "{tmp_path / "dock.key"}"\n'
    )
    arguments = ["replay", str(copy / "reference-dock.trace"), "--config", str(config)]
    assert ivma_sim(arguments) == 0
    assert "wire of dock: the same; " in capsys.readouterr().out
    (tmp_path / "dock.key").write_text(bytes(32).hex())
    assert ivma_sim(arguments) == 1
    assert "wire of dock: it differs" in capsys.readouterr().out
