"""Stores on a simulated disk: scripts to run on one, and what is found after a cut."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.records import Stream
from simulator.virtual.disk import Disk
from simulator.virtual.vfs import DiskUnavailable, attached
from sync.store import Store
from tests.store_rig import Rig, read_all
from tests.system import lacking


@contextlib.contextmanager
def disk_at(folder: Path, *, watch_reads: bool = False) -> Iterator[Disk]:
    """A simulated disk under ``folder``; skips where this Python's SQLite cannot be reached."""
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(attached(Disk(folder, watch_reads=watch_reads)))
        except DiskUnavailable as error:
            lacking(str(error))
        yield disk


def found_in(store: Store) -> str:
    """Everything that can be read, the chains verified, as one word to compare."""
    found: list[object] = []
    for stream in Stream:
        read = read_all(store, stream)
        head = read.head if read.head.seq else None  # an empty chain's differs from file to file
        rows = [(seq, row.kind, row.at, sorted(row.fields.items())) for seq, row in read.rows.items()]
        found.append((stream, head, read.gaps, rows))
    found.append(store.remembered)
    return hashlib.sha256(repr(found).encode()).hexdigest()


@dataclass
class Script:
    """What the steps of a test act on: the store of one file, opened and closed as they like."""

    rig: Rig
    make: type[Store] = Store
    _store: Store | None = field(default=None, init=False)

    @property
    def running(self) -> bool:
        return self._store is not None

    @property
    def store(self) -> Store:
        assert self._store is not None
        return self._store

    def open(self) -> None:
        self._store = self.rig.open(make=self.make)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None

    def acknowledge(self, stream: Stream, share: float = 1.0) -> None:
        """As the depot would, up to a block's end near that share of what it has not acknowledged."""
        stats = self.store.stats()[stream]
        upto = stats.acked.seq + max(1, int(stats.pending * share))
        run = self.store.read_batch(stream, upto - 1, 1)
        assert run is not None
        self.store.acknowledge(stream, self.store.epoch, run.head)


def twin(rig: Rig, folder: Path, files: dict[str, bytes]) -> Rig:
    """Another rig on a copy of the files."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return Rig(
        folder / rig.path.name,
        rig.clock,
        random.Random(0),
        rig.quotas,
        rig.keep_acked_s,
        rig.sealed,
        rig.boot,
        rig.retention_s,
    )
