"""CAN frames read raw on a descriptor: SocketCAN, and simcan, whose wire is the same.

There is nothing here that sends. Not tried on a real SocketCAN interface: the machines that run the tests
have no AF_CAN. The same code reads the same struct can_frame from a Unix socket there.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

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

# linux/rtnetlink.h, linux/if_link.h, linux/can/netlink.h
RTM_NEWLINK, RTM_GETLINK, NLM_F_REQUEST = 16, 18, 1
IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_CAN_CTRLMODE = 18, 2, 5
CTRLMODE_LISTENONLY = 0x02
NLMSG_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
IFINFO = struct.Struct("=BxHiII")  # family, device type, index, flags, change
ATTRIBUTE = struct.Struct("=HH")  # length with this header, type


class RawBus:
    """A socket on which each message is one struct can_frame."""

    def __init__(self, sock: socket.socket, *, listen_only: bool | None = None) -> None:
        self.listen_only = listen_only  # None: not known
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
        return RawBus(sock, listen_only=is_listen_only(channel))
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


def is_listen_only(channel: str) -> bool | None:
    """Whether the CAN controller cannot even acknowledge; None if the interface does not say (vcan)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        index = IFINFO.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(channel), 0, 0)
        length = NLMSG_HEADER.size + len(index)
        route.send(NLMSG_HEADER.pack(length, RTM_GETLINK, NLM_F_REQUEST, 1, 0) + index)
        return listen_only_of(route.recv(1 << 16))


def listen_only_of(answer: bytes) -> bool | None:
    """The listen-only flag out of an RTM_NEWLINK message."""
    length, kind, *_ = NLMSG_HEADER.unpack_from(answer)
    if kind != RTM_NEWLINK:
        return None
    attributes = answer[NLMSG_HEADER.size + IFINFO.size : length]
    for nested in (IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_CAN_CTRLMODE):
        found = _attribute(attributes, nested)
        if found is None:
            return None
        attributes = found
    _, flags = struct.unpack_from("=II", attributes)  # struct can_ctrlmode: mask, flags
    return bool(flags & CTRLMODE_LISTENONLY)


def _attribute(data: bytes, wanted: int) -> bytes | None:
    while len(data) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(data)
        if length < ATTRIBUTE.size:
            return None
        if kind & 0x3FFF == wanted:  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
            return data[ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]  # NLA_ALIGN
    return None
