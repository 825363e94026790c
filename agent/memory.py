"""What outlives a restart, as bytes in the store. Unreadable memory is no memory and grants nothing."""

from __future__ import annotations

import msgspec
import structlog

from agent.core.types import Remembered

log = structlog.get_logger()


def encode(remembered: Remembered) -> bytes:
    return msgspec.json.encode(remembered)


def decode(raw: bytes | None) -> Remembered | None:
    """The memory, or None when there is none or it cannot be read."""
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=Remembered)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # text that is no UTF-8 is not a DecodeError
        log.warning("memory.unreadable", error=str(error), effect="nothing is taken over from before")
        return None
