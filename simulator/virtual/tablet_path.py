"""A path on the tablet's disk: its file is wherever the world has its folder, its name is always the same.

The folder of a world has another name each time, and errors name their file: they come to records, and so to
the history, which must be the same each time.
"""

from __future__ import annotations

from pathlib import PosixPath

STATE_DIR = "/var/lib/ivma"  # as systemd/ivma-agent.service has it


class TabletPath(PosixPath):
    """Reads as a path in ``STATE_DIR``; the system is given the real one."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{STATE_DIR}/{self.name}"

    def __fspath__(self) -> str:
        return super().__str__()
