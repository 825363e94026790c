"""`ivma-sim soak` as a user runs it: a report, an exit code, and the same for the same seed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def soak(folder: Path, name: str) -> dict[str, Any]:
    report = folder / name
    command = [
        sys.executable, "-m", "simulator", "soak", "--fidelity", "decisions", "--habits", "quiet",
        "--vehicles", "1", "--days", "1", "--seed", "3", "--jobs", "1", "--shrink", "0",
        "--report", str(report), "--failures", str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    loaded: dict[str, Any] = json.loads(report.read_text())
    return loaded


def test_a_vehicle_day_with_faults_violates_nothing_and_is_the_same_again(tmp_path: Path) -> None:
    first, second = soak(tmp_path, "a"), soak(tmp_path, "b")
    assert first["fidelity"] == "decisions"
    for timing in {key for key in first if first[key] != second[key]}:
        assert isinstance(first[timing], float), timing  # only how long it took
