"""The store keeps what it took, in order, within its bounds, and says so when it cannot."""

from __future__ import annotations

import os
import random
import resource
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.core.records import Field, PersonalData, Record, RecordKind, Stream
from sync import schema
from sync.blocks import Head, genesis
from sync.errors import LocalProtocolError, StoreError, StoreInUse
from sync.store import MIN_QUOTA, Store
from sync.table import Acked
from tests.store_rig import DEVICE, Rig, alarm, audit, noise, read_all, sample, state


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "queue.sqlite")


@pytest.fixture
def store(rig: Rig) -> Iterator[Store]:
    store = rig.open()
    yield store
    store.close()


def head(store: Store, stream: Stream = Stream.STATE) -> Head:
    return store.heads()[stream]


# --- appending and reading --------------------------------------------------------------------------


def test_each_stream_has_its_own_sequence_from_one(store: Store) -> None:
    assert store.append([sample(1), alarm(2), sample(3)]) == {Stream.TELEMETRY: 1, Stream.ALARM: 1}
    assert store.append([alarm(4), audit(5)]) == {Stream.ALARM: 2, Stream.AUDIT: 1}
    assert {stream: head.seq for stream, head in store.heads().items()} == {
        Stream.ALARM: 2, Stream.AUDIT: 1, Stream.STATE: 0, Stream.TELEMETRY: 2,
    }  # fmt: skip


def test_records_come_back_as_they_went_in(store: Store) -> None:
    records = [sample(1, 12_000), sample(5, 12_100), sample(9, 11_000)]
    store.append(records)
    rows = read_all(store, Stream.TELEMETRY).rows
    assert [(row.at, row.kind, row.version, row.fields) for row in rows.values()] == [
        (record.at, "power.sample", 1, record.as_dict()) for record in records
    ]


def test_sequences_and_chain_go_on_over_restarts_and_boots(rig: Rig) -> None:
    for n in range(6):
        store = rig.open()
        store.append([state(rig.clock.boot_ns)])
        store.close()
        if n % 2:
            rig.reboot()
    store = rig.open()
    assert list(read_all(store, Stream.STATE).rows) == [1, 2, 3, 4, 5, 6]
    store.close()


def test_a_failed_commit_changes_nothing(rig: Rig, store: Store) -> None:
    store.append([state(1)], b"before")
    before = store.stats()
    undeclared = RecordKind(
        "not.declared", Stream.STATE, 1, "", 1, (Field("x", int, "", "1", PersonalData.NONE, ""),)
    )
    with pytest.raises(LocalProtocolError, match=r"not\.declared is not declared in the catalogue"):
        store.append([state(2), undeclared.make(3, x=1)], b"after")
    with pytest.raises(LocalProtocolError, match="cannot be encoded"):
        store.append([state(2), alarm(3, decision=2**70)], b"after")
    assert store.stats() == before
    assert store.remembered == b"before"
    store.append([state(2)])
    assert list(read_all(store, Stream.STATE).rows) == [1, 2]


def test_what_is_remembered_is_the_last_committed(rig: Rig) -> None:
    store = rig.open()
    assert store.remembered is None
    store.append([alarm(1)], b"one")
    store.append([alarm(2)])
    store.append([], b"two")
    store.close()
    store = rig.open()
    assert store.remembered == b"two"
    store.close()


def test_more_than_one_block_can_hold_becomes_several(rig: Rig, store: Store) -> None:
    records = [state(n, noise(rig.random, 200_000)) for n in range(20)]
    assert store.append(records) == {Stream.STATE: 1}
    found = read_all(store, Stream.STATE)
    assert [row.fields["evidence"] for row in found.rows.values()] == [
        r.as_dict()["evidence"] for r in records
    ]


