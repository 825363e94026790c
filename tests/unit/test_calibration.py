"""Calibration: what a meter says at rest and under load becomes offset and cable, for every later voltage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.calibration import FILE, Calibration
from agent.control import Caller, Peer, Refusal
from agent.core.records import Record
from agent.core.types import MS, BootNs, DockStatus
from tests.core_driver import status

ROOT = Caller(Peer(1, 0, frozenset()), lambda _step: None)
TRUE_OFFSET_MV, CABLE_MOHM = 180, 120


class Bench:
    """A vehicle whose battery is known, a dock that measures less than that, and a meter."""

    def __init__(self, folder: Path) -> None:
        self.at = BootNs(0)
        self.records: list[Record] = []
        self.folder = folder
        self.calibration = self.again()

    def again(self) -> Calibration:
        """A restart of the agent."""
        self.calibration = Calibration(self.folder, self.records.append, lambda: self.at)
        return self.calibration

    def say(self, battery_mv: int, ma: int | None, count: int = 30, **values: Any) -> int:
        """STATUS for 6 s; the voltage that the core got last."""
        raw = battery_mv - TRUE_OFFSET_MV - CABLE_MOHM * (ma or 0) // 1000
        got = 0
        for _ in range(count):
            self.at = BootNs(self.at + 200 * MS)
            seen = self.calibration.applied(
                status(self.at, **({"vehicle_mv": raw, "tablet_ma": ma} | values))
            )
            assert isinstance(seen, DockStatus)
            got = seen.vehicle_mv or 0
        return got

    def ask(self, caller: Caller = ROOT, **args: object) -> Mapping[str, Any]:
        answer = self.calibration.verbs()["vehicle.calibrate"].run(args, caller)
        assert isinstance(answer, dict)
        return answer


def test_rest_and_load_give_offset_and_cable_and_every_later_voltage_is_the_batterys(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.say(12_640, 200)
    bench.ask(rest_mv=12_640)
    bench.say(12_600, 2200)
    answer = bench.ask(load_mv=12_600)
    assert abs(answer["cable_mohm"] - CABLE_MOHM) <= 2
    assert abs(answer["offset_mv"] - TRUE_OFFSET_MV) <= 2
    for battery_mv, ma in [(12_400, 500), (11_900, 3000), (14_200, 0)]:
        assert abs(bench.say(battery_mv, ma) - battery_mv) <= 6
        bench.again()
    steps = [record.as_dict()["step"] for record in bench.records]
    assert steps == ["rest", "load"]
    assert bench.records[-1].as_dict()["meter_mv"] == 12_600


def test_undo_takes_it_all_back_for_good(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.say(12_640, 200)
    bench.ask(rest_mv=12_640)
    assert bench.say(12_640, 200) == 12_640
    bench.ask(undo=True)
    assert bench.say(12_640, 200) == 12_640 - TRUE_OFFSET_MV - 24
    bench.again()
    assert bench.say(12_640, 200) == 12_640 - TRUE_OFFSET_MV - 24
    last = bench.records[-1].as_dict()
    assert (last["step"], last["offset_mv"], last["meter_mv"]) == ("undo", 0, None)
    assert last["offset_before_mv"] != 0


def test_another_dock_and_a_hint_are_left_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.say(12_640, 200)
    bench.ask(rest_mv=12_640)
    for values in ({"dock": "other"}, {"authenticated": False}):
        seen = status(bench.at, vehicle_mv=12_000, **values)
        assert bench.calibration.applied(seen) is seen


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "expected one of"),
        ({"rest_mv": 12_600, "undo": True}, "expected one of"),
        ({"rest_mv": 126}, "rest_mv: expected 6000"),
        ({"rest_mv": 12.6}, "rest_mv: expected 6000"),
        ({"rest_mv": 24_800}, "that would be"),
        ({"load_mv": 12_600}, "not measured at rest"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(tmp_path: Path, args: Any, words: str) -> None:
    bench = Bench(tmp_path)
    bench.say(12_640, 200)
    with pytest.raises(Refusal, match=words):
        bench.ask(**args)
    assert bench.records == []
    assert not (tmp_path / FILE).exists()


def test_under_load_there_must_be_a_load(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.say(12_640, 200)
    bench.ask(rest_mv=12_640)
    bench.say(12_640, 300)
    with pytest.raises(Refusal, match="the tablet takes 300 mA"):
        bench.ask(load_mv=12_640)
    bench.say(12_640, 2000)
    with pytest.raises(Refusal, match="nearer to the dock"):
        bench.ask(load_mv=12_300)


def test_only_root_and_only_what_is_steady(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(Refusal, match="0 times in 5 s"):
        bench.ask(rest_mv=12_600)
    bench.say(12_640, 200)
    with pytest.raises(Refusal, match="only root"):
        bench.ask(Caller(Peer(1, 1000, frozenset()), lambda _step: None), rest_mv=12_640)
    bench.say(12_300, 200, count=3)
    with pytest.raises(Refusal, match="moved by"):
        bench.ask(rest_mv=12_640)


def test_a_disk_that_takes_nothing_changes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "gone")
    bench.say(12_640, 200)
    with pytest.raises(Refusal, match="No such file"):
        bench.ask(rest_mv=12_640)
    assert bench.say(12_640, 200) == 12_640 - TRUE_OFFSET_MV - 24
    assert bench.records == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"dock": {"offset_mv": 9000}}', '{"dock": {"offset_mv": "1"}}', '{"dock": 1}']
)
def test_a_bad_file_applies_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    bench = Bench(tmp_path)
    assert bench.say(12_640, 200) == 12_640 - TRUE_OFFSET_MV - 24
    assert bench.calibration.status() == {}


def test_the_file_is_private_and_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.say(12_640, 200)
    bench.ask(rest_mv=12_640)
    file = tmp_path / FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert (
        json.loads(file.read_text())["dock"]["offset_mv"] == bench.calibration.status()["dock"]["offset_mv"]
    )
