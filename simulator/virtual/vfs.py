"""SQLite's way to a simulated disk: a virtual file system (sqlite.org/vfs.html) over that of the platform.

Opening, locking and reading stay with the platform's; writes, truncations, syncs and deletions of files in a
disk's folder go through the disk. ``attach`` makes it SQLite's default, so whoever opens a database there by
its path, as production does, has it on the disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sqlite3
from collections.abc import Callable, Iterator
from ctypes import POINTER, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from simulator.virtual.disk import Disk, File

NAME = b"ivma-disk"
_VERSION = 2  # of the file methods: 3 adds memory mapping, which would go past us


class DiskUnavailable(RuntimeError):
    """This Python's SQLite cannot be reached, so no disk can be put under it."""


class _Vfs(ctypes.Structure):
    """sqlite3_vfs, version 3."""

    _fields_: ClassVar = [
        ("version", c_int), ("file_bytes", c_int), ("longest_name", c_int), ("next", c_void_p),
        ("name", c_char_p), ("data", c_void_p), ("open", c_void_p), ("delete", c_void_p),
        *((f"other_{n}", c_void_p) for n in range(14)),
    ]  # fmt: skip


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, version 3."""

    _fields_: ClassVar = [
        ("version", c_int), ("close", c_void_p), ("read", c_void_p), ("write", c_void_p),
        ("truncate", c_void_p), ("sync", c_void_p), *((f"other_{n}", c_void_p) for n in range(13)),
    ]  # fmt: skip


class _OpenFile(ctypes.Structure):
    """sqlite3_file; what follows is the platform's own."""

    _fields_: ClassVar = [("methods", c_void_p)]


_Open = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))
_Delete = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_Close = ctypes.CFUNCTYPE(c_int, c_void_p)
_Transfer = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = ctypes.CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = ctypes.CFUNCTYPE(c_int, c_void_p, c_int)


@contextlib.contextmanager
def attached(disk: Disk) -> Iterator[Disk]:
    """Put ``disk`` under every database that is opened in its folder, meanwhile.

    Raises:
        DiskUnavailable: the sqlite3 module's library cannot be reached.
    """
    shim = _shim()
    shim.attach(disk)
    try:
        yield disk
    finally:
        shim.detach(disk)
        disk.stop()
        disk.close()
        defects = shim.defects.copy()
        shim.defects.clear()
        if defects:  # SQLite was told of an input/output error; nobody else was told of anything
            raise defects[0]


@functools.cache
def _shim() -> _Shim:
    return _Shim(_library())


