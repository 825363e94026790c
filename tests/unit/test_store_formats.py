"""Files of older formats are brought up to date, whatever interrupts it; newer ones are refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agent.core.records import Stream
from sync import schema
from sync.errors import StoreError
from sync.store import Store
from tests.disk_shim import Shim
from tests.store_rig import Rig, read_all, state

OLD = Path(__file__).parents[1] / "old_files"
FILES = sorted(path.stem for path in OLD.glob("*.db"))


def fetched(name: str, folder: Path) -> Rig:
    """A copy of an old file with its log, as a kill left them."""
    folder.mkdir(exist_ok=True)
    for end in (".db", ".db-wal"):
        shutil.copy(OLD / f"{name}{end}", folder / f"queue{end}")
    rig = Rig(folder / "queue.db", sealed="sealed" in name)
    rig.boot = 7
    return rig


def check(store: Store, name: str) -> None:
    """All that the old file held is there."""
    said = json.loads((OLD / f"{name}.json").read_text())
    assert store.damaged is None
    assert store.epoch.hex() == said["epoch"]
    assert store.remembered == said["remembered"].encode()
    for stream, stats in store.stats().items():
        expected = said["streams"][stream.value]
        assert (stats.head.seq, stats.head.hash.hex()) == (expected["last"], expected["hash"])
        assert stats.acked.seq == expected["acked"]
        assert list(read_all(store, stream).rows) == list(range(1, stats.head.seq + 1))


def format_of(path: Path) -> tuple[int, int]:
    """Version and kind of auto_vacuum."""
    db = sqlite3.connect(path)
    found = db.execute("PRAGMA user_version").fetchone()[0], db.execute("PRAGMA auto_vacuum").fetchone()[0]
    db.close()
    return found


def test_there_are_files_of_every_format_before_this_one() -> None:
    assert {name.split("-")[1] for name in FILES} == {str(n) for n in range(1, schema.VERSION)}


@pytest.mark.parametrize("name", FILES)
def test_an_old_file_is_brought_up_to_date_once_and_keeps_everything(name: str, tmp_path: Path) -> None:
    rig = fetched(name, tmp_path)
    for _ in range(2):
        store = rig.open()
        check(store, name)
        store.close()
        assert format_of(rig.path) == (schema.VERSION, 2)
    store = rig.open()
    last = store.heads()[Stream.STATE].seq
    assert store.append([state(rig.clock.boot_ns)]) == {Stream.STATE: last + 1}
    assert max(read_all(store, Stream.STATE).rows) == last + 1
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_kill_at_any_write_of_it_loses_nothing(name: str, tmp_path: Path, shim: Shim) -> None:
    """Every fifth write, until one run needs fewer; each kill comes on top of what the ones before left."""
    killed = 0
    path = tmp_path / "once" / "queue.db"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.unit.test_store_formats", path, str("sealed" in name)],
        env=shim.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdin is not None
        assert program.stdout is not None
        for number in range(1, 2_000, 5):
            rig = fetched(name, tmp_path / "once")
            program.stdin.write(f"{number}\n")
            program.stdin.flush()
            ended = int(program.stdout.readline())
            if ended == 0:
                break
            assert ended == -signal.SIGKILL
            killed += 1
            store = rig.open()
            check(store, name)
            store.close()
            assert format_of(rig.path) == (schema.VERSION, 2)
        program.stdin.close()
    assert killed > 12, "the kills were in the middle of it"


@pytest.mark.parametrize("name", FILES)
def test_without_room_for_it_the_old_file_works_as_it_is(name: str, tmp_path: Path, shim: Shim) -> None:
    rig = fetched(name, tmp_path)
    log = rig.path.with_name("queue.db-wal").stat().st_size
    came = subprocess.run(
        [sys.executable, "-m", "tests.unit.test_store_formats", rig.path, str("sealed" in name)],
        env=shim.environment(full_at=log + 20_000), input="0\n", text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert came.stdout == "0\n"
    assert format_of(rig.path) == (1, 0)
    store = rig.open()
    check(store, name)
    store.close()
    assert format_of(rig.path) == (schema.VERSION, 2)


@pytest.mark.parametrize("version", [schema.VERSION + 1, 99])
def test_a_newer_file_is_refused_and_not_touched(version: int, tmp_path: Path) -> None:
    rig = Rig(tmp_path / "queue.db")
    rig.open().close()
    db = sqlite3.connect(rig.path)
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    before = rig.path.read_bytes()
    said = f"has format {version}, newer than {schema.VERSION}: install the agent that wrote it"
    with pytest.raises(StoreError, match=said):
        rig.open()
    assert rig.path.read_bytes() == before


def main(path: Path, sealed: bool) -> None:
    """Open the file once for each number read, in a child that ends at that write of its (0: at none)."""
    for number in map(int, sys.stdin):
        if (pid := os.fork()) == 0:
            status = 1
            try:
                os.environ["IVMA_DISK_KILL"] = str(number)
                Rig(path, sealed=sealed, boot=7).open().close()
                status = 0
            finally:
                os._exit(status)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "True")