def test_a_run_is_bounded_and_holds_one_block_at_least(store: Store) -> None:
    for n in range(50):
        store.append([state(n)])
    run = store.read_batch(Stream.STATE, 10, 2_000)
    assert run is not None
    assert run.before.seq == 10
    assert sum(map(len, run.blocks)) <= 2_000
    one = store.read_batch(Stream.STATE, 10, 1)
    assert one is not None
    assert (one.before.seq, one.head.seq) == (10, 11)
    assert store.read_batch(Stream.STATE, 50, 2_000) is None


# --- acknowledgements -------------------------------------------------------------------------------


def test_only_the_hash_that_was_committed_acknowledges(store: Store) -> None:
    store.append([state(1)])
    first = head(store)
    store.append([state(2)])
    second = head(store)
    epoch = store.epoch
    assert store.acknowledge(Stream.STATE, epoch, Head(2, first.hash)) is Acked.MISMATCH
    assert store.acknowledge(Stream.STATE, epoch, Head(3, second.hash)) is Acked.MISMATCH
    assert store.stats()[Stream.STATE].pending == 2
    assert store.acknowledge(Stream.STATE, epoch, first) is Acked.ADVANCED
    assert store.acknowledge(Stream.STATE, epoch, first) is Acked.KNOWN
    assert store.acknowledge(Stream.STATE, bytes(8), second) is Acked.GONE
    assert store.stats()[Stream.STATE].pending == 1


def test_an_acknowledgement_is_kept_with_the_next_commit_or_an_orderly_close(rig: Rig) -> None:
    store = rig.open()
    store.append([state(1)])
    store.acknowledge(Stream.STATE, store.epoch, head(store))
    store.close()
    store = rig.open()
    assert store.stats()[Stream.STATE].pending == 0
    store.close()


def test_acknowledged_rows_stay_for_the_time_of_boot_clock_and_survive_a_wall_clock_jump(rig: Rig) -> None:
    rig.keep_acked_s = 100
    store = rig.open()
    for n in range(5):
        store.append([state(n)])
    store.acknowledge(Stream.STATE, store.epoch, head(store))
    rig.clock.wall_ns += 10**18  # thirty years
    store.append([state(6)])
    assert list(read_all(store, Stream.STATE).rows) == [1, 2, 3, 4, 5, 6]
    store.close()
    rig.reboot()  # powered time goes on: 20 s of this boot
    rig.clock.advance(100)
    store = rig.open()
    store.acknowledge(Stream.STATE, store.epoch, head(store))
    store.append([state(7)])
    assert list(read_all(store, Stream.STATE, after=6).rows) == [7]
    assert store.stats()[Stream.STATE].base.seq == 6
    store.close()


def test_the_newest_row_stays_so_that_the_head_does(rig: Rig) -> None:
    rig.keep_acked_s = 0
    store = rig.open()
    store.append([state(1)])
    rig.clock.advance(10)
    before = head(store)
    store.acknowledge(Stream.STATE, store.epoch, before)
    store.close()
    store = rig.open()
    assert head(store) == before
    store.close()


# --- quotas -----------------------------------------------------------------------------------------


