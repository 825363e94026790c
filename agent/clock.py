"""The clock that decisions are made by. Read here, passed on as a value."""

from __future__ import annotations

import time
from pathlib import Path

from agent.core.types import BootNs


def boot_now() -> BootNs:
    """Nanoseconds since boot, suspended time included (CLOCK_BOOTTIME)."""
    return BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


def read_boot_id(path: Path) -> str:
    """The kernel's identifier of this boot.

    Raises:
        OSError: the file cannot be read.
    """
    return path.read_text().strip()
