"""A damaged queue: what can be read is in the fresh file, and the alarms count exactly what is not."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.records import Stream
from sync.errors import StoreError
from sync.store import MIN_QUOTA, Store
from tests.store_rig import Read, Rig, alarm, audit, noise, read_all, sample, state

PAGE = 1024
PER_STREAM = 60


def lived(folder: Path, *, sealed: bool = False, acked: int = 0, closed: bool = True) -> Rig:
    """A queue with blocks of one page and of many in each stream; not closed, its log is still beside it."""
    rig = Rig(folder / "queue.sqlite", sealed=sealed)
    store = rig.open()
    for n in range(1, PER_STREAM + 1):
        rig.clock.advance(1)
        store.append([alarm(n), audit(n), state(n, noise(rig.random, 3_000 if n % 5 == 0 else 200))])
        store.append([sample(n)])
        if n == acked:
            for stream, head in store.heads().items():
                store.acknowledge(stream, store.epoch, head)
    if closed:
        store.close()
        return rig
    copy = Rig(folder / "copy" / "queue.sqlite", rig.clock, sealed=sealed)
    copy.path.parent.mkdir()
    for suffix in ("", "-wal"):
        copy.path.with_name(f"queue.sqlite{suffix}").write_bytes(
            rig.path.with_name(f"queue.sqlite{suffix}").read_bytes()
        )
    store.close()
    return copy


def alarms(store: Store) -> dict[str, dict[str, object]]:
    rows = read_all(store, Stream.ALARM).rows.values()
    return {str(row.fields["stream"]): row.fields for row in rows if row.kind == "queue.damaged"}


def opened(rig: Rig) -> Store:
    """The store after damage, which a read may have to come upon."""
    store = rig.open()
    for stream in Stream:
        if store.damaged is None:
            try:
                read_all(store, stream)
            except StoreError:
                assert store.damaged is not None
    assert store.damaged is not None
    store.stats()  # opens the fresh file, whose epoch is not known before
    return store


def account(store: Store, *, known: int = PER_STREAM) -> dict[Stream, Read]:
    """Everything saved is as it was written, and saved and lost make up what there was."""
    found = {stream: read_all(store, stream) for stream in Stream}
    told = alarms(store)
    assert set(told) == {stream.value for stream in Stream}
    for stream, read in found.items():
        said = told[stream.value]
        rows = {seq: row for seq, row in read.rows.items() if row.kind != "queue.damaged"}
        assert {seq: row.at for seq, row in rows.items()} == {seq: seq for seq in rows}
        assert len(rows) == said["saved"]
        gaps = [(first, last) for first, last, reason in read.gaps if reason == "damage"]
        assert sum(last - first + 1 for first, last in gaps) == said["lost"]
        assert isinstance(said["acked"], int)
        assert isinstance(said["upto"], int)
        assert said["acked"] + len(rows) + sum(last - first + 1 for first, last in gaps) == said["upto"]
        assert said["upto"] <= known
    return found


def flip(rig: Rig, seed: int, pages: int) -> None:
    source = random.Random(seed)
    content = bytearray(rig.path.read_bytes())
    for page in source.sample(range(len(content) // PAGE), pages):
        content[page * PAGE + source.randrange(PAGE)] ^= 1 << source.randrange(8)
    rig.path.write_bytes(content)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_file_whose_first_page_is_gone_loses_no_record(tmp_path: Path, sealed: bool) -> None:
    rig = lived(tmp_path, sealed=sealed)
    with rig.path.open("r+b") as file:
        file.write(bytes(PAGE))
    store = opened(rig)
    account(store)
    assert {said["lost"] for said in alarms(store).values()} == {0}
    assert {said["saved"] for said in alarms(store).values()} == {PER_STREAM}
    assert store.append([state(99)]) == {Stream.STATE: PER_STREAM + 1}
    store.close()
    store = rig.open()
    assert store.damaged is None
    store.close()


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bits_cost_the_rows_they_are_in(tmp_path: Path, seed: int) -> None:
    rig = lived(tmp_path, sealed=bool(seed % 2))
    flip(rig, seed, 4)
    with rig.path.open("r+b") as file:  # so that it is noticed, whatever the bits were
        file.write(bytes(16))
    store = opened(rig)
    found = account(store)
    assert sum(len(read.rows) for read in found.values()) > 4 * PER_STREAM - 80
    store.close()


def test_pages_of_zeros_are_holes_with_a_gap_each(tmp_path: Path) -> None:
    rig = lived(tmp_path)
    pages = rig.path.stat().st_size // PAGE
    with rig.path.open("r+b") as file:
        file.write(bytes(16))
        for page in range(20, pages, 25):
            file.seek(page * PAGE)
            file.write(bytes(PAGE))
    store = opened(rig)
    found = account(store)
    assert any(read.gaps for read in found.values())
    assert sum(len(read.rows) for read in found.values()) > 2 * PER_STREAM
    store.close()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_keeps_what_is_left(tmp_path: Path, share: float) -> None:
    rig = lived(tmp_path)
    os.truncate(rig.path, int(rig.path.stat().st_size * share))
    store = opened(rig)
    account(store)
    store.close()


def test_what_is_in_the_log_only_is_saved_too_beyond_a_bad_frame(tmp_path: Path) -> None:
    """The log's checksum covers all frames before one: the rows behind a bad one are as good as ever."""
    rig = lived(tmp_path, closed=False)
    log = rig.path.with_name("queue.sqlite-wal")
    content = bytearray(log.read_bytes())
    content[32 + 10 * (24 + PAGE) + 700] ^= 0x10
    log.write_bytes(content)
    rig.path.rename(rig.path.with_name("queue.sqlite.damaged-1"))
    store = rig.open()
    account(store)
    assert sum(int(str(said["saved"])) for said in alarms(store).values()) > 4 * PER_STREAM - 10
    store.close()


