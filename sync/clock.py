"""The clocks of this machine: boot time for order and age, wall time with how far it can be trusted."""

from __future__ import annotations

import ctypes
import re
import time
from pathlib import Path

from sync.blocks import Quality, Stamp

# Ours: no tablet with this agent existed before; a wall clock behind it was never set.
_PLAUSIBLE_NS = 1_735_689_600 * 1_000_000_000  # 2025-01-01T00:00:00Z
_STA_UNSYNC = 0x0040  # linux/timex.h
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class _Timex(ctypes.Structure):
    """struct timex up to ``status``; the rest, 208 bytes in all on 64 bits, only takes its place."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


class SystemClock:
    """Reads CLOCK_BOOTTIME, CLOCK_REALTIME and, by adjtimex, whether a time service keeps the latter."""

    def __init__(self) -> None:
        self._adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex

    def __call__(self) -> Stamp:
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        wall_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        return Stamp(boot_ns, wall_ns, quality(wall_ns, synced=self._synced()))

    def _synced(self) -> bool:
        timex = _Timex(modes=0)
        if self._adjtimex(ctypes.byref(timex)) < 0:
            return False
        return not timex.status & _STA_UNSYNC


def quality(wall_ns: int, *, synced: bool) -> Quality:
    """How far a wall clock reading can be trusted. One that the kernel calls synchronised is believed."""
    if synced:
        return Quality.SYNCED
    return Quality.RTC if wall_ns >= _PLAUSIBLE_NS else Quality.UNSET


def boot_id() -> bytes:
    """The kernel's id of this boot, 16 bytes."""
    return parse_boot_id(_BOOT_ID.read_text())


def parse_boot_id(text: str) -> bytes:
    """A boot id from its text form, with or without hyphens.

    Raises:
        ValueError: not 32 hex digits.
    """
    digits = text.strip().replace("-", "")
    if re.fullmatch("[0-9a-fA-F]{32}", digits) is None:
        raise ValueError(f"boot id {text!r:.80}: expected 32 hex digits")
    return bytes.fromhex(digits)
