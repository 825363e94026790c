"""What keeps keys in this process's memory from being written out."""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress

PR_SET_DUMPABLE = 4  # linux/prctl.h


def no_core_dumps() -> None:
    """No core dump of this process, whatever started it: the unit's LimitCORE= covers only the unit.

    A zero limit does not bind a core_pattern that is a pipe (core(5)); a process that is not dumpable has no
    dump at all, and its memory cannot be read by other processes of its user. Raises nothing: with neither,
    the agent still has to run.
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
