"""Small private files that a power cut leaves whole: the old or the new, never half of one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path


def aside(work: Callable[[], None]) -> asyncio.Future[None]:
    """Do ``work``, which waits for the disk, in a thread of its own; the loop gets a future of it.

    The thread is a daemon's: a disk that never answers does not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: OSError | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def tell(came: OSError | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, came)

    def run() -> None:
        came: OSError | None = OSError("ended by a defect; see the log")
        try:
            work()
            came = None
        except OSError as error:
            came = error
        finally:
            tell(came)

    threading.Thread(target=run, name="disk", daemon=True).start()
    return done


def replace(file: Path, content: str | bytes) -> None:
    """Put a file with mode 0600 in the place of what was there, a link included. Raises OSError."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content.encode() if isinstance(content, str) else content)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
    sync(file.parent)


def sync(folder: Path) -> None:
    """Make what was renamed or removed in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