def _library() -> ctypes.CDLL:
    """The very SQLite that the sqlite3 module runs on: another copy would know nothing of our disk."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    mapped = [line.split(maxsplit=5)[5] for line in lines if "sqlite" in line.rpartition("/")[2]]
    for path in (*dict.fromkeys(mapped), None):  # None: linked into Python itself
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(path)
            library.sqlite3_libversion.restype = c_char_p
            library.sqlite3_vfs_find.restype = POINTER(_Vfs)
            library.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
            if library.sqlite3_libversion().decode() == sqlite3.sqlite_version:
                return library
    raise DiskUnavailable(
        "this Python has SQLite linked in without its symbols, so no simulated disk can be put under it: "
        "use a Python whose sqlite3 module is linked to libsqlite3.so, as distributions and pyenv build it"
    )


@dataclass(frozen=True, slots=True)
class _Handle:
    """An open file of ours, with what the platform does for it."""

    disk: Disk
    file: File
    close: Callable[[int], int]
    read: Callable[[int, int, int, int], int]


class _Shim:
    """The registered file system, for as long as the process lives: SQLite keeps pointers to it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._platform = library.sqlite3_vfs_find(None)
        self._disks: dict[str, Disk] = {}  # by folder
        self._handles: dict[int, _Handle] = {}  # by address
        self._tables: dict[tuple[int, bool], _Methods] = {}  # by address of the platform's
        self.defects: list[BaseException] = []  # of ours, in a call that cannot raise
        platform = self._platform.contents
        self._platform_open = _Open(platform.open)
        self._platform_delete = _Delete(platform.delete)
        self._calls: dict[str, Any] = {  # kept alive for as long as SQLite may make them
            "open": _Open(self._guarded(self._open)),
            "delete": _Delete(self._guarded(self._delete)),
            "close": _Close(self._guarded(self._close)),
            "read": _Transfer(self._guarded(self._read)),
            "write": _Transfer(self._guarded(self._write)),
            "truncate": _Truncate(self._guarded(self._truncate)),
            "sync": _Sync(self._guarded(self._sync)),
        }
        self._vfs = _Vfs.from_buffer_copy(platform)
        self._vfs.name = NAME
        self._vfs.open = self._address("open")
        self._vfs.delete = self._address("delete")
        self._register(default=False)
        try:
            sqlite3.connect(f"file::memory:?vfs={NAME.decode()}", uri=True).close()
        except sqlite3.OperationalError as error:
            raise DiskUnavailable(f"SQLite of the sqlite3 module does not know our disk: {error}") from error

    def attach(self, disk: Disk) -> None:
        self._disks[str(disk.folder)] = disk
        self._register(default=True)

    def detach(self, disk: Disk) -> None:
        del self._disks[str(disk.folder)]
        if not self._disks:
            self._library.sqlite3_vfs_register(self._platform, 1)

    def _register(self, *, default: bool) -> None:
        self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), int(default))

    def _address(self, name: str) -> int | None:
        return ctypes.cast(self._calls[name], c_void_p).value

    def _guarded(self, call: Callable[..., int]) -> Callable[..., int]:
        def guarded(*arguments: Any) -> int:
            try:
                return call(*arguments)
            except BaseException as error:  # noqa: BLE001  # raised by ``attached``: ctypes would swallow it
                self.defects.append(error)
                return sqlite3.SQLITE_IOERR

        return guarded

    def _disk_of(self, name: int | None) -> tuple[Path, Disk] | None:
        if name is None:  # a temporary file
            return None
        path = Path(os.fsdecode(ctypes.string_at(name)))
        disk = self._disks.get(str(path.parent))
        return None if disk is None else (path, disk)

    # --- what SQLite calls: addresses in, result codes out --------------------------------------------

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out: Any) -> int:
        found = self._disk_of(name)
        if found is None:
            code: int = self._platform_open(vfs, name, file, flags, out)
            return code
        path, disk = found
        opened = _OpenFile.from_address(file)
        opened.methods = None
        allowed = disk.open_flags(flags)
        if allowed is None:
            return sqlite3.SQLITE_CANTOPEN
        code = self._platform_open(vfs, name, file, allowed, out)
        if code == sqlite3.SQLITE_OK:
            platform = _Methods.from_address(opened.methods)
            self._handles[file] = _Handle(
                disk, disk.opened(path, flags), _Close(platform.close), _Transfer(platform.read)
            )
            opened.methods = ctypes.addressof(self._table(opened.methods, watch_reads=disk.watch_reads))
        return code

    def _table(self, platform: int, *, watch_reads: bool) -> _Methods:
        """The platform's methods with ours in place of some."""
        table = self._tables.get((platform, watch_reads))
        if table is None:
            table = _Methods.from_buffer_copy(_Methods.from_address(platform))
            table.version = min(table.version, _VERSION)
            for name in ("close", "write", "truncate", "sync", *(["read"] if watch_reads else [])):
                setattr(table, name, self._address(name))
            self._tables[platform, watch_reads] = table
        return table

    def _delete(self, vfs: int, name: int, sync_folder: int) -> int:
        found = self._disk_of(name)
        if found is None:
            code: int = self._platform_delete(vfs, name, sync_folder)
            return code
        _, disk = found
        if refused := disk.delete_refused():
            return refused
        code = self._platform_delete(vfs, name, 0)
        disk.deleted(durable=bool(sync_folder))
        return code

    def _close(self, file: int) -> int:
        handle = self._handles.pop(file)
        handle.disk.closed(handle.file)
        return handle.close(file)

    def _read(self, file: int, into: int, size: int, offset: int) -> int:
        handle = self._handles[file]
        return handle.disk.read_refused() or handle.read(file, into, size, offset)

    def _write(self, file: int, data: int, size: int, offset: int) -> int:
        handle = self._handles[file]
        return handle.disk.write(handle.file, offset, ctypes.string_at(data, size))

    def _truncate(self, file: int, size: int) -> int:
        handle = self._handles[file]
        return handle.disk.truncate(handle.file, size)

    def _sync(self, file: int, _flags: int) -> int:
        handle = self._handles[file]
        return handle.disk.sync(handle.file)
