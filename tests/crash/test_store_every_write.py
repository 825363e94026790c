"""A write, sync, rename or unlink of all that a store does ends the process, or fails: each, by `make crash`.

IVMA_CRASH_STEP=1 tries every operation; without it the tests take every twelfth.

The operations are the C library's, so SQLite's and our own are counted alike. Then another process opens what
is left: everything that was acknowledged is there, nothing is there twice, and numbers have no hole. A kill
leaves what was written; tests/crash/test_store_power_cut.py takes away what was not synced. After an error
that passes the store goes on, and has kept everything.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.records import Stream
from tests.crash.every_write import OVER
from tests.disk_shim import Shim
from tests.store_rig import Rig, read_all

STEP = os.environ.get("IVMA_CRASH_STEP", "12")


def check(folder: Path, journal: Path) -> None:
    attempted: dict[Stream, set[int]] = {stream: set() for stream in Stream}
    told: dict[Stream, dict[int, int]] = {stream: {} for stream in Stream}
    depot = dict.fromkeys(Stream, 0)
    damaged = False
    for line in journal.read_text().splitlines():
        word, name, *numbers = line.split()
        match word, Stream(name), list(map(int, numbers)):
            case "try", of, [at]:
                attempted[of].add(at)
            case "ack", of, [at, seq]:
                assert seq not in told[of], "a number was given twice"
                told[of][seq] = at
            case "depot", of, [seq]:
                depot[of] = seq
            case "damaged", _, _:
                damaged = True
    rig = Rig(folder / "queue.sqlite", sealed=True, boot=9)
    store = rig.open()
    assert damaged or store.damaged is None
    for stream in Stream:
        found = read_all(store, stream)
        gone = max([0, *(last for _, last, reason in found.gaps if reason.startswith("at the depot"))])
        assert [gap for gap in found.gaps if not gap[2].startswith("at the depot")] == []
        assert gone <= depot[stream]
        begin = min(found.rows, default=1)
        assert begin <= depot[stream] + 1
        assert list(found.rows) == list(range(begin, begin + len(found.rows)))
        rows = {seq: row.at for seq, row in found.rows.items() if not row.kind.startswith("queue.")}
        assert {seq: rows.get(seq) for seq in told[stream] if seq >= begin} == {
            seq: at for seq, at in told[stream].items() if seq >= begin
        }
        there = list(rows.values())
        assert there == sorted(set(there)), "nothing twice, nothing out of order"
        assert set(there) <= attempted[stream]
    store.close()


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder where a sync costs nothing, if there is such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("mode", ["kill", "fail"])
def test_a_kill_or_an_error_at_an_operation_loses_nothing(scratch: Path, shim: Shim, mode: str) -> None:
    files, journals = scratch / "disk", scratch / "journals"
    files.mkdir()
    journals.mkdir()
    number = 0
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash.every_write", files, journals, mode, "1", STEP],
        env=Shim(shim.library, files).environment(), stdout=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        for line in program.stdout:
            number, status = map(int, line.split())
            assert status in ((-signal.SIGKILL, OVER) if mode == "kill" else (0, OVER)), f"at {number}"
            try:
                check(files / str(number), journals / str(number))
            except BaseException as error:
                error.add_note(f"operation {number}")
                program.kill()
                raise
            shutil.rmtree(files / str(number))
    assert program.returncode == 0
    assert number > 300
