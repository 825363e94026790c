"""The black box's files: a bounded ring of segments in a folder, written by a thread of its own.

Nothing is synced: the trace must not compete with the store for the disk. A killed agent loses nothing that
was handed over; a power cut loses what the kernel had not written yet, and may tear the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog
import zstandard

from agent.trace import Batch
from agent.trace_format import SUFFIX, Gap, pack

log = structlog.get_logger()

SEGMENTS = 16  # of the ring's size; ours: what is given up at once
PENDING_MAX = 16  # batches that wait for a slow disk, at most 1 MiB; ours
_LEVEL = 3  # zstd, as for blocks of records
_BLOCK = 4096  # a file takes whole blocks of the disk
_NAME = f"{{:010d}}{SUFFIX}"


class Ring:
    """Segments in ``folder``, together never above ``size`` bytes. No method raises on what a disk does."""

    def __init__(self, folder: Path, size: int) -> None:
        self.fresh = True
        self.lost = 0
        self.failures = 0
        self.unencodable = 0
        self.bytes = 0  # as the disk counts them
        self._folder = folder
        self._size = size
        self._kept: deque[tuple[Path, int]] | None = (
            None  # older segments with their sizes; None: not looked yet
        )
        self._fd = -1
        self._path = folder
        self._written = 0  # good bytes of the open segment
        self._number = 0
        self._missing = 0  # entries lost since the last batch that was written
        self._compress = zstandard.ZstdCompressor(level=_LEVEL).compress

    def write(self, batch: Batch) -> None:
        """Append a batch, to a new segment when the open one is full and the batch can begin one."""
        if self._fd < 0 and not batch.begins:
            self._miss(batch)  # it continues what is missing
            return
        try:
            if batch.begins and self.fresh:
                self._next_segment()
            told = [Gap(self._missing)] if self._missing else []
            chunk, bad = pack([*told, *batch.entries], self._compress)
            self._make_room(len(chunk))
            self._append(chunk)
        except OSError as error:
            self._failed(error)
            self._miss(batch)
            return
        if self._missing:
            log.info("trace.written_again", lost=self._missing)
            self._missing = 0
        self.unencodable += bad
        # Where an entry is missing, too, the next head lets one read on.
        self.fresh = bad > 0 or self._written >= self._size // SEGMENTS

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.fresh = True

    def _next_segment(self) -> None:
        if self._kept is None:
            self._kept = self._look()
        if self._fd >= 0:
            self._kept.append((self._path, _on_disk(self._written)))
            self.close()
        self._number += 1
        self._path = self._folder / _NAME.format(self._number)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._written = 0

    def _look(self) -> deque[tuple[Path, int]]:
        """What earlier runs left, the oldest first."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = sorted(
            each for each in self._folder.iterdir() if each.suffix == SUFFIX and each.stem.isdecimal()
        )
        self._number = max((int(each.stem) for each in found), default=0)
        kept = deque((each, _on_disk(each.stat().st_size)) for each in found)
        self.bytes = sum(size for _, size in kept)
        return kept

    def _make_room(self, more: int) -> None:
        """Give up the oldest segments until so many bytes fit."""
        grown = _on_disk(self._written + more) - _on_disk(self._written)
        while self._kept and self.bytes + grown > self._size:
            path, size = self._kept[0]
            path.unlink(missing_ok=True)
            self._kept.popleft()
            self.bytes -= size
        self.bytes += grown

    def _append(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._written += len(chunk)

    def _miss(self, batch: Batch) -> None:
        self.lost += len(batch.entries)
        self._missing += len(batch.entries)

    def _failed(self, error: OSError) -> None:
        """Leave the segment as it was before this batch; the next head begins another one."""
        self.failures += 1
        write = log.debug if self._missing else log.warning
        write("trace.not_written", folder=str(self._folder), problem=error.strerror or str(error))
        if self._fd >= 0:
            self._tidy()
        self.close()
        self._kept = None  # looked at anew: what is there may not be what was meant

    def _tidy(self) -> None:
        try:
            os.ftruncate(self._fd, self._written)
            if not self._written:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            log.debug("trace.torn_chunk_left", path=str(self._path), problem=error.strerror)


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


class RingThread:
    """A ring with its thread; a ``Shelf``. Every method is for the loop."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._refused = 0
        self._missing = 0  # refused since the last batch that was taken
        self._pending: queue.SimpleQueue[Batch | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="trace", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def fresh(self) -> bool:
        return self._ring.fresh

    @property
    def lost(self) -> int:
        return self._ring.lost + self._refused

    def put(self, batch: Batch) -> None:
        """Take a batch; what a disk that stands still leaves no place for is dropped and counted."""
        if self._pending.qsize() >= PENDING_MAX:
            self._refused += len(batch.entries)
            self._missing += len(batch.entries)
            return
        if self._missing:
            batch = Batch([Gap(self._missing), *batch.entries], batch.begins)
            self._missing = 0
        self._pending.put(batch)

    def written(self) -> asyncio.Future[None]:
        """Resolves when all that was put before has been written, or given up."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def resolve() -> None:
            if not future.done():
                future.set_result(None)

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(resolve)

        self._pending.put(tell)
        return future

    def status(self) -> dict[str, object]:
        ring = self._ring
        return {"bytes": ring.bytes, "failures": ring.failures, "unencodable": ring.unencodable}

    def close(self, timeout_s: float) -> bool:
        """Write what is pending, end the thread; False when it did not end in time."""
        self._pending.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (item := self._pending.get()) is not None:
            if isinstance(item, Batch):
                self._ring.write(item)
            else:
                item()
        self._ring.close()
