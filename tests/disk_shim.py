"""Processes on a disk that kills them, fails, is full, or never answers: tests/disk_shim.c, preloaded."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
ROOT = SOURCE.parents[1]


@dataclass(frozen=True, slots=True)
class Shim:
    """The built library; only files under ``folder`` are on that disk."""

    library: Path
    folder: Path

    @classmethod
    def build(cls, place: Path, folder: Path) -> Shim:
        library = place / "disk_shim.so"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", library, SOURCE, "-ldl"],
            check=True,
            capture_output=True,
        )
        return cls(library, folder)

    def environment(self, *, kill_at: int = 0, full_at: int = 0, stall: Path | None = None) -> dict[str, str]:
        """The child's: end at its n-th write, refuse writes beyond a byte, or stall (see Stall)."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LD_PRELOAD": str(self.library),
            "IVMA_DISK_FOLDER": str(self.folder),
            "IVMA_DISK_KILL": str(kill_at),
            "IVMA_DISK_FULL": str(full_at),
            **({"IVMA_DISK_STALL": str(stall)} if stall else {}),
        }


class Stall:
    """A disk that takes writes and answers no sync while ``begun``; syncs wait in the kernel, in open(2)."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stall"
        self._on = folder / "stall.on"
        os.mkfifo(self.path)
        os.mkfifo(folder / "stall.up")
        self._up = os.open(folder / "stall.up", os.O_RDWR)
        self._holder: int | None = None

    def begin(self) -> None:
        self._on.touch()

    def wait(self) -> None:
        """Until one sync more waits."""
        os.read(self._up, 1)

    def end(self) -> None:
        """Answer all syncs that wait, and those to come."""
        self._on.unlink(missing_ok=True)
        self._holder = os.open(self.path, os.O_RDWR)  # whoever waits in open(2) goes on

    def close(self) -> None:
        """A disk that still stalls is let go."""
        if self._holder is None:
            self.end()
        for descriptor in (self._up, self._holder):
            if descriptor is not None:
                os.close(descriptor)
