"""A descriptor on the loop as a dock's wire.

Reading and writing are non-blocking. A dead descriptor leaves the loop at once: left there, it would spin.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Protocol

from agent.core.types import BootNs, Observation
from drivers.ports.link import Link
from drivers.spec import DockSession

READ_SIZE = 4096  # bytes a wake-up, the kernel's tty buffer: noise cannot keep the loop busy; ours
WRITE_LIMIT = 4096  # bytes that wait for a full port, a third of a second at 115200; ours


class Opened(Protocol):
    """Something open with a descriptor."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...


class Descriptor:
    """A bare one."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)


class DescriptorLink(Link):
    """One dock behind one device node that is read and written."""

    def __init__(
        self,
        session: DockSession,
        locate: Callable[[], str | None],
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
    ) -> None:
        super().__init__(session, locate, observe, now)
        self._port: Opened | None = None
        self._fd = -1
        self._unsent = bytearray()

    @property
    def is_open(self) -> bool:
        return self._port is not None

    def _open_port(self, path: str) -> Opened:
        """Open the device for ourselves. Raises OSError."""
        return Descriptor(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))

    def _close_port(self, port: Opened) -> None:
        """Close what was opened. Raises OSError."""
        port.close()

    def _attach(self, path: str) -> None:
        self._port = self._open_port(path)
        self._fd = self._port.fileno()
        self._unsent.clear()
        self._loop.add_reader(self._fd, self._readable)

    def _detach(self) -> None:
        port, self._port = self._port, None
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._unsent.clear()
        if port is not None:
            with contextlib.suppress(OSError):
                self._close_port(port)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error.strerror or str(error))
            return
        at = self._now()
        if not data:
            self._lost("end of file")
            return
        self._take(data, at)

    def _put(self, data: bytes) -> None:
        if not data or self._port is None:
            return
        if len(self._unsent) + len(data) > WRITE_LIMIT:
            self._counts["write_dropped"] += 1  # whole frames: what is written stays well-formed
            return
        waiting = bool(self._unsent)
        self._unsent += data
        if not waiting:
            self._flush()

    def _flush(self) -> None:
        try:
            sent = os.write(self._fd, self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            # A descriptor that is dead for writing is dead for reading: the reader is about to say so.
            self._counts["write_failed"] += 1
            sent = len(self._unsent)
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._fd, self._flush)
        else:
            self._loop.remove_writer(self._fd)
