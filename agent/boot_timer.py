"""One deadline on CLOCK_BOOTTIME, by timerfd: it also counts while the tablet is suspended.

asyncio's own timers use CLOCK_MONOTONIC, which stands still in a suspend: a deadline that passed in the
sleep would come late by the whole of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from agent import timerfd
from agent.core.types import BootNs


class BootTimer:
    """Calls ``callback`` on the loop once the deadline set last has come; early never, late by a wake-up.

    Raises:
        OSError: the kernel gives no timer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._fd = timerfd.create()
        loop.add_reader(self._fd, self._expired)

    def set(self, at: BootNs | None) -> None:
        """Replace the deadline; one that has passed comes at once, None is none."""
        timerfd.arm(self._fd, at)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _expired(self) -> None:
        if timerfd.expired(self._fd):
            self._callback()
