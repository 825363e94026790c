"""SQLite's log cut at each frame and in its middle, on a real file: what is left is a prefix, by class.

A commit that is synced ends at a frame whose header says so. A log cut at or after that end holds the commit;
cut before it, whole or torn, it holds what was acknowledged before, never a part.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from agent.core.records import Record, Stream
from tests.store_rig import Rig, alarm, audit, noise, read_all, sample, state

LOG_HEADER, FRAME_HEADER, PAGE = 32, 24, 1024  # https://sqlite.org/fileformat2.html, 4.1
FRAME = FRAME_HEADER + PAGE


def written(rig: Rig) -> list[tuple[int, dict[Stream, int], bytes | None]]:
    """Commits of each class and of all at once; after each: the log's end, heads, what is remembered."""
    store = rig.open()
    told = []
    groups: list[tuple[list[Record], bytes | None]] = [
        ([alarm(1)], None), ([audit(2)], b"two"), ([state(3)], None), ([sample(4), sample(5)], None),
        ([state(6, noise(rig.random, 5_000))], None), ([alarm(7), audit(8), state(9), sample(10)], b"ten"),
    ]  # fmt: skip
    for records, remember in groups:
        store.append(records, remember)
        heads = {stream: head.seq for stream, head in store.heads().items()}
        told.append((frames_of(log_of(rig.path).read_bytes()), heads, store.remembered))
    shutil.copytree(rig.path.parent, rig.path.parent.with_name("killed"))
    store.close()
    return told


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def frames_of(log: bytes) -> int:
    """How many frames are of the log that counts: those with the salt of its header."""
    salt = log[16:24]
    count = 0
    for at in range(LOG_HEADER, len(log) - FRAME + 1, FRAME):
        if log[at + 8 : at + 16] != salt:
            break
        count += 1
    return count


@pytest.mark.parametrize("torn", [0, 1, FRAME_HEADER, FRAME_HEADER + PAGE // 2, FRAME - 1])
def test_a_log_that_is_cut_leaves_what_was_acknowledged_before(tmp_path: Path, torn: int) -> None:
    """``torn``: so many bytes of the frame after the cut are there, too."""
    (tmp_path / "disk").mkdir()
    told = written(Rig(tmp_path / "disk" / "queue.sqlite", sealed=True))
    killed = tmp_path / "killed"
    frames = told[-1][0]
    assert frames > 2 * len(told), "there are frames in the middle of commits"
    lengths = set()
    for count in range(frames + 1 if torn == 0 else frames):
        folder = tmp_path / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(killed, folder)
        rig = Rig(folder / "queue.sqlite", sealed=True, boot=2)
        os.truncate(log_of(rig.path), LOG_HEADER + count * FRAME + torn)
        store = rig.open()
        known = [(heads, remembered) for end, heads, remembered in told if end <= count]
        heads, remembered = known[-1] if known else (dict.fromkeys(Stream, 0), None)
        assert store.damaged is None
        assert {stream: head.seq for stream, head in store.heads().items()} == heads, f"frame {count}"
        assert store.remembered == remembered
        for stream in Stream:
            assert list(read_all(store, stream).rows) == list(range(1, heads[stream] + 1))
        firsts = store.append([alarm(99)])
        assert firsts == {Stream.ALARM: heads[Stream.ALARM] + 1}
        store.close()
        lengths.add(len(known))
    assert len(lengths) >= len(told), "each commit was cut off once"
