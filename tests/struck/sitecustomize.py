"""Put on PYTHONPATH of an agent that is to be struck: faults that cannot be had from outside a process.

SIGUSR1: the loop is busy for ever. SIGUSR2: all memory is gone. The file that IVMA_STRUCK names: what the
agent imports first is not there.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

SPARE = 8 << 20  # bytes that the process may still get, and gets
_held: list[bytearray] = []


def busy(_number: int, _frame: object) -> None:
    while True:
        pass


def starve(_number: int, _frame: object) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE,) * 2)
    for size in (1 << 20, 1 << 16, 1 << 12, 1 << 9):
        try:
            while True:
                _held.append(bytearray(size))
        except MemoryError:
            pass


signal.signal(signal.SIGUSR1, busy)
signal.signal(signal.SIGUSR2, starve)
if os.path.exists(os.environ.get("IVMA_STRUCK", "")):  # noqa: PTH110 - as little as may be is imported here
    sys.modules["structlog"] = None  # type: ignore[assignment]
