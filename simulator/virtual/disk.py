"""The disk under the store: what was written since the last sync can be lost, in part and torn.

Files are real, in a folder of their own; SQLite writes them through ``simulator.virtual.vfs``. The model
keeps beside each file what a power cut would leave for certain, and the writes since, of which any sectors
may have arrived. A killed process loses nothing that it wrote; a power cut does.
"""

from __future__ import annotations

import enum
import os
import random
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512  # bytes; ours: the smallest unit that storage promises to write whole (ATA, NVMe)


class Operation(enum.Enum):
    """What SQLite asks of the disk that can fail or be the last thing before a cut."""

    WRITE = "write"
    TRUNCATE = "truncate"
    SYNC = "sync"
    DELETE = "delete"
    READ = "read"


_ERRORS = {
    Operation.WRITE: sqlite3.SQLITE_IOERR_WRITE,
    Operation.TRUNCATE: sqlite3.SQLITE_IOERR_TRUNCATE,
    Operation.SYNC: sqlite3.SQLITE_IOERR_FSYNC,
    Operation.DELETE: sqlite3.SQLITE_IOERR_DELETE,
    Operation.READ: sqlite3.SQLITE_IOERR_READ,
}
_CREATES_NAME = 0x800 | 0x4000 | 0x80000  # sqlite3.h: OPEN_MAIN_JOURNAL, OPEN_SUPER_JOURNAL, OPEN_WAL
_OPEN_CREATE = 0x4  # sqlite3.h


