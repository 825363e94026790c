"""One owner for the queue's file: a lock that says who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from sync.errors import StoreInUse


class Owner:
    """Holds an exclusive lock on a file beside the store's; the kernel frees it when the process ends.

    It is not the store's own file, whose POSIX locks SQLite would lose when anybody here closed it.

    Raises:
        StoreInUse: names the process that has it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 64).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StoreInUse(f"queue {path.stem} is in use by process {holder}: stop it first") from None
        with contextlib.suppress(OSError):  # a disk without room, or with errors: the lock is what counts
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)
