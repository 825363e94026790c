"""The share of the processors that the agent's systemd unit asks for, CPUWeight=1000, for a measurement.

Without it a latency on a busy machine is that of its scheduler. Where it is not permitted nothing changes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

NICE = -10  # nine times the weight of 0 (sched(7)); CPUWeight=1000 is ten times the default of 100


@contextlib.contextmanager
def weighted() -> Iterator[None]:
    """Our own share, which children in this session inherit; what the session had comes back at the end."""
    own = os.getpid()
    give(own)
    try:
        yield
    finally:
        _autogroup(own, 0)


def give(pid: int) -> None:
    """The same for a process in a session of its own."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), NICE)
    _autogroup(pid, NICE)


def _autogroup(pid: int, nice: int) -> None:
    """With autogroups (sched(7)) a nice value counts only within its session."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))
