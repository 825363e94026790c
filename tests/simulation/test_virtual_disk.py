"""The simulated disk loses what it may lose and nothing else, and refuses as a real one does."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.virtual.disk import SECTOR, Change, File, Operation
from tests.disk_rig import disk_at
from tests.store_rig import Rig, alarm

# --- what a cut leaves of one file ------------------------------------------------------------------

CHANGES = st.one_of(
    st.builds(Change, st.integers(0, 3_000), st.binary(min_size=1, max_size=1_500)),
    st.builds(Change, st.integers(0, 3_000), st.none()),
)


def padded(content: bytes, size: int) -> bytes:
    return content[:size].ljust(size, b"\0")


def after(content: bytes, change: Change) -> bytes:
    """A file's content after a change, in the plainest way."""
    if change.data is None:
        return content[: change.offset]
    head = padded(content, change.offset)
    return head + change.data + content[change.offset + len(change.data) :]


def changed(base: bytes, changes: list[Change]) -> File:
    file = File(-1, bytearray(base), len(base))
    for change in changes:
        if change.data is None and change.offset > file.size:
            continue
        file.pending.append(change)
        file.size = change.end(file.size)
    return file


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3_000), st.lists(CHANGES, max_size=8), st.integers(0, 1 << 32))
def test_every_sector_is_as_it_was_at_some_moment_since_the_sync(
    base: bytes, changes: list[Change], seed: int
) -> None:
    file = changed(base, changes)
    moments = [base]
    for change in file.pending:
        moments.append(after(moments[-1], change))
    left = file.after_cut(random.Random(seed), torn=True)
    assert len(left) in {len(moment) for moment in moments}
    for start in range(0, len(left), SECTOR):
        size = min(SECTOR, len(left) - start)
        assert left[start : start + size] in {padded(moment[start:], size) for moment in moments}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3_000), st.lists(CHANGES, max_size=5), st.integers(0, 1 << 32))
def test_untorn_writes_arrive_whole_or_not_at_all(base: bytes, changes: list[Change], seed: int) -> None:
    file = changed(base, changes)
    possible = {base}
    for change in file.pending:
        possible |= {after(content, change) for content in possible}
    assert file.after_cut(random.Random(seed), torn=False) in possible


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3_000), st.lists(CHANGES, max_size=8), st.booleans())
def test_what_was_synced_is_certain(base: bytes, changes: list[Change], torn: bool) -> None:
    file = changed(base, changes)
    expected = base
    for change in file.pending:
        expected = after(expected, change)
    file.sync()
    assert file.after_cut(random.Random(1), torn=torn) == expected


def test_nothing_all_and_torn_pages_are_all_met() -> None:
    old, new = b"o" * 4 * SECTOR, b"n" * 4 * SECTOR
    file = changed(old, [Change(0, new)])
    met = {file.after_cut(random.Random(seed), torn=True) for seed in range(100)}
    assert {old, new} < met
    assert len(met) > 8
    assert {file.after_cut(random.Random(seed), torn=False) for seed in range(100)} == {old, new}


def test_the_same_seed_loses_the_same() -> None:
    file = changed(b"", [Change(n * 300, bytes([n]) * 700) for n in range(20)])
    assert file.after_cut(random.Random(7), torn=True) == file.after_cut(random.Random(7), torn=True)


# --- SQLite on it -----------------------------------------------------------------------------------


def opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE IF NOT EXISTS t (x)")
    return db


