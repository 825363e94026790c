"""The same seed gives the same history: again in one process, in another, and for any number of jobs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.core.types import BootNs
from simulator import compose_soak
from simulator.faults.registry import families
from simulator.history_command import first_difference
from simulator.virtual.history import History, ToldHistory
from simulator.virtual.lives import HOUR
from simulator.virtual.plan import DECISIONS, WIRES, Plan

HOURS = 2
# In the first two hours of these lives every family of faults comes; in that of 29 the disk fails a commit.
SEEDS = (11, 29)


def sim(*arguments: str) -> str:
    command = [sys.executable, "-m", "simulator", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lived(seed: int, fidelity: str, hours: int) -> str:
    compose_soak.quieten()
    plan = Plan(seed, 1, fidelity, tuple(families()), "quiet")
    drive = compose_soak.Drive(plan)
    return drive.run(stop=lambda _violations, now: now >= hours * HOUR).digest


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_two_processes_in_which_sets_have_another_order(seed: int) -> None:
    sim(
        "history", "--twice", "--seed", str(seed), "--habits", "quiet", "--hours", str(HOURS),
        "--faults", ",".join(families()),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fidelity", [WIRES, DECISIONS])
def test_one_process_in_which_another_world_was_before(fidelity: str) -> None:
    first = lived(29, fidelity, 1)
    assert lived(11, fidelity, 1) != first
    assert lived(29, fidelity, 1) == first


def test_a_history_that_is_told_has_the_same_hash() -> None:
    quiet, told = History(), ToldHistory(lambda line: None)
    for history in (quiet, told):
        history.wire(b"abc")
        history.note(BootNs(1), "power", "on")
    assert quiet.digest() == told.digest()


def test_the_number_of_jobs_changes_nothing(tmp_path: Path) -> None:
    reports = []
    for jobs in ("1", "2"):
        file = tmp_path / jobs
        sim(
            "soak", "--vehicles", "3", "--seed", "5", "--fidelity", DECISIONS, "--habits", "quiet",
            "--jobs", jobs, "--report", str(file), "--failures", str(tmp_path),
        )  # fmt: skip
        reports.append(json.loads(file.read_text()))
    assert reports[0]["histories"] == reports[1]["histories"]
    assert [*reports[0]["histories"]] == ["5", "6", "7"]
    assert reports[0]["history"] == reports[1]["history"]


def test_where_two_histories_differ_is_shown(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text('[1,"power","on"]\n[2,"Lock"]\n[3,"power","off"]\n')
    other.write_text('[1,"power","on"]\n[2,"Release"]\n')
    told = [*first_difference(one, other)]
    assert told[0].startswith("the first 1 entries are the same")
    assert told[1:] == ['    [1,"power","on"]', '  1 [2,"Lock"]', '  2 [2,"Release"]']
    other.write_text('[1,"power","on"]\n')
    assert [*first_difference(one, other)][-1] == "  2 the end"
