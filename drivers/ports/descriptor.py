"""A descriptor on the loop as a dock's wire: opens it, drives the dock's session, opens it again when lost.

Reading and writing are non-blocking. Every wake-up is timestamped once. A dead descriptor leaves the loop at
once: left there, it would spin. What is opened, and how, says the port's own class.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from agent.core.types import SECOND, BootNs, Counters, DriveOutputs, LinkLoss, Observation
from drivers.spec import DockSession

log = structlog.get_logger()

READ_SIZE = 4096  # bytes a wake-up, the kernel's tty buffer: noise cannot keep the loop busy; ours
WRITE_LIMIT = 4096  # bytes that wait for a full port, a third of a second at 115200; ours
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 1.0  # between tries to open the port; ours


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


class DescriptorLink:
    """One dock behind one device node.

    ``locate`` says where it is: a path, or None when it is known to be absent, in which case nothing is tried
    before ``poke``. ``observe`` gets every observation, on the loop.
    """

    def __init__(
        self,
        session: DockSession,
        locate: Callable[[], str | None],
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
    ) -> None:
        self._session = session
        self._locate = locate
        self._observe = observe
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._port: Opened | None = None
        self._fd = -1
        self._path = ""
        self._unsent = bytearray()
        self._counts: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: BootNs | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._retry_s = FIRST_RETRY_S
        self._warned = False
        self._closed = False

    def start(self) -> None:
        """Open the port, now or as soon as it is there."""
        self._open()

    def close(self) -> None:
        """Close for good."""
        self._closed = True
        if self._port is not None:
            self._drop(LinkLoss.CLOSED)
        for timer in (self._timer, self._retry):
            if timer is not None:
                timer.cancel()

    def poke(self, gone: str | None = None) -> None:
        """Look again: udev saw a device come, or the one at the path ``gone`` go.

        Our own device that went is dropped at once: a list of devices may still name it.
        """
        if self._closed:
            return
        if self._port is None:
            self._retry_s = FIRST_RETRY_S
            self._open()
        elif gone == self._path or self._locate() is None:
            self._drop(LinkLoss.UNPLUGGED)

    def drive(self, outputs: DriveOutputs) -> None:
        self._session.drive(outputs, self._now())
        self._settle(())

    def cut_power(self, seconds: int | None) -> None:
        self._session.cut_power(seconds, self._now())
        self._settle(())

    def prove(self) -> None:
        self._session.prove(self._now())
        self._settle(())

    def nudge(self) -> None:
        """The session was called past the port: see what it has to say, and when it wants its timer."""
        self._settle(())

    def counters(self) -> Counters:
        """What the session and the port dropped, by reason."""
        return Counters({**self._session.counters().values, **self._counts})

    @property
    def is_open(self) -> bool:
        return self._port is not None

    @property
    def path(self) -> str | None:
        """The port that it holds; None: it has none open."""
        return self._path if self._port is not None else None

    # --- opening and losing ---

    def _open(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        path = self._locate()
        if path is None:
            return
        try:
            port = self._open_port(path)
        except OSError as error:
            self._counts["open_failed"] += 1
            self._warn("dock.open_failed", path, error.strerror or str(error))
            self._retry_later()
            return
        self._port, self._fd, self._path = port, port.fileno(), path
        self._unsent.clear()
        self._loop.add_reader(self._fd, self._readable)
        self._counts["opened"] += 1
        log.info("dock.opened", dock=self._session.name, port=path)
        self._settle(self._session.link_up(self._now()))

    def _open_port(self, path: str) -> Opened:
        """Open the device for ourselves. Raises OSError."""
        return Descriptor(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))

    def _close_port(self, port: Opened) -> None:
        """Close what was opened. Raises OSError."""
        port.close()

    def _drop(self, reason: LinkLoss) -> None:
        """Take the descriptor off the loop and close it, then say so."""
        port, self._port = self._port, None
        if port is None:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._unsent.clear()
        with contextlib.suppress(OSError):
            self._close_port(port)
        self._settle(self._session.link_lost(self._now(), reason))

    def _lost(self, problem: str) -> None:
        self._counts["lost"] += 1
        self._warn("dock.lost", self._path, problem)
        self._drop(LinkLoss.UNPLUGGED)
        self._retry_later()

    def _retry_later(self) -> None:
        if not self._closed:
            self._retry = self._loop.call_later(self._retry_s, self._open)
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    def _warn(self, event: str, path: str, problem: str) -> None:
        """WARNING at the first failure of a cycle, DEBUG until bytes arrive again."""
        write = log.debug if self._warned else log.warning
        self._warned = True
        write(event, dock=self._session.name, port=path, problem=problem, next_try_s=self._retry_s)

    # --- bytes and time ---

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
        self._warned = False
        self._retry_s = FIRST_RETRY_S
        self._take(data, at)

    def _take(self, data: bytes, at: BootNs) -> None:
        """What was read, for the session."""
        self._settle(self._session.feed(data, at))

    def _due(self) -> None:
        self._timer = self._deadline = None
        self._settle(self._session.timer(self._now()))

    def _settle(self, observations: Iterable[Observation]) -> None:
        """After every call of the session: write what it has to say, arm its timer, pass on what it saw."""
        self._write(self._session.outgoing())
        self._arm()
        for observation in observations:
            self._observe(observation)

    def _arm(self) -> None:
        deadline = None if self._closed else self._session.next_deadline()
        if deadline == self._deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._deadline = deadline
        if deadline is not None:
            delay_s = max(0, deadline - self._now()) / SECOND
            self._timer = self._loop.call_later(delay_s, self._due)

    def _write(self, data: bytes) -> None:
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
