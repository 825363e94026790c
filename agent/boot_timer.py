"""One deadline on CLOCK_BOOTTIME, by timerfd: it also counts while the tablet is suspended.

asyncio's own timers use CLOCK_MONOTONIC, which stands still in a suspend: a deadline that passed in the
sleep would come late by the whole of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable

from agent.core.types import SECOND, BootNs

CLOCK_BOOTTIME = 7  # linux/time.h
TFD_TIMER_ABSTIME = 1  # linux/timerfd.h
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC are these (timerfd_create(2))
_ITIMERSPEC = struct.Struct("@llll")  # interval s, ns; value s, ns


class BootTimer:
    """Calls ``callback`` on the loop once the deadline set last has come; early never, late by a wake-up.

    Raises:
        OSError: the kernel gives no timer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(CLOCK_BOOTTIME, _FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create(CLOCK_BOOTTIME)")
        loop.add_reader(self._fd, self._expired)

    def set(self, at: BootNs | None) -> None:
        """Replace the deadline; one that has passed comes at once, None is none."""
        # A value of zero would disarm the timer instead of firing at once.
        seconds, nanoseconds = (0, 0) if at is None else divmod(max(at, 1), SECOND)
        value = _ITIMERSPEC.pack(0, 0, seconds, nanoseconds)
        if self._libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, value, None) < 0:
            raise OSError(ctypes.get_errno(), f"timerfd_settime to {at} ns")

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set anew between its expiry and this turn of the loop
        self._callback()
