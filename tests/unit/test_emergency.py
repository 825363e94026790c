"""What takes effect while the store fails is kept in a file of its own, and recorded by the next start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.catalogue import ENFORCEMENT_CHANGED
from agent.core.records import Record
from agent.core.types import SECOND
from agent.emergency import SIZE, EmergencyFile

BOOT = "0123456789abcdef0123456789abcdef"


def released(decision: int) -> Record:
    return ENFORCEMENT_CHANGED.make(
        7 * SECOND, decision=decision, posture="usable", basis="proof", verdict="tethered",
        before="restricted", rule="tether.proven", because="fresh proof", evidence="[]",
    )  # fmt: skip


def kept(path: Path, *decisions: int) -> None:
    """A run that was killed with these in its file."""
    file = EmergencyFile(path, BOOT)
    for decision in decisions:
        file.keep([released(decision)])
    file.close()


def decisions(path: Path) -> list[object]:
    return [left.decision for left in EmergencyFile(path, BOOT).left()]


def test_what_was_kept_is_there_after_a_kill(tmp_path: Path) -> None:
    kept(path := tmp_path / "emergency.log", 3, 4)
    first, _ = EmergencyFile(path, "another").left()
    assert (first.kind, first.boot_id, first.boot_ms) == ("enforcement.changed", BOOT, 7000)
    assert json.loads(first.values)["rule"] == "tether.proven"
    assert first.record(SECOND).kind.name == "record.recovered"
    assert path.stat().st_mode & 0o777 == 0o600


def test_its_room_is_taken_beforehand_and_never_more(tmp_path: Path) -> None:
    file = EmergencyFile(path := tmp_path / "emergency.log", BOOT)
    blocks = path.stat().st_blocks * 512
    assert blocks >= SIZE
    for decision in range(1000):
        file.keep([released(decision)])
    assert path.stat().st_size == SIZE
    assert file.dropped > 0
    assert decisions(path) == list(range(1000 - file.dropped))


def test_what_became_durable_is_forgotten_with_the_last_of_it(tmp_path: Path) -> None:
    file = EmergencyFile(path := tmp_path / "emergency.log", BOOT)
    file.keep([released(1)])
    file.keep([released(2)])
    file.forget()
    assert decisions(path) == [1, 2], "one of them is not durable yet, and nobody says which"
    file.forget()
    assert decisions(path) == []


def test_what_an_earlier_run_left_stays_until_it_is_durable(tmp_path: Path) -> None:
    kept(path := tmp_path / "emergency.log", 1)
    file = EmergencyFile(path, BOOT)
    assert len(file.left()) == 1
    file.keep([released(2)])
    file.forget()
    assert decisions(path) == [1, 2]
    file.forget()
    assert decisions(path) == []


def test_half_a_line_ends_what_can_be_read(tmp_path: Path) -> None:
    kept(path := tmp_path / "emergency.log", 1, 2)
    raw = path.read_bytes()
    second = raw.index(b"\n") + 1
    path.write_bytes(raw[: second + 40] + bytes(SIZE - second - 40))
    assert decisions(path) == [1]


@given(raw=st.binary(max_size=300))
def test_any_bytes_are_survived(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("emergency") / "emergency.log"
    path.write_bytes(raw)
    assert EmergencyFile(path, BOOT).left() == []


def test_a_place_that_takes_nothing_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "emergency.log").symlink_to(tmp_path / "elsewhere")
    file = EmergencyFile(tmp_path / "emergency.log", BOOT)
    file.keep([released(1)])
    assert (file.dropped, file.left()) == (1, [])
    assert not (tmp_path / "elsewhere").exists()
    file.forget()
    file.close()
