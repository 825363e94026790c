"""What systemd is told: ready, reloading, stopping, a line of status, and that we are alive.

sd_notify(3) and sd_watchdog_enabled(3), by the standard library alone.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

import structlog

from agent.logs import Cycle

log = structlog.get_logger()


class Notifier:
    """Sends states to the service manager; without one (``address`` None) it does nothing.

    Args:
        address: NOTIFY_SOCKET: a path, or "@" and the name of an abstract socket.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address if address is None or address[:1] != "@" else f"\0{address[1:]}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._trouble = Cycle(log, "supervise.notify_failed")

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self, monotonic_us: int) -> None:
        """A reload began; ``ready`` ends it. systemd compares the time with its own (Type=notify-reload)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_us}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + " ".join(text.split()))

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def close(self) -> None:
        self._socket.close()

    def _send(self, state: str) -> None:
        if self._address is None:
            return
        try:
            self._socket.sendto(state.encode(), self._address)
        except OSError as error:
            self._trouble.failed(address=self._address, error=str(error))
        else:
            self._trouble.ended()


def watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """A third of the time that systemd gives us between two signs of life; None when it wants none.

    A third, not the half that sd_watchdog_enabled(3) advises: one round in which a part answers late
    must not end the agent.
    """
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(usec) / 3_000_000


class Watchdog:
    """Feeds systemd's watchdog only while every part is alive; the loop is one of them by running this.

    Args:
        ask: for each part, what makes it answer with ``alive(name)``, from the loop's thread.
    """

    def __init__(
        self, feed: Callable[[], None], ask: Mapping[str, Callable[[], object]], interval_s: float
    ) -> None:
        self._feed = feed
        self._ask = ask
        self._interval_s = interval_s
        self._silent = set(ask)
        self._trouble = Cycle(log, "supervise.part_is_silent")
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Feed once, ask every part, and go on every ``interval_s``."""
        self._feed()
        self._next()

    def alive(self, name: str) -> None:
        self._silent.discard(name)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _next(self) -> None:
        self._silent = set(self._ask)
        for ask in self._ask.values():
            ask()
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self.round)

    def round(self) -> None:
        """End a round: feed if every part answered; a round with a silent part goes on until it does."""
        if self._silent:
            self._trouble.failed(parts=sorted(self._silent))
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self.round)
            return
        self._trouble.ended()
        self._feed()
        self._next()
