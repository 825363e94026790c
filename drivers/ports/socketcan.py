"""CAN frames read raw on a descriptor: SocketCAN, and simcan, whose wire is the same.

There is nothing here that sends. Not tried on a real SocketCAN interface: the machines that run the tests
have no AF_CAN. The same code reads the same struct can_frame from a Unix socket there.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from drivers.ports import can_link
from drivers.ports.can_link import CanLink
from drivers.vehicles.codec import CAN_FRAME

FRAME_BYTES = CAN_FRAME.size  # 16

# A full 500 kbit/s bus sends 225 frames in 50 ms, and a socket buffer's default holds some 270 (each costs
# about 768 bytes of kernel memory). The kernel doubles what is asked for and stops at rmem_max. Ours.
RECEIVE_BUFFER_BYTES = 1 << 20

SO_RXQ_OVFL = 40  # asm-generic/socket.h: with each message, how many were dropped before it
DROPPED = struct.Struct("=I")

CAN_RAW_ERR_FILTER = 2  # linux/can/raw.h; the socket module's type stubs lack it
ERROR_CLASSES = 0x40  # linux/can/error.h CAN_ERR_BUSOFF
IFF_UP = 0x1  # linux/if.h


class RawBus:
    """A socket on which each message is one struct can_frame."""

    def __init__(self, sock: socket.socket, link: Callable[[], CanLink] = CanLink) -> None:
        self.link = link  # asks what the interface is like now
        self.dropped = 0  # frames that the kernel dropped because we read too slowly
        self._sock = sock
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)

    def fileno(self) -> int:
        return self._sock.fileno()

    def drain(self, budget: int) -> list[bytes]:
        """Every frame that waits, ``budget`` at most; never blocks.

        Raises:
            OSError: the interface went, or the other end closed.
        """
        frames: list[bytes] = []
        try:
            # The count of drops comes with every message: asking for it once in a batch is enough.
            frame, control, _, _ = self._sock.recvmsg(FRAME_BYTES, socket.CMSG_SPACE(DROPPED.size))
            for _, _, data in control:
                (self.dropped,) = DROPPED.unpack(data[: DROPPED.size])
            fd, read = self._sock.fileno(), os.read
            while frame:
                frames.append(frame)
                if len(frames) >= budget:
                    return frames
                frame = read(fd, FRAME_BYTES)
        except BlockingIOError:
            return frames
        if frames:
            return frames  # the end comes again with the next call
        raise OSError(errno.ENOTCONN, "closed by the other end")

    def close(self) -> None:
        self._sock.close()


def open_socketcan(channel: str, filters: Sequence[tuple[int, int]]) -> RawBus:
    """Open a SocketCAN interface to listen, with the kernel's filters set to ``filters`` (id, mask).

    Raises:
        OSError: no such interface, it is down, or the kernel has no CAN.
    """
    if not is_up(channel):
        raise OSError(
            errno.ENETDOWN, f"{channel} is down; `ip link set {channel} up type can listen-only on`"
        )
    sock = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    try:
        packed = b"".join(struct.pack("=II", can_id, mask) for can_id, mask in filters)
        sock.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, packed)
        sock.setsockopt(socket.SOL_CAN_RAW, CAN_RAW_ERR_FILTER, ERROR_CLASSES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.bind((channel,))
        return RawBus(sock, partial(can_link.ask, channel))
    except OSError:
        sock.close()
        raise


def open_simcan(channel: str) -> RawBus:
    """Join the simulated bus whose hub listens at the path ``channel``.

    Raises:
        OSError: no hub listens there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(channel)
    except OSError:
        sock.close()
        raise
    return RawBus(sock)


def is_up(channel: str, net: Path = Path("/sys/class/net")) -> bool:
    """Whether the interface is up.

    Raises:
        OSError: there is no such interface.
    """
    return bool(int((net / channel / "flags").read_text(), 16) & IFF_UP)
