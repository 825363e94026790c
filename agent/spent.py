"""The note that the override without a record was taken in this boot: in a folder that a boot empties."""

from __future__ import annotations

from pathlib import Path

import structlog

log = structlog.get_logger()


class SpentNote:
    """An empty file named for the boot: nothing is written, so that no disk can be too full for it."""

    def __init__(self, folder: Path, boot_id: str) -> None:
        self._path = folder / f"override-spent.{boot_id}"

    def set(self) -> None:
        try:
            self._path.touch(mode=0o600)
        except OSError as error:
            log.warning("override.not_noted", path=str(self._path), error=error.strerror)

    def is_set(self) -> bool:
        return self._path.exists()


class NoNote:
    """For a run that is alone in its boot."""

    def set(self) -> None:
        """Nobody to tell."""

    def is_set(self) -> bool:
        return False
