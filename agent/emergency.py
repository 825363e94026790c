"""Records of what took effect while the store could not take them: in a file whose room was taken beforehand.

Fresh proof and the override end a prohibition also when the store has failed. Their records then wait in the
store's bounded memory, and here, so that neither a kill nor a full disk loses them: the next start records
what it finds. Writing never waits for the disk; a thread of its own, made when it is needed, syncs.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.core.catalogue import CATALOGUE, RECORD_RECOVERED
from agent.core.records import Record
from agent.core.types import MS

log = structlog.get_logger()

SIZE = 64 * 1024  # bytes, ours: some sixty changes of enforcement with their evidence
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Left:
    """A record that an earlier run kept: of which boot, and in JSON."""

    kind: str
    boot_id: str
    boot_ms: int
    values: str

    @property
    def decision(self) -> object:
        """The change of enforcement that it is about, if it is about one."""
        return json.loads(self.values).get("decision")

    def record(self, at: int) -> Record:
        """The record that tells of it."""
        return RECORD_RECOVERED.make(
            at, kind=self.kind, boot_id=self.boot_id, boot_ms=self.boot_ms, values=self.values
        )


class EmergencyFile:
    """The file at ``path`` of one run in the boot ``boot_id``. No method raises on what a disk does."""

    def __init__(self, path: Path, boot_id: str, size: int = SIZE) -> None:
        self.dropped = 0  # records for which there was no room
        self._path = path
        self._boot_id = boot_id
        self._size = size
        self._kept = 0  # batches that are not durable elsewhere
        self._end = 0
        self._fd = -1
        try:
            self._fd = os.open(path, _FLAGS, 0o600)
            os.posix_fallocate(self._fd, 0, size)
        except OSError as error:
            log.warning("emergency.no_file", path=str(path), problem=error.strerror)

    def left(self) -> list[Left]:
        """What an earlier run kept, up to the first line that is not whole; one ``keep`` for ``forget``."""
        found: list[Left] = []
        if self._fd < 0:
            return found
        try:
            lines = os.pread(self._fd, self._size, 0).split(b"\n")
        except OSError as error:
            log.warning("emergency.not_read", path=str(self._path), problem=error.strerror)
            return found
        for line in lines:
            try:
                checked, text = line.split(b" ", 1)
                if int(checked, 16) != zlib.crc32(text):
                    break
                kept = json.loads(text)
                if kept["kind"] not in CATALOGUE:
                    break
                found.append(Left(kept["kind"], kept["boot"], kept["at"] // MS, json.dumps(kept["values"])))
                self._end += len(line) + 1
            except (ValueError, KeyError, TypeError):
                break
        self._kept += bool(found)
        return found

    def keep(self, records: Sequence[Record]) -> None:
        """Keep the records of one step until ``forget``."""
        self._kept += 1
        text = b"".join(self._line(record) for record in records)
        if self._fd < 0 or self._end + len(text) > self._size:
            self.dropped += len(records)
            log.error("emergency.full", path=str(self._path), records=len(records))
            return
        try:
            os.pwrite(self._fd, text, self._end)
        except OSError as error:
            self.dropped += len(records)
            log.error("emergency.not_written", path=str(self._path), problem=error.strerror)
            return
        self._end += len(text)
        threading.Thread(target=self._sync, name="emergency", daemon=True).start()

    def forget(self) -> None:
        """What one ``keep`` was about is durable now. With the last of them the file is empty again."""
        self._kept -= 1
        if self._kept or self._fd < 0:
            return
        used, self._end = self._end, 0
        with suppress(OSError):
            os.pwrite(self._fd, bytes(used), 0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _line(self, record: Record) -> bytes:
        names = (field.name for field in record.kind.fields)
        values = dict(zip(names, record.body, strict=True))
        kept = {"kind": record.kind.name, "boot": self._boot_id, "at": record.at, "values": values}
        text = json.dumps(kept).encode()
        return f"{zlib.crc32(text):08x} ".encode() + text + b"\n"

    def _sync(self) -> None:
        try:
            descriptor = os.dup(self._fd)  # the run may close its own meanwhile
        except OSError:
            return
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            log.error("emergency.not_synced", path=str(self._path), problem=error.strerror)
        finally:
            os.close(descriptor)


class NoEmergency:
    """For a run whose records need not outlive it."""

    def left(self) -> list[Left]:
        return []

    def keep(self, records: Sequence[Record]) -> None:
        """They stay in the store's memory."""

    def forget(self) -> None:
        """Nothing was kept."""

    def close(self) -> None:
        """Nothing is open."""
