"""Timers on CLOCK_BOOTTIME, as descriptors: they count while the tablet is suspended, unlike every timer of
the standard library before Python 3.13 (`os.timerfd_create`), and so this is done by ctypes."""

from __future__ import annotations

import ctypes
import os
import struct

CLOCK_BOOTTIME = 7  # linux/time.h
CLOCK_BOOTTIME_ALARM = 9  # the same; it wakes the machine too
TFD_TIMER_ABSTIME = 1  # linux/timerfd.h
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC are these (timerfd_create(2))
_ITIMERSPEC = struct.Struct("@llll")  # interval s, ns; value s, ns
_SECOND = 1_000_000_000

_libc = ctypes.CDLL(None, use_errno=True)


def create(clock: int = CLOCK_BOOTTIME) -> int:
    """A timer's descriptor, readable once the time set last has come.

    Raises:
        OSError: the kernel gives no timer.
    """
    fd: int = _libc.timerfd_create(clock, _FLAGS)
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: timerfd_create of clock {clock}")
    return fd


def arm(fd: int, at: int | None) -> None:
    """Replace the timer's time (boot ns); one that has passed comes at once, None is none."""
    # A value of zero would disarm the timer instead of firing at once.
    seconds, nanoseconds = (0, 0) if at is None else divmod(max(at, 1), _SECOND)
    value = _ITIMERSPEC.pack(0, 0, seconds, nanoseconds)
    if _libc.timerfd_settime(fd, TFD_TIMER_ABSTIME, value, None) < 0:
        raise OSError(ctypes.get_errno(), f"timerfd_settime to {at} ns")


def expired(fd: int) -> bool:
    """Take note of an expiry; False if there is none, as when it was set anew meanwhile."""
    try:
        return bool(os.read(fd, 8))
    except BlockingIOError:
        return False
