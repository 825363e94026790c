"""Damaged files of a queue, kept beside it and never deleted, and a new one that takes its place."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path


class Quarantine:
    """The names around the queue at ``path``: ``<name>.damaged-<n>`` with their logs, and ``<name>.new``.

    Raises:
        OSError: from every method: the folder cannot be changed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.new = path.with_name(f"{path.name}.new")

    def put_aside(self) -> Path:
        """Rename the file and its log; where they are now."""
        aside = self._name(next(n for n in itertools.count(1) if not self._name(n).exists()))
        # The file first: a log alone is found later, a file without its log would be believed.
        self._path.rename(aside)
        self._follow(aside)
        return aside

    def waiting(self) -> Path | None:
        """The file that was put aside last, while nothing is in its place. What was begun is begun again."""
        if self._path.exists():
            return None
        number = next(n for n in itertools.count(1) if not self._name(n).exists()) - 1
        if number == 0:
            return None
        aside = self._name(number)
        self._follow(aside)
        self.drop_new()
        return aside

    def drop_new(self) -> None:
        """Forget a new file that is not whole."""
        for left in (self.new, self.new.with_name(f"{self.new.name}-journal")):
            left.unlink(missing_ok=True)

    def take_place(self) -> None:
        """The new file is whole and synced: give it the queue's name."""
        self.new.rename(self._path)

    def _follow(self, aside: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.with_name(f"{self._path.name}-wal").rename(aside.with_name(f"{aside.name}-wal"))

    def _name(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.damaged-{number}")
