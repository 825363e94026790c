"""Frames to a file: candump's log or Vector's BLF, by python-can. Bounded, private, whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import can

from drivers.vehicles.codec import CAN_FRAME, ERROR, EXTENDED, REMOTE

ID_BITS = 0x1FFF_FFFF
FORMATS = ("candump", "blf")
# BLF is written in containers of up to 128 KiB before compression (python-can, blf.py), and has an end.
RESERVE = 192 << 10


class Recording:
    """A file that grows beside its name and gets it at the end.

    Raises:
        OSError: there is a file of that name already, or it cannot be written.
    """

    def __init__(self, file: Path, form: str, channel: str, limit: int) -> None:
        if file.exists():
            raise FileExistsError(f"{file} is there already; nothing was recorded")
        self.frames = 0
        self._file = file
        self._channel = channel
        self._limit = limit - RESERVE
        self._part = file.with_name(f".{file.name}.part")
        self._part.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._part, flags, 0o600)
        if form == "blf":
            self._writer: can.BLFWriter | can.CanutilsLogWriter = can.BLFWriter(os.fdopen(descriptor, "wb"))
        else:
            self._writer = can.CanutilsLogWriter(os.fdopen(descriptor, "w"), channel=channel)

    def put(self, batch: Iterable[tuple[int, bytes]]) -> bool:
        """Add frames; False once it is full. Raises OSError."""
        for at, raw in batch:
            if self._writer.file_size() >= self._limit:
                return False
            self._writer.on_message_received(message(raw, at, self._channel))
            self.frames += 1
        return True

    def end(self) -> int:
        """Close it and give it its name; its bytes. Raises OSError: then there is no file."""
        try:
            self._writer.stop()
            descriptor = os.open(self._part, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.link(self._part, self._file)  # and never over another file
            return self._file.stat().st_size
        finally:
            self._part.unlink(missing_ok=True)


def message(raw: bytes, at: int, channel: str) -> can.Message:
    """A struct can_frame or canfd_frame that came at ``at`` (ns, wall clock), for python-can."""
    word = int.from_bytes(raw[:4], "little" if CAN_FRAME.pack(1, 0, b"")[0] else "big")
    length = raw[4]
    return can.Message(
        timestamp=at / 1e9,
        arbitration_id=word & ID_BITS,
        is_extended_id=bool(word & EXTENDED),
        is_remote_frame=bool(word & REMOTE),
        is_error_frame=bool(word & ERROR),
        is_fd=len(raw) > CAN_FRAME.size,
        dlc=length,
        data=None if word & REMOTE else raw[8 : 8 + length],
        channel=channel,
    )
