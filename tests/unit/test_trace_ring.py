"""The ring: bounded on disk, oldest first, unharmed by a disk that refuses."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

from agent.trace import Batch
from agent.trace_format import Damage, Gap, Head, Wire, read_path
from agent.trace_ring import PENDING_MAX, SEGMENTS, Ring, RingThread
from tests.aio import looped

SIZE = 1 << 20
HEAD = Head({}, 0, 0, {})


def batch(number: int, *, begins: bool = False, size: int = 0) -> Batch:
    """A batch with one numbered wire entry that does not compress."""
    filler = b"".join(hash((number, i)).to_bytes(8, "big", signed=True) for i in range(size // 8))
    wire = Wire("dock", "in", number, filler)
    return Batch([HEAD, wire] if begins else [wire], begins)


def numbers(folder: Path) -> list[int]:
    return [entry.at for entry in read_path(folder) if isinstance(entry, Wire)]


def gaps(folder: Path) -> list[int]:
    return [entry.lost for entry in read_path(folder) if isinstance(entry, Gap)]


def on_disk(folder: Path) -> int:
    return sum(each.stat().st_blocks * 512 for each in folder.iterdir())


@contextlib.contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond; the write before comes out short."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "trace", SIZE)
    ring.write(batch(1, begins=True))
    ring.write(batch(2))
    ring.close()
    assert numbers(tmp_path / "trace") == [1, 2]
    (segment,) = (tmp_path / "trace").iterdir()
    assert segment.stat().st_mode & 0o777 == 0o600
    assert segment.parent.stat().st_mode & 0o777 == 0o700


def test_it_never_takes_more_than_its_size_and_gives_up_the_oldest(tmp_path: Path) -> None:
    ring = Ring(tmp_path, SIZE)
    for number in range(60):
        ring.write(batch(number, begins=ring.fresh, size=40_000))
        assert on_disk(tmp_path) <= SIZE
    ring.close()
    assert ring.lost == 0
    kept = numbers(tmp_path)
    assert kept == list(range(kept[0], 60))
    assert kept[0] > 30
    assert on_disk(tmp_path) > SIZE * (SEGMENTS - 3) // SEGMENTS


def test_a_restart_begins_a_segment_and_leaves_the_old_ones(tmp_path: Path) -> None:
    for number in range(3):
        ring = Ring(tmp_path, SIZE)
        ring.write(batch(number, begins=True))
        ring.close()
    assert [each.name for each in sorted(tmp_path.iterdir())] == [f"000000000{n}.trace" for n in (1, 2, 3)]
    assert numbers(tmp_path) == [0, 1, 2]


def test_a_thousand_restarts_stay_within_it_too(tmp_path: Path) -> None:
    for number in range(300):
        ring = Ring(tmp_path, SIZE)
        ring.write(batch(number, begins=True))
        ring.close()
    assert on_disk(tmp_path) <= SIZE
    assert numbers(tmp_path)[-1] == 299


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "incident.trace").write_bytes(b"mine too")
    ring = Ring(tmp_path, SIZE)
    for number in range(60):
        ring.write(batch(number, begins=ring.fresh, size=40_000))
    ring.close()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "incident.trace").read_bytes() == b"mine too"


def test_a_full_disk_costs_entries_that_are_counted_and_marked(tmp_path: Path) -> None:
    ring = Ring(tmp_path, SIZE)
    ring.write(batch(1, begins=True))
    with files_end_at(5000):
        ring.write(batch(2, size=20_000))
        assert ring.fresh
        ring.write(batch(3))  # it would continue what is missing
        ring.write(batch(4, begins=True, size=20_000))
    assert (ring.lost, ring.failures) == (4, 2)
    ring.write(batch(5, begins=True))
    ring.close()
    assert numbers(tmp_path) == [1, 5]
    assert gaps(tmp_path) == [4]
    assert not [entry for entry in read_path(tmp_path) if isinstance(entry, Damage)]


def test_a_folder_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("in the way")
    ring = Ring(tmp_path / "trace", SIZE)
    ring.write(batch(1, begins=True))
    assert (ring.fresh, ring.lost) == (True, 2)
    (tmp_path / "trace").unlink()
    ring.write(batch(2, begins=True))
    ring.close()
    assert numbers(tmp_path / "trace") == [2]
    assert gaps(tmp_path / "trace") == [2]


def test_a_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "trace", SIZE)
    for number in range(SEGMENTS * 2):
        ring.write(batch(number, begins=ring.fresh, size=40_000))
        for each in (tmp_path / "trace").iterdir():
            each.unlink()
    assert ring.failures == 0


def test_what_cannot_be_encoded_is_counted_and_asks_for_a_new_head(tmp_path: Path) -> None:
    ring = Ring(tmp_path, SIZE)
    ring.write(Batch([HEAD, Wire("dock", "in", 1, "no UTF-8: \udcff")], begins=True))
    assert (ring.unencodable, ring.fresh, gaps(tmp_path)) == (1, True, [1])
    ring.write(batch(2, begins=True))
    ring.close()
    assert numbers(tmp_path) == [2]


@looped
async def test_the_thread_writes_what_it_is_given_and_ends(tmp_path: Path) -> None:
    ring = RingThread(Ring(tmp_path, SIZE))
    ring.start()
    ring.put(batch(1, begins=True))
    await asyncio.wait_for(ring.written(), 10)
    assert numbers(tmp_path) == [1]
    ring.put(batch(2))
    assert ring.close(10)
    assert numbers(tmp_path) == [1, 2]


@looped
async def test_a_disk_that_stands_still_costs_entries_and_never_the_caller(tmp_path: Path) -> None:
    ring = RingThread(Ring(tmp_path, SIZE))
    for number in range(PENDING_MAX + 3):  # not started: nothing is taken away
        ring.put(batch(number, begins=not number))
    assert ring.lost == 3
    ring.start()
    await asyncio.wait_for(ring.written(), 10)
    ring.put(batch(99, begins=True))
    assert ring.close(10)
    assert numbers(tmp_path) == [*range(PENDING_MAX), 99]
    assert gaps(tmp_path) == [3]


@looped
async def test_a_thread_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    disk = threading.Event()

    class Stuck(Ring):
        def write(self, batch: Batch) -> None:
            disk.wait(10)

    ring = RingThread(Stuck(tmp_path, SIZE))
    ring.start()
    ring.put(batch(1, begins=True))
    assert not ring.close(0.01)
    disk.set()
    assert ring.close(10)
