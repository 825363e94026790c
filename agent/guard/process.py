"""The guard as a process: one poll over the timer, the agent's socket and the bus. Nothing here decides.

The time is looked at first at every wake-up, a resume from suspend among them, and the timer is on the boot
clock: a lease that ran out in a sleep locks before anything else is done.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from agent import timerfd
from agent.core.basics import MS, BootNs
from agent.guard import posture, wire
from agent.guard.guardian import Act, Guardian, LockAll, LockSessions, Look, Publish, Tell
from agent.guard.logind import BusTrouble, Logind

SOCKET = "guard.sock"
BUS_AGAIN = 250 * MS  # ours: between two tries to reach the bus, which is restarted in less than a second
MESSAGES_MAX = 16  # of the agent at a wake-up; ours
UNREAD_MAX = 1024  # messages, more than a socket's buffer holds; ours


def boot_now() -> BootNs:
    return BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class Service:
    """What systemd is told (sd_notify(3)); without it nothing."""

    def __init__(self, address: str | None, watchdog_us: str) -> None:
        self._address = address if address is None or address[:1] != "@" else f"\0{address[1:]}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.every_ns = int(watchdog_us) * 1000 // 3 if watchdog_us.isdigit() else None

    def say(self, state: str) -> None:
        if self._address is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(state.encode(), socket.MSG_DONTWAIT, self._address)


class Process:
    """Runs a guardian. ``folder`` is its own: the socket and the posture file are in it.

    Args:
        peers: users that may be the agent.
    """

    def __init__(
        self,
        folder: Path,
        boot_id: str,
        found: posture.Posture | None,
        peers: Collection[int],
        logind: Logind,
        service: Service,
        log: Callable[[str, str], None],
    ) -> None:
        self._folder = folder
        self._peers = peers
        self._logind = logind
        self._service = service
        self._log = log
        self._guardian = Guardian(boot_now(), boot_id, found)
        self._timer = timerfd.create()
        self._listener = listen(folder / SOCKET)
        self._agent: socket.socket | None = None
        self._bus_at = boot_now()  # when to connect to the bus, while there is no connection
        self._feed_at = boot_now()
        self._trouble = ""

    def run(self) -> None:
        """Until an exception: SystemExit by a signal."""
        self._do(self._guardian.begin())
        self._service.say("READY=1")
        while True:
            poll = select.poll()
            for fd in (self._timer, self._listener.fileno(), self._agent_fd(), self._logind.fileno()):
                if fd >= 0:
                    poll.register(fd, select.POLLIN)
            timerfd.arm(self._timer, self._next())
            ready = {fd for fd, _ in poll.poll()}
            self._on_time()
            if self._timer in ready:
                timerfd.expired(self._timer)
            if self._agent_fd() in ready:
                self._hear()
            if self._listener.fileno() in ready:
                self._accept()
            if self._logind.fileno() in ready:
                self._bus_stirred()

    def close(self) -> None:
        self._logind.close()
        self._hang_up()
        self._listener.close()
        os.close(self._timer)

    def _agent_fd(self) -> int:
        return -1 if self._agent is None else self._agent.fileno()

    # --- time -------------------------------------------------------------------------------------

    def _next(self) -> int | None:
        times: list[int] = []
        if (deadline := self._guardian.deadline) is not None:
            times.append(deadline)
        if self._logind.fileno() < 0:
            times.append(self._bus_at)
        if self._service.every_ns is not None:
            times.append(self._feed_at)
        return min(times, default=None)

    def _on_time(self) -> None:
        deadline = self._guardian.deadline
        if deadline is not None and boot_now() >= deadline:
            # A guard that was stopped has renewals that it did not read; none goes beyond its own time.
            self._hear(UNREAD_MAX)
        now = boot_now()
        self._do(self._guardian.time(now))
        if self._logind.fileno() < 0 and now >= self._bus_at:
            self._connect()
        if self._service.every_ns is not None and now >= self._feed_at:
            self._service.say("WATCHDOG=1")
            self._feed_at = BootNs(now + self._service.every_ns)

    # --- the bus ----------------------------------------------------------------------------------

    def _connect(self) -> None:
        try:
            self._logind.connect()
        except BusTrouble as trouble:
            self._bus_failed(trouble)
        else:
            self._do(self._guardian.stirred(boot_now()))

    def _bus_stirred(self) -> None:
        try:
            stirred = self._logind.stirred()
        except BusTrouble as trouble:
            self._bus_failed(trouble)
        else:
            if stirred:
                self._do(self._guardian.stirred(boot_now()))

    def _bus_failed(self, trouble: BusTrouble) -> None:
        """Say it once in a row; connect anew if the connection is gone."""
        if str(trouble) != self._trouble:
            self._trouble = str(trouble)
            self._log("warning", f"logind cannot be asked: {trouble}")
        if self._logind.fileno() < 0:
            self._bus_at = BootNs(boot_now() + BUS_AGAIN)

    # --- the agent --------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return  # it has gone again
        pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in self._peers:
            self._log("warning", f"user {uid} (process {pid}) is not the agent and was refused")
            peer.close()
            return
        if self._agent is not None:
            # Of two that may speak the newer one counts: the older is what a crash has left open.
            self._log("warning", f"process {pid} takes the place of an agent that is still connected")
            self._hang_up()
        peer.setblocking(False)
        self._agent = peer
        self._do(self._guardian.connected(boot_now()))

    def _hear(self, most: int = MESSAGES_MAX) -> None:
        for _ in range(most):
            if self._agent is None:
                return
            try:
                data = self._agent.recv(wire.MESSAGE_MAX + 1)
                if not data:
                    self._gone()
                    return
                self._do(self._guardian.heard(boot_now(), wire.decode(data)))
            except BlockingIOError:
                return
            except (OSError, wire.RemoteProtocolError) as error:
                self._log("warning", f"the agent was hung up on: {error}")
                self._gone()

    def _gone(self) -> None:
        self._hang_up()
        self._do(self._guardian.gone(boot_now()))

    def _hang_up(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    # --- acts -------------------------------------------------------------------------------------

    def _do(self, acts: Iterable[Act]) -> None:
        """Acts in their order; one that fails does not keep the next from being done."""
        for act in acts:
            match act:
                case LockAll():
                    self._log("warning", "the lease ran out: locking all sessions")
                    self._ask(self._logind.lock_all)
                case LockSessions(ids=ids, asked=asked):
                    self._log("warning", f"session {', '.join(ids)} is not locked: asked again, {asked}x")
                    for each in ids:
                        self._ask(functools.partial(self._logind.lock, each))
                case Look():
                    self._look()
                case Publish(posture=shown):
                    self._publish(shown)
                case Tell(message=message):
                    self._tell(message)

    def _ask(self, what: Callable[[], None]) -> None:
        if self._logind.fileno() < 0:
            self._connect()  # a lock does not wait until it is due
        try:
            what()
        except BusTrouble as trouble:
            self._bus_failed(trouble)

    def _look(self) -> None:
        unlocked: list[str] | None = None
        before = self._guardian.verified
        try:
            if self._logind.fileno() < 0:
                self._logind.connect()
            unlocked = self._logind.unlocked()
        except BusTrouble as trouble:
            self._bus_failed(trouble)
        else:
            self._trouble = ""
        self._do(self._guardian.looked(boot_now(), unlocked))
        if self._guardian.verified and not before:
            self._log("info", "locked: LockedHint of every session read back")

    def _publish(self, shown: posture.Posture) -> None:
        try:
            posture.write(self._folder, shown)
        except OSError as error:
            self._log("error", f"{self._folder}: the posture file was not written: {error.strerror}")

    def _tell(self, message: wire.Message) -> None:
        if self._agent is not None:
            with contextlib.suppress(OSError):  # it does not read, or is gone: its end will be seen
                self._agent.send(wire.encode(message))


def listen(path: Path) -> socket.socket:
    """A socket at ``path``, in place of one that a crash left. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    listener.setblocking(False)
    before = os.umask(0o117)  # 0660 from the first moment: user and group; who it is the kernel says
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(before)
    listener.listen(4)
    return listener


def log_to_stderr(journal: bool) -> Callable[[str, str], None]:
    """One line a message; with a priority in front for the journal (sd-daemon(3))."""
    priority = {"error": 3, "warning": 4, "info": 6}

    def log(level: str, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"<{priority[level]}>{text}\n" if journal else f"ivma-guard: {text}\n")
            sys.stderr.flush()

    return log
