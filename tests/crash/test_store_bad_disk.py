"""A disk that fails, fills up, is remounted read-only or loses its power, while the store goes on.

Whatever happened, in the end: all that ``append`` returned for is there, under its number; all that it
refused was put in again and is there once; the chains hold; and nothing was taken for damage.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from agent.core.records import Record, Stream
from simulator.virtual.disk import Disk, Operation
from sync.errors import StoreError
from sync.store import MIN_QUOTA, Store
from tests.disk_rig import disk_at, twin
from tests.store_rig import Rig, alarm, audit, noise, read_all, sample, state

MAKERS = (alarm, audit, state, sample)
Fault = Callable[[Operation, int], bool]  # whether the n-th operation fails


class Life:
    """A store, what it was told, and what it answered. Each record is known by its time."""

    def __init__(self, disk: Disk, seed: int) -> None:
        self.disk = disk
        self.source = random.Random(seed)
        self.rig = Rig(disk.folder / "queue.sqlite", random=random.Random(seed), sealed=True)
        self.told: dict[Stream, dict[int, int]] = {stream: {} for stream in Stream}
        self.unsure: set[int] = set()  # a cut came before the answer
        self.refused = 0
        self.remembered = b""
        self.operations = 0
        self._store: Store | None = None
        self._number = 0

    @property
    def store(self) -> Store:
        """The store, opened anew if it is not: a process starts again until it can."""
        if self._store is None:
            self._store = self.rig.open()
            assert self._store.damaged is None
        return self._store

    def group(self) -> list[Record]:
        count = self.source.randrange(1, 5)
        records = [self.source.choice(MAKERS)(self.number()) for _ in range(count)]
        if self.source.random() < 0.1:
            records.append(state(self.number(), noise(self.source, 20_000)))
        return records

    def number(self) -> int:
        self._number += 1
        return self._number

    def append(self, records: list[Record]) -> None:
        remember = str(records[-1].at).encode()
        self.rig.clock.advance(0.1)
        firsts = self.store.append(records, remember)
        self.remembered = remember
        for record in records:
            stream = record.kind.stream
            self.told[stream][firsts[stream]] = record.at
            firsts[stream] += 1

    def insist(self, records: list[Record]) -> None:
        """Append as the writer does: what the disk refuses is put in again, until it is taken."""
        for _ in range(200):
            try:
                self.append(records)
                return
            except StoreError:
                self.refused += 1
        pytest.fail("the store is not usable any more")

    def acknowledge(self) -> None:
        stream = self.source.choice(list(Stream))
        try:
            run = self.store.read_batch(stream, self.store.stats()[stream].acked.seq, 2_000)
            if run is not None:
                self.store.acknowledge(stream, run.epoch, run.head)
        except StoreError:
            self.refused += 1

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None

    def check(self) -> None:
        store = self.store
        assert (store.remembered or b"") == self.remembered or int(store.remembered or 0) in self.unsure
        for stream, told in self.told.items():
            found = read_all(store, stream)
            assert found.gaps == []
            assert list(found.rows) == list(range(1, len(found.rows) + 1))
            assert {seq: found.rows[seq].at for seq in told} == told
            there = [row.at for row in found.rows.values()]
            assert there == sorted(set(there)), "nothing twice, nothing out of order"
            assert set(there) - self.unsure <= set(told.values())
        assert [path.name for path in self.rig.path.parent.glob("*damaged*")] == []


# --- power cuts and kills, one after the other ------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_many_lives_that_end_by_cuts_and_kills(tmp_path: Path, seed: int) -> None:
    with disk_at(tmp_path / "disk") as disk:
        life = Life(disk, seed)
        for _ in range(30):
            end_by(disk, life.source.randrange(1, 250))
            records: list[Record] = []
            try:
                while not disk.stopped:
                    records = life.group()
                    life.append(records)
                    records = []
                    life.acknowledge()
                    if life.source.random() < 0.05:
                        life.close()
            except StoreError:
                life.unsure |= {record.at for record in records}
            life.close()
            life.rig.reboot()
            if life.source.random() < 0.7:
                disk.torn = life.source.random() < 0.7
                disk.power_cut(life.source)
            else:
                disk.go_on()
            life.check()
        life.close()
        assert sum(map(len, life.told.values())) > 100


def end_by(disk: Disk, operations: int) -> None:
    """Stop the disk before an operation."""
    left = operations

    def count(_operation: Operation) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            disk.stop()

    disk.on_operation = count


# --- errors -----------------------------------------------------------------------------------------


def live(folder: Path, seed: int, fault: Fault, *, watch_reads: bool = False) -> Life:
    """A short life on a disk with a fault; then power is cut, and everything is checked."""
    with disk_at(folder, watch_reads=watch_reads) as disk:
        life = Life(disk, seed)

        def fail(operation: Operation) -> None:
            life.operations += 1
            disk.io_errors = fault(operation, life.operations)

        disk.on_operation = fail
        while True:
            try:
                _ = life.store
                break
            except StoreError:
                life.refused += 1
        for turn in range(8):
            life.insist(life.group())
            life.acknowledge()
            if turn == 5:
                life.close()
        disk.on_operation = lambda operation: None
        disk.io_errors = False
        life.insist(life.group())
        disk.stop()
        life.close()
        disk.power_cut(random.Random(seed))
        life.check()
        life.close()
    return life


def at(first: int, length: int, kinds: Iterable[Operation] = Operation) -> Fault:
    return lambda operation, number: operation in kinds and first <= number < first + length


def test_one_error_at_any_operation(tmp_path: Path) -> None:
    """Of any kind, reads too."""
    total = live(tmp_path / "0", 1, at(0, 0), watch_reads=True).operations
    refused = 0
    for bad in range(1, total):
        refused += live(tmp_path / str(bad), 1, at(bad, 1), watch_reads=True).refused
    assert refused > 60


@pytest.mark.parametrize("kinds", [Operation, {Operation.SYNC}, {Operation.WRITE}])
@pytest.mark.parametrize("length", [2, 5, 30])
def test_errors_that_last(tmp_path: Path, kinds: Iterable[Operation], length: int) -> None:
    """With a kernel that takes what it could not write for clean: no later sync saves it."""
    refused = 0
    for bad in range(1, 200, 8):
        refused += live(tmp_path / str(bad), bad, at(bad, length, kinds)).refused
    assert refused > 3


def syncs_fail(disk: Disk) -> None:
    disk.on_operation = lambda operation: setattr(disk, "io_errors", operation is Operation.SYNC)


def works_again(disk: Disk) -> None:
    disk.on_operation = lambda operation: None
    disk.io_errors = False


def test_a_commit_refused_at_its_sync_does_not_come_back(tmp_path: Path) -> None:
    """Its bytes are whole in the log: SQLite would take it for one that was made."""
    with disk_at(tmp_path / "disk") as disk:
        store = Rig(disk.folder / "queue.sqlite").open()
        store.append([alarm(1)], b"one")
        syncs_fail(disk)
        with pytest.raises(StoreError):
            store.append([alarm(2), state(2)], b"two")
        works_again(disk)
        assert {stream.value: head.seq for stream, head in store.heads().items() if head.seq} == {"alarm": 1}
        assert store.remembered == b"one"
        assert store.append([alarm(3)]) == {Stream.ALARM: 2}
        assert [row.at for row in read_all(store, Stream.ALARM).rows.values()] == [1, 3]
        store.close()


def test_nothing_is_built_on_what_a_failed_sync_left(tmp_path: Path) -> None:
    """The next process reads it, and the disk never had it: what came behind it would go with it."""
    with disk_at(tmp_path / "disk") as disk:
        rig = Rig(disk.folder / "queue.sqlite")
        store = rig.open()
        store.append([alarm(1)])
        syncs_fail(disk)
        with pytest.raises(StoreError):
            store.append([alarm(2)])
        store.close()
        works_again(disk)
        store = rig.open()
        seq = store.append([alarm(3)])[Stream.ALARM]
        disk.stop()
        store.close()
        for seed in range(20):
            copy = twin(rig, tmp_path / "copy", disk.after_cut(random.Random(seed)))
            left = copy.open()
            assert read_all(left, Stream.ALARM).rows[seq].at == 3
            left.close()


def test_a_refused_commit_that_shed_what_was_before_it_stays_and_is_alarmed(tmp_path: Path) -> None:
    """It cannot be taken back: there would be no head left. Twice there is better than gone."""
    with disk_at(tmp_path / "disk") as disk:
        rig = Rig(disk.folder / "queue.sqlite", quotas=dict.fromkeys(Stream, MIN_QUOTA))
        store = rig.open()
        store.append([state(1)])
        much = [state(n, noise(rig.random, 400_000)) for n in range(2, 20)]
        syncs_fail(disk)
        with pytest.raises(StoreError):
            store.append(much)
        works_again(disk)
        store.append([state(20)])
        found = read_all(store, Stream.STATE)
        assert found.gaps == [(1, found.gaps[0][1], "quota")]
        assert [row.at for row in found.rows.values()][-2:] == [19, 20]
        assert [row.kind for row in read_all(store, Stream.ALARM).rows.values()] == ["queue.shed"]
        store.close()


# --- no room, no writing ----------------------------------------------------------------------------


@pytest.mark.parametrize("knob", ["full", "read_only", "io_errors"])
@pytest.mark.parametrize("seed", range(3))
def test_a_disk_that_refuses_for_a_while(tmp_path: Path, knob: str, seed: int) -> None:
    """While it does, what is there can be read and acknowledged; afterwards everything works."""
    with disk_at(tmp_path / "disk") as disk:
        life = Life(disk, seed)
        for _ in range(12):
            life.insist(life.group())
        for _ in range(8):
            setattr(disk, knob, True)
            records = life.group()
            for size in (900_000, 900_000, 0):  # a full disk may have room within its files
                try:
                    life.append(records)
                    records = []
                except StoreError:
                    life.refused += 1
                records.append(state(life.number(), noise(life.source, size)))
            if life.source.random() < 0.3:  # the process ends meanwhile, and the next one starts so
                life.close()
                with contextlib.suppress(StoreError):
                    _ = life.store
            elif knob == "full":
                assert life.store.read_batch(Stream.STATE, 0, 1_000) is not None
            setattr(disk, knob, False)
            life.insist(records)
            life.acknowledge()
            life.check()
        disk.stop()
        life.close()
        disk.power_cut(life.source)
        life.check()
        life.close()
        assert life.refused > 8


@pytest.mark.parametrize("knob", ["full", "read_only", "io_errors"])
def test_a_first_start_on_a_disk_that_refuses(tmp_path: Path, knob: str) -> None:
    with disk_at(tmp_path / "disk") as disk:
        rig = Rig(disk.folder / "queue.sqlite")
        setattr(disk, knob, True)
        with pytest.raises(StoreError, match=r"queue\.sqlite: "):
            rig.open()
        setattr(disk, knob, False)
        store = rig.open()
        assert store.damaged is None
        assert store.append([alarm(1)]) == {Stream.ALARM: 1}
        store.close()
