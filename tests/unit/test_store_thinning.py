"""Thinning and ageing: what goes, what stays, and that the chain, the sizes and the depot's ledger say so."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.records import Record, Stream
from sync.blocks import Head
from sync.store import MIN_QUOTA, RETENTION_S, Store
from sync.table import _SLACK
from sync.thinning import STRETCH_BYTES, Row, stretches
from tests.store_rig import Rig, alarm, audit, read_all, sample, state

DAY_S = 86_400


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    memory = Path("/dev/shm")  # where a sync costs nothing, if there is such a place
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        rig = Rig(Path(folder) / "queue.sqlite", sealed=True)
        rig.quotas[Stream.TELEMETRY] = MIN_QUOTA
        yield rig


def fill(rig: Rig, store: Store, stream_bytes: int) -> None:
    """Blocks of a two hundred samples that hardly compress, so that few of them are many bytes."""
    until = store.stats()[Stream.TELEMETRY].head.seq
    grown = 0
    while grown < stream_bytes:
        rig.clock.advance(100)
        at, source = rig.clock.boot_ns, rig.random
        records = [sample(at + source.randrange(2**60), source.randrange(2**60)) for _ in range(200)]
        before = store.stats()[Stream.TELEMETRY].size
        store.append(records)
        until += 200
        grown += max(0, store.stats()[Stream.TELEMETRY].size - before)
    assert store.stats()[Stream.TELEMETRY].head.seq == until


def stored_bytes(store: Store) -> int:
    """What the rows take, counted one by one."""
    size, after = 0, 0
    while run := store.read_batch(Stream.TELEMETRY, after, 60_000):
        size += sum(len(raw) + 64 for raw in run.blocks)
        after = run.head.seq
    return size


def row(seq: int, size: int) -> Row:
    return Row(seq, 0, 0, bytes([seq]), size)


def test_every_second_stretch_goes_and_nothing_beside_a_gap() -> None:
    half = STRETCH_BYTES // 2
    rows = [(row(n, half), n == 7) for n in range(1, 14)]
    found = [(s.before.seq + 1, s.last.seq, s.size) for s in stretches(rows, Head(0, b""))]
    assert found == [(3, 4, STRETCH_BYTES), (10, 11, STRETCH_BYTES)]


def test_older_telemetry_is_thinned_before_any_of_it_is_shed(rig: Rig) -> None:
    store = rig.open()
    fill(rig, store, MIN_QUOTA + _SLACK)
    found = read_all(store, Stream.TELEMETRY)
    stats = store.stats()[Stream.TELEMETRY]
    assert {reason for _, _, reason in found.gaps} == {"thinned"}
    assert 1 in found.rows, "the oldest stretch stays"
    assert stats.size <= MIN_QUOTA
    assert stats.size == stored_bytes(store)
    missing = {seq for first, last, _ in found.gaps for seq in range(first, last + 1)}
    assert found.rows.keys() | missing == set(range(1, stats.head.seq + 1))
    alarms = read_all(store, Stream.ALARM).rows.values()
    assert [(a.fields["stream"], a.fields["reason"], a.fields["first_seq"]) for a in alarms] == [
        ("telemetry", "thinned", found.gaps[0][0])
    ]
    store.close()


def test_the_newer_half_is_whole_and_what_is_thin_already_is_shed_from_its_end(rig: Rig) -> None:
    store = rig.open()
    for _ in range(5):
        fill(rig, store, MIN_QUOTA // 4)
        store.close()
        rig.reboot()
        store = rig.open()  # where it stands is known again
        assert store.stats()[Stream.TELEMETRY].size == stored_bytes(store)
    fill(rig, store, MIN_QUOTA * 3 // 4)
    found = read_all(store, Stream.TELEMETRY)
    head = store.heads()[Stream.TELEMETRY].seq
    front, *thin = found.gaps
    assert (front[0], front[2]) == (1, "quota")
    assert {reason for _, _, reason in thin} == {"thinned"}
    spans = [last - first for first, last, _ in thin]
    assert max(spans) < 3 * min(spans) + 200, "no stretch was thinned twice"
    whole = head - thin[-1][1]
    older = thin[-1][1] - front[1]
    assert older > whole, "what is thin reaches further back than what is not"
    assert read_all(store, Stream.TELEMETRY, after=thin[-1][1]).gaps == []
    reasons = [str(a.fields["reason"]) for a in read_all(store, Stream.ALARM).rows.values()]
    assert sorted(reasons) == ["quota", "thinned"]
    store.close()


def test_acknowledged_telemetry_goes_whole_before_any_is_thinned(rig: Rig) -> None:
    store = rig.open()
    fill(rig, store, MIN_QUOTA // 2)
    acked = store.heads()[Stream.TELEMETRY]
    store.acknowledge(Stream.TELEMETRY, store.epoch, acked)
    fill(rig, store, MIN_QUOTA // 2 + MIN_QUOTA // 8)
    assert read_all(store, Stream.TELEMETRY, after=acked.seq).gaps == []
    assert store.heads()[Stream.ALARM].seq == 0
    store.close()


def test_rows_that_an_agent_without_thinning_dropped_are_counted_anew(rig: Rig) -> None:
    store = rig.open()
    fill(rig, store, MIN_QUOTA + _SLACK)
    assert store._db is not None
    store._db.execute("UPDATE thinned SET oldest = oldest + 1, bytes = 7")
    store.close()
    store = rig.open()
    assert store.stats()[Stream.TELEMETRY].size == stored_bytes(store)
    store.close()


# --- age --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "make", "days"),
    [(Stream.TELEMETRY, sample, 31), (Stream.STATE, state, 92), (Stream.AUDIT, audit, 366),
     (Stream.ALARM, alarm, 366)],
)  # fmt: skip
def test_each_class_goes_at_its_age_of_powered_time(
    rig: Rig, stream: Stream, make: object, days: int
) -> None:
    assert RETENTION_S[stream] == days * DAY_S
    assert callable(make)

    def put() -> None:
        made = make(rig.clock.boot_ns)
        assert isinstance(made, Record)
        store.append([made])

    store = rig.open()
    put()
    rig.clock.advance(DAY_S)
    put()
    rig.clock.wall_ns += 10**18  # thirty years: no age
    rig.clock.boot_ns += (days - 1) * DAY_S * 10**9
    put()
    assert read_all(store, stream).gaps == []
    rig.clock.advance(1)
    put()
    found = read_all(store, stream)
    assert found.gaps == [(1, 1, "age")]
    assert sorted(found.rows)[:3] == [2, 3, 4]
    alarms = [a.fields for a in read_all(store, Stream.ALARM).rows.values() if a.kind == "queue.shed"]
    assert [(a["stream"], a["first_seq"], a["last_seq"], a["reason"]) for a in alarms] == [
        (stream.value, 1, 1, "age")
    ]
    rig.clock.advance(DAY_S)
    put()  # the gap grows, and there is no second alarm
    found = read_all(store, stream)
    assert found.gaps == [(1, 2, "age")]
    store.close()


def test_a_gap_that_grows_for_another_reason_names_both(rig: Rig) -> None:
    rig.retention_s[Stream.TELEMETRY] = 50
    store = rig.open()
    rig.clock.advance(1)
    store.append([sample(1)])
    rig.clock.advance(100)
    store.append([sample(2)])
    store.append([sample(3)])
    assert [reason for _, _, reason in read_all(store, Stream.TELEMETRY).gaps] == ["age"]
    rig.retention_s[Stream.TELEMETRY] = RETENTION_S[Stream.TELEMETRY]  # the store reads it at each commit
    fill(rig, store, 2 * MIN_QUOTA)
    assert read_all(store, Stream.TELEMETRY).gaps[0][2] == "age and quota"
    store.close()


def test_ageing_takes_acknowledged_rows_without_a_gap(rig: Rig) -> None:
    rig.random = random.Random(4)
    rig.retention_s[Stream.STATE] = 50
    store = rig.open()
    for n in range(4):
        store.append([state(n)])
    run = store.read_batch(Stream.STATE, 1, 1)
    assert run is not None
    store.acknowledge(Stream.STATE, store.epoch, run.head)
    rig.clock.advance(60)
    store.append([state(9)])
    store.append([state(10)])
    assert store.stats()[Stream.STATE].base.seq == 2
    assert read_all(store, Stream.STATE, after=2).gaps == [(3, 4, "age")]
    store.close()
