"""simcan's hub: a CAN bus between processes, over a Unix seqpacket socket.

Each message on the wire is one struct can_frame of 16 bytes, as on SocketCAN, and goes to every member but
the one that sent it. What each process sends is counted by its pid, which the kernel vouches for: so a rig
proves that the agent transmitted nothing.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from pathlib import Path

FRAME_BYTES = 16  # struct can_frame, linux/can.h
PEER = struct.Struct("=iII")  # struct ucred: pid, uid, gid
MAX_MEMBERS = 64
BUDGET = 256  # frames from one member before the others have their turn
# What may wait for a slow member: some 1,300 frames of 768 bytes of kernel memory, 0.3 s of a full bus.
SEND_BUFFER_BYTES = 1 << 20


class CanHub:
    """The bus at ``path``; ``async with`` opens and closes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent_by_pid: dict[int, int] = {}  # frames that each process transmitted
        self.dropped = 0  # frames that a member read too slowly to get
        self.refused = 0  # messages that were no frame, and members beyond the limit
        self._members: dict[socket.socket, int] = {}
        self._listener: socket.socket | None = None

    async def __aenter__(self) -> CanHub:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen, on the running loop.

        Raises:
            OSError: the path is taken or cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        try:
            listener.bind(str(self.path))
            listener.listen(MAX_MEMBERS)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept)

    def close(self) -> None:
        """Every member sees the bus go."""
        loop = asyncio.get_running_loop()
        for member in list(self._members):
            self._leave(member)
        if self._listener is not None:
            loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            self.path.unlink(missing_ok=True)

    @property
    def members(self) -> list[int]:
        """The pid of each member."""
        return list(self._members.values())

    def send(self, frame: bytes) -> None:
        """Put a frame on the bus from the hub's own process, for a vehicle that lives there."""
        if len(frame) != FRAME_BYTES:
            raise ValueError(f"a frame is {FRAME_BYTES} bytes, not {len(frame)}")
        self._forward(frame, None)

    def _accept(self) -> None:
        if self._listener is None:
            return
        with suppress(BlockingIOError):
            member, _ = self._listener.accept()
            if len(self._members) >= MAX_MEMBERS:
                self.refused += 1
                member.close()
                return
            member.setblocking(False)
            member.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            pid, _, _ = PEER.unpack(member.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
            self._members[member] = pid
            self.sent_by_pid.setdefault(pid, 0)
            asyncio.get_running_loop().add_reader(member, self._read, member)

    def _read(self, member: socket.socket) -> None:
        for _ in range(BUDGET):
            try:
                frame = member.recv(FRAME_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:
                frame = b""
            if not frame:
                self._leave(member)
                return
            # Counted before it is looked at: whatever a process writes here, it transmitted.
            self.sent_by_pid[self._members[member]] += 1
            if len(frame) == FRAME_BYTES:
                self._forward(frame, member)
            else:
                self.refused += 1

    def _forward(self, frame: bytes, sender: socket.socket | None) -> None:
        for member in list(self._members):
            if member is sender:
                continue
            try:
                member.send(frame)
            except BlockingIOError:
                self.dropped += 1
            except OSError:
                self._leave(member)

    def _leave(self, member: socket.socket) -> None:
        if self._members.pop(member, None) is not None:
            asyncio.get_running_loop().remove_reader(member)
            member.close()