def test_a_lost_log_beside_a_damaged_file_is_survived(tmp_path: Path) -> None:
    rig = lived(tmp_path, closed=False)
    rig.path.with_name("queue.sqlite-wal").unlink()
    with rig.path.open("r+b") as file:
        file.write(bytes(PAGE))
    store = opened(rig)
    account(store)
    store.close()


def test_what_the_depot_has_is_not_sent_again(tmp_path: Path) -> None:
    rig = lived(tmp_path, acked=40)
    with rig.path.open("r+b") as file:
        file.write(bytes(PAGE))
    store = opened(rig)
    found = account(store)
    assert {said["acked"] for said in alarms(store).values()} == {40}
    for stream in Stream:
        assert found[stream].gaps[0][:2] == (1, 40)
        assert found[stream].gaps[0][2].startswith("at the depot already, in epoch ")
        assert min(found[stream].rows) == 41
    store.close()


@pytest.mark.parametrize(
    "content", [b"", b"SQLite format 3\0", b"\0" * 5_000, random.Random(1).randbytes(9_000)]
)
def test_a_file_of_anything_is_kept_and_a_fresh_one_begins(tmp_path: Path, content: bytes) -> None:
    rig = Rig(tmp_path / "queue.sqlite")
    rig.path.write_bytes(content)
    store = rig.open()
    if content:
        assert store.damaged == "queue.sqlite.damaged-1"
        assert rig.path.with_name("queue.sqlite.damaged-1").read_bytes() == content
        assert {said["saved"] for said in alarms(store).values()} == {0}
    assert store.append([state(1)]) == {Stream.STATE: 1}
    store.close()


def test_a_database_of_another_program_is_not_written_into(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "queue.sqlite")
    db = sqlite3.connect(rig.path)
    db.execute("CREATE TABLE notes (text TEXT)")
    db.execute("INSERT INTO notes VALUES ('not ours')")
    db.commit()
    db.close()
    content = rig.path.read_bytes()
    store = rig.open()
    assert store.damaged == "queue.sqlite.damaged-1"
    kept = sqlite3.connect(rig.path.with_name(store.damaged))
    assert [name for (name,) in kept.execute("SELECT name FROM sqlite_master")] == ["notes"]
    kept.close()
    assert content[:16] == b"SQLite format 3\0"
    store.close()


def test_a_folder_in_its_place_is_told_with_what_was_expected(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "queue.sqlite")
    rig.path.mkdir()
    with pytest.raises(StoreError, match=r"queue\.sqlite: cannot be opened: .*expected a file that user"):
        rig.open()


def test_gaps_of_before_stay_gaps_with_their_reason(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "queue.sqlite")
    rig.quotas[Stream.STATE] = MIN_QUOTA
    store = rig.open()
    for n in range(1, 400):
        store.append([state(n, noise(rig.random, 8_000))])
    before = read_all(store, Stream.STATE)
    store.close()
    with rig.path.open("r+b") as file:
        file.write(bytes(PAGE))
    store = opened(rig)
    after = read_all(store, Stream.STATE)
    assert [gap[2] for gap in before.gaps] == ["quota"]
    assert after.gaps == before.gaps
    assert set(after.rows) == set(before.rows)
    assert alarms(store)["state"]["lost"] == 0
    store.close()


def test_rows_altered_at_the_end_of_a_stream_are_counted_to_the_last(tmp_path: Path) -> None:
    rig = lived(tmp_path)
    db = sqlite3.connect(rig.path)
    db.execute("UPDATE state SET block = CAST(substr(block, 1, 90) || x'00' AS BLOB) WHERE seq > ?", (57,))
    db.commit()
    db.close()
    store = opened(rig)
    found = account(store)[Stream.STATE]
    said = alarms(store)["state"]
    assert (said["saved"], said["lost"], said["first_lost"], said["last_lost"]) == (57, 3, 58, 60)
    assert found.gaps == [(58, 60, "damage")]
    assert store.append([state(99)]) == {Stream.STATE: 61}
    store.close()


STEPS: list[Callable[[Rig], object]] = [
    lambda rig: rig.path.rename(rig.path.with_name("queue.sqlite.damaged-1")),
    lambda rig: rig.path.with_name("queue.sqlite.new").write_bytes(b"half of it"),
    lambda rig: rig.path.with_name("queue.sqlite.new-journal").write_bytes(b"half of it"),
]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_salvage_that_was_interrupted_is_made_by_the_next_start(tmp_path: Path, steps: int) -> None:
    """The log, too, which has not followed its file yet, is found."""
    rig = lived(tmp_path, closed=False)
    for step in STEPS[:steps]:
        step(rig)
    store = rig.open()
    assert store.damaged == "queue.sqlite.damaged-1"
    account(store)
    assert {said["saved"] for said in alarms(store).values()} == {PER_STREAM}
    store.close()
    assert sorted(path.name for path in rig.path.parent.iterdir()) == [
        "queue.sqlite", "queue.sqlite.damaged-1", "queue.sqlite.damaged-1-wal", "queue.sqlite.lock",
    ]  # fmt: skip