def fill(rig: Rig, store: Store, stream_bytes: int, size: int = 8_000) -> None:
    for _ in range(stream_bytes // (size // 2)):
        rig.clock.advance(1)
        store.append([state(rig.clock.boot_ns, noise(rig.random, size))])


def test_a_full_stream_drops_its_oldest_behind_a_gap_and_alarms_once(rig: Rig) -> None:
    rig.quotas[Stream.STATE] = MIN_QUOTA
    store = rig.open()
    fill(rig, store, 2 * MIN_QUOTA)
    store.close()
    store = rig.open()  # the shedding goes on where it was
    fill(rig, store, MIN_QUOTA)
    stats = store.stats()[Stream.STATE]
    assert stats.size <= MIN_QUOTA
    found = read_all(store, Stream.STATE)
    assert len(found.gaps) == 1
    first, last, reason = found.gaps[0]
    assert (first, reason) == (1, "quota")
    assert sorted(found.rows) == list(range(last + 1, stats.head.seq + 1))
    alarms = read_all(store, Stream.ALARM).rows
    assert [(row.kind, row.fields["stream"], row.fields["first_seq"]) for row in alarms.values()] == [
        ("queue.shed", "state", 1)
    ]
    store.close()


def test_a_new_shedding_cycle_begins_when_the_gap_is_acknowledged(rig: Rig) -> None:
    rig.quotas[Stream.STATE] = MIN_QUOTA
    store = rig.open()
    fill(rig, store, 2 * MIN_QUOTA)
    store.acknowledge(Stream.STATE, store.epoch, head(store))
    store.close()
    store = rig.open()
    fill(rig, store, 2 * MIN_QUOTA)
    assert [row.kind for row in read_all(store, Stream.ALARM).rows.values()] == ["queue.shed"] * 2
    store.close()


def test_acknowledged_rows_go_before_anything_is_lost(rig: Rig) -> None:
    rig.quotas[Stream.STATE] = MIN_QUOTA
    store = rig.open()
    fill(rig, store, MIN_QUOTA // 2)
    acked = head(store)
    store.acknowledge(Stream.STATE, store.epoch, acked)
    fill(rig, store, MIN_QUOTA * 3 // 4)
    found = read_all(store, Stream.STATE, after=acked.seq)
    assert found.gaps == []
    assert sorted(found.rows) == list(range(acked.seq + 1, head(store).seq + 1))
    assert store.heads()[Stream.ALARM].seq == 0
    store.close()


def test_an_acknowledgement_of_rows_that_a_gap_replaced_changes_nothing(rig: Rig) -> None:
    rig.quotas[Stream.STATE] = MIN_QUOTA
    store = rig.open()
    store.append([state(1)])
    first = head(store)
    fill(rig, store, 2 * MIN_QUOTA)
    pending = store.stats()[Stream.STATE].pending
    assert store.acknowledge(Stream.STATE, store.epoch, first) is Acked.GONE
    assert store.stats()[Stream.STATE].pending == pending
    store.close()


def test_the_alarm_stream_sheds_too_and_its_own_alarm_fits(rig: Rig) -> None:
    rig.quotas[Stream.ALARM] = MIN_QUOTA
    store = rig.open()
    for n in range(MIN_QUOTA * 9 // 8 // 4_000):
        store.append([alarm(n, rule=noise(rig.random, 8_000))])
    found = read_all(store, Stream.ALARM)
    assert len(found.gaps) == 1
    assert [row.fields["stream"] for row in found.rows.values() if row.kind == "queue.shed"] == ["alarm"]
    assert store.stats()[Stream.ALARM].size <= MIN_QUOTA
    store.close()


def test_the_file_stays_near_the_sum_of_its_quotas(rig: Rig) -> None:
    rig.quotas = dict.fromkeys(Stream, MIN_QUOTA)
    store = rig.open()
    source = random.Random(7)
    for _ in range(3 * MIN_QUOTA // 1_000):
        store.append([state(rig.clock.boot_ns, noise(rig.random, source.randrange(400, 3_000)))])
        store.append([audit(rig.clock.boot_ns, noise(rig.random, source.randrange(400, 3_000)))])
    store.close()
    assert rig.path.stat().st_size < 1.3 * (2 * MIN_QUOTA)


def test_a_large_commit_leaves_no_large_log(rig: Rig) -> None:
    log = rig.path.with_name("queue.sqlite-wal")
    store = rig.open()
    store.append([state(n, noise(rig.random, 400_000)) for n in range(30)])
    assert log.stat().st_size > 3 * schema.LOG_BYTES, "the test needs a large commit"
    store.append([state(31)])
    assert log.stat().st_size <= schema.LOG_BYTES
    store.close()


def test_the_log_stays_small_whatever_is_written(rig: Rig) -> None:
    log = rig.path.with_name("queue.sqlite-wal")
    store = rig.open()
    largest = 0
    for n in range(3_000):
        store.append([state(n, noise(rig.random, 4_000))])
        largest = max(largest, log.stat().st_size)
    assert largest <= schema.LOG_BYTES
    store.close()


def test_the_file_shrinks_when_what_was_in_it_went_and_keeps_room_for_the_next(rig: Rig) -> None:
    rig.keep_acked_s = 0
    store = rig.open()
    fill(rig, store, 12_000_000)
    large = rig.path.stat().st_size
    assert large > 10_000_000
    rig.clock.advance(10)
    store.acknowledge(Stream.STATE, store.epoch, head(store))
    for n in range(100):
        store.append([state(n)])
        rig.clock.advance(1)
        store.acknowledge(Stream.STATE, store.epoch, head(store))
    store.close()
    assert schema.FREE_PAGES * 1024 <= rig.path.stat().st_size < schema.FREE_PAGES * 1024 + 500_000
    store = rig.open()
    assert store.damaged is None
    assert read_all(store, Stream.STATE, after=store.stats()[Stream.STATE].base.seq).head == head(store)
    store.close()


def test_a_quota_that_one_block_could_overfill_is_refused(rig: Rig) -> None:
    rig.quotas[Stream.AUDIT] = MIN_QUOTA - 1
    with pytest.raises(ValueError, match="quota of audit"):
        rig.open()


# --- the file ---------------------------------------------------------------------------------------


def test_a_second_owner_is_refused_by_name(rig: Rig, store: Store) -> None:
    with pytest.raises(StoreInUse, match=f"in use by process {os.getpid()}"):
        rig.open()


def test_the_file_of_another_device_is_refused(rig: Rig) -> None:
    rig.open().close()
    with pytest.raises(StoreError, match="belongs to device 'tablet-1', not 'tablet-2'"):
        rig.open(device="tablet-2")
    rig.open().close()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        Rig(tmp_path / "nowhere" / "queue.sqlite").open()


def test_only_the_owner_can_read_the_file(rig: Rig, store: Store) -> None:
    assert rig.path.stat().st_mode & 0o077 == 0


def damage(rig: Rig, at: int, size: int = 4_096) -> None:
    with rig.path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * size)


def test_a_corrupt_file_is_put_aside_and_an_alarm_says_so(rig: Rig) -> None:
    store = rig.open()
    store.append([state(1)], b"granted")
    epoch = store.epoch
    store.close()
    damage(rig, 0)
    content = rig.path.read_bytes()
    store = rig.open()
    assert store.damaged == "queue.sqlite.damaged-1"
    assert rig.path.with_name(store.damaged).read_bytes() == content
    assert store.remembered is None
    assert store.epoch != epoch
    alarms = list(read_all(store, Stream.ALARM).rows.values())
    assert [(row.kind, row.fields["stream"], row.fields["kept_as"]) for row in alarms] == [
        ("queue.damaged", stream.value, "queue.sqlite.damaged-1") for stream in Stream
    ]
    store.append([state(2)])
    store.close()


def test_a_mistake_in_using_it_is_not_taken_for_damage(rig: Rig) -> None:
    """SQLite refuses another thread than the one that opened it; that says nothing about the file."""
    store = rig.open()
    store.append([state(1)])
    with ThreadPoolExecutor(1) as other, pytest.raises(sqlite3.ProgrammingError, match="thread"):
        other.submit(store.append, [state(2)]).result()
    assert store.damaged is None
    assert store.append([state(3)]) == {Stream.STATE: 2}
    store.close()


def test_a_row_that_was_altered_is_not_sent(rig: Rig) -> None:
    store = rig.open()
    for n in range(3):
        store.append([state(n)])
    store.close()
    db = sqlite3.connect(rig.path)
    db.execute("UPDATE state SET block = (SELECT block FROM state WHERE seq = 1) WHERE seq = 2")
    db.commit()
    db.close()
    store = rig.open()
    with pytest.raises(StoreError, match="was damaged"):
        store.read_batch(Stream.STATE, 0, 10_000)
    assert store.damaged == "queue.sqlite.damaged-1"
    assert store.append([state(5)]) == {Stream.STATE: 4}
    found = read_all(store, Stream.STATE)
    assert {seq: row.at for seq, row in found.rows.items()} == {1: 0, 3: 2, 4: 5}
    assert found.gaps == [(2, 2, "damage")]
    assert store.heads()[Stream.ALARM].seq == 4
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE state SET total = NULL",
        "UPDATE state SET powered_s = 'late'",
        "UPDATE state SET hash = NULL",
        "UPDATE state SET block = NULL",
        "UPDATE cursor SET acked_hash = NULL",
        "UPDATE segment SET generation = NULL",
        "UPDATE store SET epoch = NULL",
        "UPDATE store SET device = NULL",
        "DELETE FROM store",
    ],
)
def test_a_row_with_holes_in_it_is_damage_like_any_other(rig: Rig, change: str) -> None:
    """What a disk that lies about its syncs leaves: pages that SQLite can read and nobody wrote."""
    rig.sealed = True
    store = rig.open()
    store.append([state(1)])
    store.append([state(2)])
    store.acknowledge(Stream.STATE, store.epoch, head(store))
    store.close()
    db = sqlite3.connect(rig.path)
    db.execute(change)
    db.commit()
    db.close()
    store = rig.open()
    if store.damaged is None:  # only a read comes upon it
        with pytest.raises(StoreError, match="was damaged"):
            store.read_batch(Stream.STATE, 0, 10_000)
    assert store.damaged == "queue.sqlite.damaged-1"
    assert store.append([state(3)])[Stream.STATE] in (1, 3)
    store.close()


def test_a_full_disk_is_an_error_until_there_is_room(rig: Rig) -> None:
    """The limit on file sizes of this process stands for the disk: SQLite sees a failing write."""
    store = rig.open()
    store.append([state(1)], b"kept")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = rig.path.with_name("queue.sqlite-wal").stat().st_size + 10_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, hard))
    try:
        with pytest.raises(StoreError, match=r"queue\.sqlite"):
            fill(rig, store, 100_000)
        last = store.heads()[Stream.STATE].seq
        with pytest.raises(StoreError):
            store.append([state(3, noise(rig.random, 400_000))], b"lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.append([state(4)]) == {Stream.STATE: last + 1}
    assert store.remembered == b"kept"
    assert sorted(read_all(store, Stream.STATE).rows) == list(range(1, last + 2))
    store.close()


def test_segments_that_no_row_needs_are_forgotten(rig: Rig) -> None:
    rig.sealed = True
    rig.keep_acked_s = 50
    for _ in range(8):
        store = rig.open()
        for stream_record in (alarm(1), audit(1), state(1), sample(1)):
            store.append([stream_record])
        for stream, newest in store.heads().items():
            store.acknowledge(stream, store.epoch, newest)
        rig.clock.advance(100)
        store.close()
    db = sqlite3.connect(rig.path)
    assert db.execute("SELECT count(*) FROM segment").fetchone()[0] <= 4
    db.close()
    store = rig.open()
    for stream in Stream:
        assert read_all(store, stream, after=store.stats()[stream].base.seq).rows
    store.close()


def test_the_chain_begins_at_device_stream_and_file() -> None:
    starts = {
        genesis(device, stream, epoch).hash
        for device in (DEVICE, "tablet-2")
        for stream in Stream
        for epoch in (bytes(8), b"\1" * 8)
    }
    assert len(starts) == 16


def test_nothing_is_kept_of_a_record_that_cannot_be_encoded(store: Store) -> None:
    with pytest.raises(LocalProtocolError):
        store.append([Record(audit(1).kind, 1, ("\ud800",))])
    assert store.heads()[Stream.AUDIT].seq == 0
