"""The note of a lock whose record is not committed yet.

A lock never waits for the store. Between the lock and the commit of its record lies a crash's chance to
leave a lock unrecorded; the note, in the runtime folder, lets the next start record it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import structlog

log = structlog.get_logger()
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class FileMarker:
    """A marker in a file. Failing to write it is logged and never stops the lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decision: int | None = None

    def set(self, decision: int, rule: str) -> None:
        """Note that ``decision`` locks, by ``rule``."""
        self._decision = decision
        note = json.dumps({"decision": decision, "rule": rule}).encode()
        try:
            # The bare calls: a text file object costs more than all the rest, and a lock waits for this.
            descriptor = os.open(self._path, _FLAGS, 0o600)
            try:
                os.write(descriptor, note)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("marker.not_written", path=str(self._path), error=error.strerror)

    def clear(self, decision: int) -> None:
        """The record of ``decision`` is durable; a note of a later lock stays, one of an earlier run goes."""
        if self._decision in (None, decision):
            self._decision = None
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("marker.not_removed", path=str(self._path), error=error.strerror)

    def read(self) -> tuple[int | None, str] | None:
        """What an earlier run left: (decision, rule), or None.

        A note that cannot be read counts as one of a lock; its decision is None.
        """
        try:
            note = json.loads(self._path.read_text())
            return int(note["decision"]), str(note["rule"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("marker.unreadable", path=str(self._path), error=str(error))
            return None, "unreadable marker"
