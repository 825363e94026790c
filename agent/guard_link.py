"""The agent's way to the guard: leases go out, what the guard did on its own comes in.

A lease that still waits for its commit is held back here, and so are its renewals. What was said last is
said again to a guard that was restarted. Nothing is answered, so a renewal costs no wake-up; a guard that
lives but does not read is noticed by what lies unread in the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable
from pathlib import Path

import structlog

from agent.core.types import SECOND, BootNs, GuardLocked, GuardState, Lease, Observation
from agent.guard import wire
from agent.life import Greeting
from agent.logs import Cycle

log = structlog.get_logger()

HELLO_S = 0.5  # ours: a guard that lives answers in a millisecond; a start must not wait for one that hangs
AGAIN_S = (0.05, 0.1, 0.2, 0.4, 1.0)  # ours: systemd restarts a guard after 250 ms
UNREAD_MAX = 3 * SECOND  # ours: a guard that has not read for so long hangs
MESSAGES_MAX = 16  # at a wake-up; ours


class Word:
    """What is lent, as far as the guard is to hear of it: a lease that waits for its commit is not."""

    def __init__(self) -> None:
        self.said: wire.Message | None = None  # last, and to a guard that comes again
        self._begun: int | None = None  # decision whose lease is out
        self._held: Lease | None = None  # renewal of a lease that is not begun yet

    def begin(self, lease: Lease) -> wire.Message:
        held, self._held = self._held, None
        if held is not None and held.decision == lease.decision:
            lease = held
        self._begun = lease.decision
        self.said = lease
        return lease

    def renew(self, lease: Lease) -> wire.Message | None:
        """None: it is held back."""
        if lease.decision != self._begun:
            self._held = lease
            return None
        self.said = lease
        return lease

    def end(self, decision: int, because: str) -> wire.Message:
        self._begun = self._held = None
        self.said = wire.End(decision, because)
        return self.said


class GuardLink:
    """Keeps a connection to the guard at ``path``. Everything happens on the loop it is started in."""

    def __init__(self, path: Path, observe: Callable[[Observation], None], now: Callable[[], BootNs]) -> None:
        self._path = path
        self._observe = observe
        self._now = now
        self._sock: socket.socket | None = None
        self._hello: asyncio.Future[wire.Hello] | None = None
        self._word = Word()
        self._read_at: BootNs | None = None  # when nothing lay unread; None: there is a guard no more
        self._present = False
        self._tries = 0
        self._again: asyncio.TimerHandle | None = None
        self._closed = False
        self._outage = Cycle(log, "guard.unreachable")

    async def start(self) -> Greeting:
        """Connect, and hear what the guard has to say."""
        trouble = self._connect()
        if self._hello is not None:
            try:
                hello = await asyncio.wait_for(asyncio.shield(self._hello), HELLO_S)
            except TimeoutError:
                trouble = f"{self._path}: the guard does not answer"
                self._drop()
            except OSError as error:
                return Greeting(absent=str(error))  # tried again by who lost it
            else:
                self._up()
                locked = None if hello.locked is None else (hello.locked.decision, hello.locked.rule)
                return Greeting(hello.lease, locked)
        self._outage.failed(error=trouble)
        self._retry()
        return Greeting(absent=trouble)

    async def close(self) -> None:
        """Hang up; a lease that runs goes on, so that the next run of the agent finds it."""
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        self._drop()

    def begin(self, lease: Lease) -> None:
        self._send(self._word.begin(lease))

    def renew(self, lease: Lease) -> None:
        if (message := self._word.renew(lease)) is not None:
            self._send(message)

    def end(self, decision: int, because: str) -> None:
        self._send(self._word.end(decision, because))

    def status(self) -> dict[str, object]:
        """What `ivmactl status` shows of it, as JSON."""
        said = self._word.said
        lease = said if isinstance(said, Lease) else None
        left_ns = 0 if lease is None else max(0, lease.until - self._now())
        return {"present": self._present, "lease_ms_left": left_ns // 1_000_000}

    # --- the connection ---------------------------------------------------------------------------

    def _connect(self) -> str:
        """Open a connection and wait for hello; returns what is wrong with it."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        sock.setblocking(False)
        try:
            sock.connect(os.fspath(self._path))
            uid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        except OSError as error:
            sock.close()
            return f"{self._path}: {error.strerror}; is ivma-guard running?"
        if uid not in {0, os.geteuid()}:
            sock.close()
            return f"{self._path}: user {uid} listens there, expected root; remove it"
        loop = asyncio.get_running_loop()
        self._sock = sock
        self._hello = loop.create_future()
        loop.add_reader(sock.fileno(), self._readable)
        return ""

    def _up(self) -> None:
        self._tries = 0
        self._present = True
        self._read_at = self._now()
        self._outage.ended()

    def _drop(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None
        if self._hello is not None and not self._hello.done():
            self._hello.cancel()
        self._hello = None

    def _retry(self) -> None:
        if not self._closed:
            wait_s = AGAIN_S[min(self._tries, len(AGAIN_S) - 1)]
            self._tries += 1
            self._again = asyncio.get_running_loop().call_later(wait_s, self._try)

    def _try(self) -> None:
        if trouble := self._connect():
            self._outage.failed(error=trouble)
            self._retry()
        elif self._hello is not None:
            self._hello.add_done_callback(self._greeted)

    def _greeted(self, hello: asyncio.Future[wire.Hello]) -> None:
        if hello.cancelled() or hello.exception() is not None:
            return
        self._up()
        self._observe(GuardState(self._now(), True, "connected"))
        self._took(hello.result().locked)
        if self._word.said is not None:
            self._send(self._word.said)

    def _lost(self, why: str) -> None:
        greeted = self._hello is None or self._hello.done()
        if self._hello is not None and not self._hello.done():
            self._hello.set_exception(ConnectionError(why))
            self._hello.exception()  # whoever waits has it; else nobody does
        self._drop()
        self._outage.failed(error=why)
        if greeted:
            self._gone(why)
        self._retry()

    def _gone(self, why: str) -> None:
        if self._present:
            self._present = False
            self._observe(GuardState(self._now(), False, why))

    # --- messages ---------------------------------------------------------------------------------

    def _readable(self) -> None:
        for _ in range(MESSAGES_MAX):
            if self._sock is None:
                return
            try:
                data = self._sock.recv(wire.MESSAGE_MAX + 1)
                if not data:
                    raise ConnectionError("the guard closed the connection")
                self._heard(wire.decode(data))
            except BlockingIOError:
                return
            except (OSError, wire.RemoteProtocolError) as error:
                self._lost(str(error))

    def _heard(self, message: wire.Message) -> None:
        match message:
            case wire.Hello() if self._hello is not None and not self._hello.done():
                self._hello.set_result(message)
            case wire.Locked():
                self._took(message)
            case _:
                raise wire.RemoteProtocolError(f"unexpected {type(message).__name__} from the guard")

    def _took(self, locked: wire.Locked | None) -> None:
        if locked is not None:
            self._observe(GuardLocked(self._now(), locked.decision, locked.rule))

    def _send(self, message: wire.Message) -> None:
        if self._sock is None or self._hello is None or not self._hello.done():
            return  # said again once it is greeted
        self._look_whether_it_reads()
        try:
            self._sock.send(wire.encode(message))
        except BlockingIOError:
            self._gone("its socket is full: it does not read")
        except OSError as error:
            self._lost(error.strerror or str(error))

    def _look_whether_it_reads(self) -> None:
        if self._sock is None or self._read_at is None:
            return
        unread = bytearray(4)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._sock, termios.TIOCOUTQ, unread)
        now = self._now()
        if not int.from_bytes(unread, "little"):
            self._read_at = now
            if not self._present:
                self._present = True
                self._observe(GuardState(now, True, "it reads again"))
        elif now - self._read_at >= UNREAD_MAX:
            self._gone(f"it has not read for {(now - self._read_at) // SECOND} s")
