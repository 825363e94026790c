"""What can go wrong on the way from a record to the fleet: ours, theirs and the disk's."""

from __future__ import annotations


class LocalProtocolError(ValueError):
    """This side asked for something that the formats do not allow: a defect here, never the peer's doing."""


class RemoteProtocolError(ValueError):
    """Bytes from elsewhere that are not what they claim to be.

    ``reason`` is a stable word to count and to test by; the message is for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class StoreError(OSError):
    """The queue's file cannot be used now (full, read-only, input/output). It may work again later."""


class StoreDamaged(StoreError):
    """The queue's file was corrupt. It has been put aside and a fresh one is in use."""


class StoreInUse(StoreError):
    """Another process owns the queue's file."""
