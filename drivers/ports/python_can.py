"""Any python-can interface that has a file descriptor, read as struct can_frame."""

from __future__ import annotations

import errno
from typing import Any

import can

from drivers.ports.can_link import CanLink
from drivers.vehicles.codec import CAN_FRAME, CANFD_FRAME, ERROR, EXTENDED, REMOTE


class PythonCanBus:
    """A bus by python-can's name of its interface, such as slcan, pcan or virtual.

    Raises:
        OSError: it cannot be opened, or the interface has no file descriptor.
    """

    def __init__(self, interface: str, channel: str, *, fd: bool = False) -> None:
        self.dropped = 0  # CAN FD frames that no frame of the profile is
        self._fd_wanted = fd
        # Not every interface knows the word: it is said only where it is meant.
        wanted: dict[str, Any] = {"fd": True} if fd else {}
        try:
            self._bus = can.Bus(interface=interface, channel=channel, **wanted)
        except can.CanError as error:
            raise OSError(errno.ENODEV, f"{interface} {channel}: {error}") from error
        try:
            self._fd = self._bus.fileno()
        except NotImplementedError:
            self._fd = -1
        if self._fd < 0:
            self._bus.shutdown()
            raise OSError(
                errno.ENOTSUP, f"{interface} has no file descriptor; use SocketCAN for this adapter"
            )

    def fileno(self) -> int:
        return self._fd

    def link(self) -> CanLink:
        """Nothing: python-can has no common way to ask."""
        return CanLink()

    def drain(self, budget: int) -> list[bytes]:
        """Every frame that waits, ``budget`` at most; never blocks.

        Raises:
            OSError: the interface failed.
        """
        frames: list[bytes] = []
        try:
            while len(frames) < budget and (message := self._bus.recv(0)) is not None:
                if message.is_fd and not self._fd_wanted:
                    self.dropped += 1
                    continue
                word = message.arbitration_id
                word |= EXTENDED if message.is_extended_id else 0
                word |= REMOTE if message.is_remote_frame else 0
                word |= ERROR if message.is_error_frame else 0
                shape = CANFD_FRAME if message.is_fd else CAN_FRAME
                frames.append(shape.pack(word, message.dlc, bytes(message.data)))
        except can.CanError as error:
            raise OSError(errno.EIO, str(error)) from error
        return frames

    def close(self) -> None:
        self._bus.shutdown()