def count(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM t").fetchone()[0])


def written_and_cut(folder: Path, synchronous: str, seed: int) -> int:
    """How many of ten rows a power cut leaves."""
    with disk_at(folder) as disk:
        db = opened(folder / "db")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        for n in range(10):
            db.execute("INSERT INTO t VALUES (?)", (n,))
        disk.stop()
        db.close()
        disk.power_cut(random.Random(seed))
    return count(folder / "db")


def test_a_synced_commit_survives_a_cut_and_another_does_not(tmp_path: Path) -> None:
    assert {written_and_cut(tmp_path / f"full-{n}", "FULL", n) for n in range(20)} == {10}
    assert len({written_and_cut(tmp_path / f"off-{n}", "OFF", n) for n in range(20)}) > 2


def test_a_killed_process_loses_nothing_that_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "disk" / "db"
    with disk_at(path.parent) as disk:
        db = opened(path)
        db.execute("PRAGMA synchronous = OFF")
        db.execute("INSERT INTO t VALUES (1)")
        disk.stop()
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            db.execute("INSERT INTO t VALUES (2)")
        db.close()
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            sqlite3.connect(path).execute("SELECT * FROM t")
        disk.go_on()
        assert count(path) == 1


def test_the_next_process_must_not_begin_before_the_last_one_is_gone(tmp_path: Path) -> None:
    with disk_at(tmp_path / "disk") as disk:
        db = opened(tmp_path / "disk" / "db")
        disk.stop()
        with pytest.raises(RuntimeError, match="close the database first"):
            disk.go_on()
        db.close()
        disk.go_on()


@pytest.mark.parametrize(
    ("knob", "error"),
    [("full", "SQLITE_FULL"), ("read_only", "SQLITE_IOERR_WRITE"), ("io_errors", "SQLITE_IOERR_WRITE")],
)
def test_a_disk_refuses_as_the_kernel_does(tmp_path: Path, knob: str, error: str) -> None:
    with disk_at(tmp_path / "disk") as disk:
        db = opened(tmp_path / "disk" / "db")
        setattr(disk, knob, True)
        with pytest.raises(sqlite3.OperationalError) as refused:
            db.execute("INSERT INTO t VALUES (zeroblob(100000))")
        assert refused.value.sqlite_errorname == error
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
        setattr(disk, knob, False)
        db.execute("INSERT INTO t VALUES (1)")
        db.close()
        assert count(tmp_path / "disk" / "db") == 1


def test_a_file_opened_on_a_read_only_disk_is_read_only(tmp_path: Path) -> None:
    with disk_at(tmp_path / "disk") as disk:
        with contextlib.closing(sqlite3.connect(tmp_path / "disk" / "db")) as db:
            db.execute("CREATE TABLE t (x)")
        disk.read_only = True
        with contextlib.closing(sqlite3.connect(tmp_path / "disk" / "db")) as db:
            assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                db.execute("INSERT INTO t VALUES (1)")


def test_a_full_disk_has_room_within_its_files(tmp_path: Path) -> None:
    with disk_at(tmp_path / "disk") as disk:
        db = sqlite3.connect(tmp_path / "disk" / "db", isolation_level=None)
        db.execute("PRAGMA journal_mode = MEMORY")
        db.execute("CREATE TABLE t (x)")
        disk.full = True
        db.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            db.execute("INSERT INTO t VALUES (zeroblob(100000))")
        db.close()


def test_what_a_sync_failed_to_write_no_later_sync_writes(tmp_path: Path) -> None:
    """As Linux has it: the pages count as clean, can be read, and are gone with the power."""
    path = tmp_path / "disk" / "file"
    with disk_at(path.parent) as disk:
        path.write_bytes(b"old")
        file = disk.opened(path, 0)
        assert disk.write(file, 0, b"new") == sqlite3.SQLITE_OK
        disk.io_errors = True
        assert disk.sync(file) == sqlite3.SQLITE_IOERR_FSYNC
        disk.io_errors = False
        assert disk.sync(file) == sqlite3.SQLITE_OK
        assert path.read_bytes() == b"new"
        disk.closed(file)
        disk.power_cut(random.Random(1))
        assert path.read_bytes() == b"old"


def test_a_slow_disk_tells_how_long_it_took_and_does_not_take_it(tmp_path: Path) -> None:
    with disk_at(tmp_path / "disk") as disk:
        db = opened(tmp_path / "disk" / "db")
        assert disk.take_spent_ns() == 0
        disk.slow_ns = 3_600_000_000_000
        db.execute("INSERT INTO t VALUES (1)")
        assert disk.take_spent_ns() == 3_600_000_000_000
        assert disk.take_spent_ns() == 0
        db.close()


def test_a_name_lasts_once_the_folder_was_synced(tmp_path: Path) -> None:
    """SQLite syncs the folder with the first sync of a new log. A closed database deletes it without."""
    path = tmp_path / "disk" / "db"
    with disk_at(path.parent) as disk:
        syncs = 0

        def count_syncs(operation: Operation) -> None:
            nonlocal syncs
            syncs += operation is Operation.SYNC
            if syncs == 0:
                assert {} in [disk.after_cut(random.Random(seed)) for seed in range(20)]

        disk.on_operation = count_syncs
        db = opened(path)
        db.execute("INSERT INTO t VALUES (1)")
        assert syncs > 0
        assert all(set(disk.after_cut(random.Random(seed))) == {"db", "db-wal"} for seed in range(20))
        db.close()
        left = [set(disk.after_cut(random.Random(seed))) for seed in range(20)]
        assert {"db"} in left
        assert {"db", "db-wal"} in left


def test_a_renamed_file_is_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "disk" / "db"
    with disk_at(path.parent) as disk:
        opened(path).close()
        path.rename(path.with_name("db.old"))
        disk.stop()
        left = [set(disk.after_cut(random.Random(seed))) for seed in range(20)]
        assert any("db.old" in names for names in left)
        assert any("db" in names for names in left)


def test_other_files_and_later_times_are_not_touched(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    with disk_at(tmp_path / "disk") as disk:
        disk.io_errors = True
        with contextlib.closing(opened(elsewhere)) as db:
            db.execute("INSERT INTO t VALUES (1)")
    assert count(elsewhere) == 1
    with contextlib.closing(opened(tmp_path / "disk" / "db")) as db:
        db.execute("INSERT INTO t VALUES (1)")
    assert count(tmp_path / "disk" / "db") == 1


def test_two_disks_at_a_time_are_two_disks(tmp_path: Path) -> None:
    with disk_at(tmp_path / "one") as one, disk_at(tmp_path / "two") as two:
        first, second = opened(tmp_path / "one" / "db"), opened(tmp_path / "two" / "db")
        one.full = True
        with pytest.raises(sqlite3.OperationalError, match="full"):
            first.execute("INSERT INTO t VALUES (zeroblob(100000))")
        second.execute("INSERT INTO t VALUES (zeroblob(100000))")
        first.close()
        second.close()
        assert two.take_spent_ns() == 0


def test_a_defect_in_a_watcher_is_not_swallowed(tmp_path: Path) -> None:
    """SQLite can only be told of an error; it is raised where the disk is let go."""

    def fail(operation: Operation) -> None:
        raise ValueError("planted")

    def use() -> None:
        with disk_at(tmp_path / "disk") as disk:
            db = sqlite3.connect(tmp_path / "disk" / "db", isolation_level=None)
            disk.on_operation = fail
            with contextlib.suppress(sqlite3.OperationalError):
                db.execute("CREATE TABLE t (x)")
            db.close()

    with pytest.raises(ValueError, match="planted"):
        use()
    with disk_at(tmp_path / "disk"):
        opened(tmp_path / "disk" / "db").close()


def commit_s(folder: Path) -> float:
    """The time of the best of many commits of the store."""
    folder.mkdir(exist_ok=True)
    store = Rig(folder / "queue.sqlite", sealed=True).open()
    best = 1.0
    for n in range(200):
        begun = time.perf_counter()
        store.append([alarm(n)])
        best = min(best, time.perf_counter() - begun)
    store.close()
    return best


def test_a_commit_takes_at_most_three_times_as_long_as_without(tmp_path: Path) -> None:
    plain = commit_s(tmp_path / "plain")
    with disk_at(tmp_path / "disk"):
        assert commit_s(tmp_path / "disk") < 3 * plain
