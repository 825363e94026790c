"""The page of several soaks: what all of them left unmet is named; a violation gives exit status 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simulator.__main__ import main
from simulator.faults.registry import registry


def a_report(fidelity: str, never: list[str], failures: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "fidelity": fidelity, "code": "0.1.0, commit abc", "machine": "2 cores",
        "options": {"vehicles": 2, "days": 1, "seed": 5, "faults": None, "habits": "", "jobs": 1},
        "simulated_s": 172_800.0, "wall_s": 10.0, "history": "ff", "histories": {"5": "aa", "6": "bb"},
        "records": {"attempted": 7, "delivered": 7}, "cells_reached": 3, "cells_never": never,
        "faults": {"unplug": 2}, "faults_never": [name for name in registry() if name != "unplug"],
        "failures": failures,
    }  # fmt: skip


def page(folder: Path, *reports: dict[str, Any]) -> tuple[int, str]:
    files = []
    for number, report in enumerate(reports):
        files.append(folder / f"{number}.json")
        files[-1].write_text(json.dumps(report))
    status = main(["report", *map(str, files), "--out", str(folder / "page.md")])
    return status, (folder / "page.md").read_text()


def test_what_one_fidelity_met_is_not_called_unmet(tmp_path: Path) -> None:
    one = a_report("wires", ["power: awake, Drained", "power: run_on, Drained"], [])
    other = a_report("decisions", ["power: run_on, Drained", "power: run_on, DockHint"], [])
    status, text = page(tmp_path, one, other)
    assert status == 0
    assert "4.0 vehicle-days" in text
    assert "Cells, 1 of them" in text
    assert "In no state at all: Drained" in text
    assert "unplug 4" in text
    assert (
        "vehicles 2, days 1, seed 5, faults drawn from the seed, habits drawn from the seed, jobs 1" in text
    )
    assert text.rstrip().endswith("None.")


def test_a_violation_is_on_the_page_with_the_command_that_replays_it(tmp_path: Path) -> None:
    failure = {
        "seed": 6,
        "violations": ["12.0 s  7 OneRecordEach: twice"],
        "replay": "ivma-sim replay x.json",
    }
    status, text = page(tmp_path, a_report("wires", [], [failure]))
    assert status == 1
    assert "- seed 6: 12.0 s  7 OneRecordEach: twice" in text
    assert "`ivma-sim replay x.json`" in text


def test_a_file_that_is_no_report_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert main(["report", str(tmp_path / "x.json")]) == 2
    assert "x.json: not a report" in capsys.readouterr().err
