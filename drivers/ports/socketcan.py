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
from typing import Any

from drivers.ports import can_link
from drivers.ports.can_link import CanLink
from drivers.vehicles.codec import CANFD_FRAME

# One frame a message: struct can_frame (16 bytes) or, if the socket was opened for them, struct canfd_frame.
FRAME_MAX = CANFD_FRAME.size

# A full 500 kbit/s bus sends 225 frames in 50 ms, and a socket buffer's default holds some 270 (each costs
# about 768 bytes of kernel memory). The kernel doubles what is asked for and stops at rmem_max. Ours.
RECEIVE_BUFFER_BYTES = 1 << 20

# asm-generic/socket.h, linux/net_tstamp.h; the socket module has none of them
SO_RXQ_OVFL = 40  # with each message, how many were dropped before it
SO_TIMESTAMPNS, SO_TIMESTAMPING = 35, 37
RX_HARDWARE, RX_SOFTWARE, SOFTWARE, RAW_HARDWARE = 0x04, 0x08, 0x10, 0x40
DROPPED = struct.Struct("=I")
TIME = struct.Struct("=qq")  # struct timespec of a 64-bit kernel: s, ns
TIMES = struct.Struct("=qqqqqq")  # struct scm_timestamping: by the kernel, unused, by the adapter
CONTROL_BYTES = socket.CMSG_SPACE(DROPPED.size) + socket.CMSG_SPACE(TIME.size) + socket.CMSG_SPACE(TIMES.size)

# linux/can/raw.h; the socket module's type stubs lack them
CAN_RAW_ERR_FILTER, CAN_RAW_FD_FRAMES = 2, 5
# linux/can/error.h CAN_ERR_CRTL, CAN_ERR_BUSOFF, CAN_ERR_RESTARTED: the controller's state; errors of single
# frames come by the thousand on a bad bus, and are in the error counters.
ERROR_CLASSES = 0x04 | 0x40 | 0x100
IFF_UP = 0x1  # linux/if.h


class RawBus:
    """A socket on which each message is one struct can_frame, or struct canfd_frame."""

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
            frame, control, _, _ = self._sock.recvmsg(FRAME_MAX, CONTROL_BYTES)
            self._count_drops(control)
            fd, read = self._sock.fileno(), os.read
            while frame:
                frames.append(frame)
                if len(frames) >= budget:
                    return frames
                frame = read(fd, FRAME_MAX)
        except BlockingIOError:
            return frames
        if frames:
            return frames  # the end comes again with the next call
        raise OSError(errno.ENOTCONN, "closed by the other end")

    def stamp(self) -> None:
        """Have the adapter's or the kernel's time of each frame, for ``drain_stamped``. Raises OSError."""
        wanted = RX_HARDWARE | RX_SOFTWARE | SOFTWARE | RAW_HARDWARE
        self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, wanted)
        self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def drain_stamped(self, budget: int) -> list[tuple[int | None, bytes]]:
        """As ``drain``, each frame with its arrival: ns by the wall clock, None where nobody stamped it.

        Costs a recvmsg a frame; for recordings. No decision looks at it: the wall clock may jump.
        """
        frames: list[tuple[int | None, bytes]] = []
        try:
            while len(frames) < budget:
                frame, control, _, _ = self._sock.recvmsg(FRAME_MAX, CONTROL_BYTES)
                if not frame:
                    break
                self._count_drops(control)
                frames.append((arrival(control), frame))
        except BlockingIOError:
            return frames
        if frames:
            return frames
        raise OSError(errno.ENOTCONN, "closed by the other end")

    def close(self) -> None:
        self._sock.close()

    def _count_drops(self, control: Sequence[tuple[int, int, bytes]]) -> None:
        for _, kind, data in control:
            if kind == SO_RXQ_OVFL:
                (self.dropped,) = DROPPED.unpack(data[: DROPPED.size])


def arrival(control: Sequence[tuple[int, int, Any]]) -> int | None:
    """When a message came, ns by the wall clock, from what the kernel tells beside it; None if it does not.

    The kernel's stamp is taken, not the adapter's: that one's clock starts at zero with the adapter, and two
    buses of one recording must be comparable. It stands in where the kernel has none.
    """
    adapter = None
    for _, kind, data in control:
        if kind == SO_TIMESTAMPNS and len(data) >= TIME.size:
            s, ns = TIME.unpack(data[: TIME.size])
            return int(s * 1_000_000_000 + ns)
        if kind == SO_TIMESTAMPING and len(data) >= TIMES.size:
            s, ns, _, _, hard_s, hard_ns = TIMES.unpack(data[: TIMES.size])
            if s or ns:
                return int(s * 1_000_000_000 + ns)
            if hard_s or hard_ns:
                adapter = int(hard_s * 1_000_000_000 + hard_ns)
    return adapter


def open_socketcan(channel: str, filters: Sequence[tuple[int, int]], *, fd: bool = False) -> RawBus:
    """Open a SocketCAN interface to listen, with the kernel's filters set to ``filters`` (id, mask).

    Without ``fd`` the kernel hands out no CAN FD frame.

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
        if fd:
            sock.setsockopt(socket.SOL_CAN_RAW, CAN_RAW_FD_FRAMES, 1)
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
