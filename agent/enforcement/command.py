"""Runs a site's command: a process group of its own, killed at its time limit, with bounded output.

Nothing here blocks the loop, and no shell is involved.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OUTPUT_MAX = 2048  # bytes kept of what a command says, ours; the rest is read and dropped
READ_MAX = 65_536
KILL_S = 1.0  # ours: how long a killed process may take to be gone; one that is stuck in the kernel stays


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended. ``status``: its exit status, minus a signal's number, or None: over its limit."""

    status: int | None
    output: str


class Refused(Exception):
    """The command is not started: it is missing, or others than its owner could change it."""


def trusted(command: str) -> None:
    """Check that nobody but root and our own user can change the file.

    Raises:
        Refused: with what is wrong and what to do.
    """
    path = Path(command)
    for place in (path, path.parent):
        try:
            found = place.stat()
        except OSError as error:
            raise Refused(f"{place}: {error.strerror}") from None
        sticky = place is not path and found.st_mode & stat.S_ISVTX
        if found.st_uid not in (0, os.geteuid()) or (found.st_mode & 0o022 and not sticky):
            raise Refused(f"{place}: others can change it; chown it to root and chmod go-w")


async def run(argv: Sequence[str], environment: Mapping[str, str], limit_s: float) -> Ran:
    """Run a command to its end, or kill it at the limit, and with it what it left in its process group.

    A cancelled run is killed too. Raises OSError: it could not be started.
    """
    process = subprocess.Popen(  # noqa: S603, ASYNC220 - the site's own; vfork and exec take a millisecond
        argv, env=dict(environment), cwd="/", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None  # noqa: S101 - narrowing: it is a pipe
    loop, ended, output = asyncio.get_running_loop(), asyncio.Event(), _Output(process.stdout.fileno())
    ends = os.pidfd_open(process.pid)
    loop.add_reader(ends, ended.set)
    in_time = True
    try:
        async with asyncio.timeout(limit_s):
            await ended.wait()
    except TimeoutError:
        in_time = False
    finally:
        # Not reaped yet, so the number is still its own; also what it left running in its group goes.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_S):
                await ended.wait()
        loop.remove_reader(ends)
        os.close(ends)
        output.end()
        process.stdout.close()
        status = process.poll()
    return Ran(status if in_time else None, output.text())


class _Output:
    """The first bytes that come down a pipe; a command that says more is read on, so that it never waits."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = bytearray()
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._readable)

    def end(self) -> None:
        """Take what is there, and no more."""
        self._readable()
        asyncio.get_running_loop().remove_reader(self._descriptor)

    def text(self) -> str:
        """One printable line."""
        text = self._kept.decode(errors="replace")
        return "".join(each if each.isprintable() else " " for each in text).strip()

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, READ_MAX)
        except OSError:  # nothing there
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._kept += data[: OUTPUT_MAX - len(self._kept)]