@dataclass(frozen=True, slots=True)
class Change:
    """A write at ``offset``; without data the file ends there."""

    offset: int
    data: bytes | None

    def end(self, size: int) -> int:
        """The size of a file of ``size`` after it."""
        return self.offset if self.data is None else max(size, self.offset + len(self.data))

    def sectors(self, size: int) -> range:
        """Those that it touches in a file that never was longer than ``size``."""
        end = size if self.data is None else self.offset + len(self.data)
        return range(self.offset // SECTOR, -(-end // SECTOR))

    def apply(self, image: bytearray, start: int, stop: int) -> None:
        """Do what of it falls between ``start`` and ``stop``."""
        start = max(start, self.offset)
        if self.data is None:
            stop = min(stop, len(image))
            image[start:stop] = bytes(max(0, stop - start))
        else:
            stop = min(stop, self.offset + len(self.data))
            image[start:stop] = self.data[start - self.offset : stop - self.offset]


@dataclass(slots=True, eq=False)
class File:
    """One file (an inode: a rename does not change it). ``synced`` is what a power cut leaves for certain."""

    descriptor: int
    synced: bytearray
    size: int
    pending: list[Change] = field(default_factory=list)
    sync_names: bool = False  # its first sync makes the folder's names durable too, as SQLite does it
    handles: int = 0

    def sync(self) -> None:
        for change in self.pending:
            if change.data is None:
                del self.synced[change.offset :]
            else:
                if change.offset > len(self.synced):
                    self.synced.extend(bytes(change.offset - len(self.synced)))
                self.synced[change.offset : change.offset + len(change.data)] = change.data
        self.pending.clear()

    def after_cut(self, source: random.Random, *, torn: bool) -> bytes:
        """What a power cut now may leave of it."""
        chance = source.choice((0.0, 1.0, source.random(), source.random()))  # that a change arrived
        if torn:
            return self._torn(source, chance)
        arrived = [change for change in self.pending if source.random() < chance]
        return self._image(arrived, lambda change, image: change.apply(image, 0, len(image)), arrived)

    def _torn(self, source: random.Random, chance: float) -> bytes:
        """Any sector may be as after any of the changes to it, and the size as after any of them all."""
        longest = max([len(self.synced), *(change.end(0) for change in self.pending)])
        versions: dict[int, int] = {}
        for change in self.pending:
            for sector in change.sectors(longest):
                versions[sector] = versions.get(sector, 0) + 1
        left = {
            sector: count if source.random() < chance else source.randrange(count) if chance else 0
            for sector, count in versions.items()
        }
        count = len(self.pending)
        sized = count if source.random() < chance else source.randrange(count + 1) if chance else 0

        def apply(change: Change, image: bytearray) -> None:
            for sector in change.sectors(longest):
                if left[sector]:
                    left[sector] -= 1
                    change.apply(image, sector * SECTOR, (sector + 1) * SECTOR)

        return self._image(self.pending, apply, self.pending[:sized])

    def _image(
        self,
        changes: Sequence[Change],
        apply: Callable[[Change, bytearray], None],
        sizing: Sequence[Change],
    ) -> bytes:
        size = len(self.synced)
        for change in sizing:
            size = change.end(size)
        image = self.synced + bytes(max([0, *(change.end(0) - len(self.synced) for change in changes)]))
        for change in changes:
            apply(change, image)
        return bytes(image[:size]) + bytes(max(0, size - len(image)))


class Disk:
    """The files of one folder, which nothing else may use meanwhile. Faults are attributes (see DiskKnobs).

    ``on_operation`` is called before each operation and may change anything here, even ``stop`` the disk.
    Reads are operations only with ``watch_reads``, which makes them slow.
    """

    def __init__(self, folder: Path, *, watch_reads: bool = False) -> None:
        self.folder = folder.resolve()
        self.watch_reads = watch_reads
        self.full = False
        self.read_only = False
        self.io_errors = False
        self.slow_ns = 0
        self.torn = True
        self.on_operation: Callable[[Operation], None] = lambda operation: None
        self.stopped = False
        self._spent_ns = 0
        self._files: dict[tuple[int, int], File] = {}  # by device and inode
        self._names: dict[str, File] = {}  # that are durable

    def take_spent_ns(self) -> int:
        """For how long a slow disk has been at work since this was asked last."""
        spent, self._spent_ns = self._spent_ns, 0
        return spent

    # --- the end of a process, and of power -----------------------------------------------------------

    def stop(self) -> None:
        """The process that uses it ends here: whatever it still asks for fails and changes nothing."""
        self.stopped = True

    def go_on(self) -> None:
        """Another process may use it, and finds all that was written.

        Raises:
            RuntimeError: the one before still has a file open; its connection must be closed first.
        """
        if opened := sum(file.handles for file in self._files.values()):
            raise RuntimeError(f"{opened} files of {self.folder} are open: close the database first")
        self.stopped = False

    def power_cut(self, source: random.Random) -> None:
        """Lose what was not synced, as ``source`` has it; then ``go_on``."""
        left = self.after_cut(source)
        self.stop()
        self.go_on()
        for name in self._listing():
            (self.folder / name).unlink()
        self.close()
        for name, content in left.items():
            path = self.folder / name
            path.write_bytes(content)
            path.chmod(0o600)
            self._names[name] = self._file(path)

    def after_cut(self, source: random.Random) -> dict[str, bytes]:
        """The content of each file that a power cut now may leave."""
        names = self._listing()
        if names != self._names and source.random() < 0.5:
            names = self._names
        return {name: names[name].after_cut(source, torn=self.torn) for name in sorted(names)}

    def close(self) -> None:
        """Let go of the descriptors; the files stay as they are."""
        for file in self._files.values():
            os.close(file.descriptor)
        self._files.clear()
        self._names.clear()

    def _listing(self) -> dict[str, File]:
        """The known files by their names now: the store renames a damaged one itself."""
        found = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                file = self._files.get((status.st_dev, status.st_ino))
                if file is not None:
                    found[entry.name] = file
        return found

    # --- for the shim: SQLite's result codes ----------------------------------------------------------

    def open_flags(self, flags: int) -> int | None:
        """What SQLite's flags for opening come to on this disk; None when it cannot be opened."""
        if self.stopped:
            return None
        if self.read_only:  # READONLY in place of READWRITE and CREATE, as the kernel would have it
            return flags & ~0x6 | 0x1
        return flags

    def opened(self, path: Path, flags: int) -> File:
        file = self._file(path)
        file.handles += 1
        file.sync_names = bool(flags & _OPEN_CREATE and flags & _CREATES_NAME)
        return file

    def closed(self, file: File) -> None:
        file.handles -= 1

    def write(self, file: File, offset: int, data: bytes) -> int:
        if refused := self._refused(Operation.WRITE):
            return refused
        end = offset + len(data)
        if end > file.size:
            if self.full:
                return sqlite3.SQLITE_FULL
            file.size = end
        os.pwrite(file.descriptor, data, offset)
        file.pending.append(Change(offset, data))
        return sqlite3.SQLITE_OK

    def truncate(self, file: File, size: int) -> int:
        if refused := self._refused(Operation.TRUNCATE):
            return refused
        os.ftruncate(file.descriptor, size)
        # A longer file is one with zeros at its end.
        grown = bytes(size - file.size) if size > file.size else None
        file.pending.append(Change(size if grown is None else file.size, grown))
        file.size = size
        return sqlite3.SQLITE_OK

    def sync(self, file: File) -> int:
        self._spent_ns += self.slow_ns
        if refused := self._refused(Operation.SYNC):
            if not self.stopped:
                # The kernel takes pages that it could not write for clean: they can be read, and no later
                # sync writes them ("fsyncgate", 2018; fsync(2), NOTES).
                file.pending.clear()
            return refused
        file.sync()
        if file.sync_names:
            file.sync_names = False
            self._sync_names()
        return sqlite3.SQLITE_OK

    def read_refused(self) -> int:
        return self._refused(Operation.READ)

    def delete_refused(self) -> int:
        return self._refused(Operation.DELETE)

    def deleted(self, *, durable: bool) -> None:
        if durable:
            self._sync_names()

    def _refused(self, operation: Operation) -> int:
        if not self.stopped:
            self.on_operation(operation)
        read = operation is Operation.READ
        if self.stopped or self.io_errors or (self.read_only and not read):
            return _ERRORS[operation]
        return sqlite3.SQLITE_OK

    def _sync_names(self) -> None:
        self._names = self._listing()
        for key, file in list(self._files.items()):
            if file not in self._names.values() and not file.handles:
                os.close(self._files.pop(key).descriptor)

    def _file(self, path: Path) -> File:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        known = self._files.get((status.st_dev, status.st_ino))
        if known is not None:
            os.close(descriptor)
            return known
        content = os.pread(descriptor, status.st_size, 0)
        file = self._files[status.st_dev, status.st_ino] = File(
            descriptor, bytearray(content), status.st_size
        )
        if content:  # it was here before the disk was; an empty one was made a moment ago
            self._names[path.name] = file
        return file
