"""simcan as a python-can interface: ``can.Bus(interface="simcan", channel="/path/to/socket")``.

A bus between processes over a Unix seqpacket socket, for machines without AF_CAN. Each message is one
struct can_frame, as on SocketCAN. The simulator and tools send through it; the agent only reads, raw.
"""

from __future__ import annotations

import select
import socket
from typing import Any

import can

from drivers.vehicles.codec import CAN_FRAME, ERROR, EXTENDED, REMOTE

ID_BITS = 0x1FFF_FFFF


class SimCanBus(can.BusABC):
    """A member of the bus whose hub (``simulator.can_hub``) listens at the path ``channel``."""

    def __init__(self, channel: str, can_filters: Any = None, **kwargs: Any) -> None:
        self.channel_info = f"simcan {channel}"
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._sock.connect(channel)
        except OSError as error:
            self._sock.close()
            raise can.CanInitializationError(
                f"simcan {channel}: no hub listens there ({error.strerror}); start one with `ivma-sim`"
            ) from None
        self._sock.setblocking(False)
        super().__init__(channel, can_filters=can_filters, **kwargs)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        if msg.is_fd:
            raise can.CanOperationError("simcan carries classic CAN frames only, not CAN FD")
        if not select.select([], [self._sock], [], 0 if timeout is None else timeout)[1]:
            raise can.CanOperationError("simcan: the hub does not read")
        word = msg.arbitration_id
        word |= EXTENDED if msg.is_extended_id else 0
        word |= REMOTE if msg.is_remote_frame else 0
        word |= ERROR if msg.is_error_frame else 0
        try:
            self._sock.send(CAN_FRAME.pack(word, msg.dlc, bytes(msg.data)))
        except OSError as error:
            raise can.CanOperationError(f"simcan: {error.strerror}") from error

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        if not select.select([self._sock], [], [], timeout)[0]:
            return None, False
        try:
            raw = self._sock.recv(CAN_FRAME.size)
        except OSError as error:
            raise can.CanOperationError(f"simcan: {error.strerror}") from error
        if len(raw) != CAN_FRAME.size:
            raise can.CanOperationError("simcan: the hub closed the bus")
        word, length, data = CAN_FRAME.unpack(raw)
        message = can.Message(
            arbitration_id=word & ID_BITS,
            is_extended_id=bool(word & EXTENDED),
            is_remote_frame=bool(word & REMOTE),
            is_error_frame=bool(word & ERROR),
            dlc=length,
            data=None if word & REMOTE else data[:length],
        )
        return message, False

    def shutdown(self) -> None:
        super().shutdown()
        self._sock.close()
