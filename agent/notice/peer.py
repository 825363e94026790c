"""Who is at the other end of a connection on loopback: the kernel's table of TCP sockets names the users."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

TABLE = Path("/proc/net/tcp")  # proc(5); IPv4, this network namespace
TABLE_MAX = 1 << 20  # bytes, ours: some 6,900 sockets


def uid_of(theirs: tuple[str, int], ours: tuple[str, int]) -> int | None:
    """The user id of the socket at ``theirs`` that is connected to ``ours``; None if it is not found."""
    wanted = (_hex(theirs), _hex(ours))
    try:
        with TABLE.open("rb") as file:
            lines = file.read(TABLE_MAX).decode("ascii", "replace").splitlines()
    except OSError:
        return None
    for line in lines[1:]:
        fields = line.split()
        if len(fields) > 7 and (fields[1], fields[2]) == wanted and fields[7].isdigit():
            return int(fields[7])
    return None


def _hex(address: tuple[str, int]) -> str:
    """As the table writes it: the address in the machine's byte order, then the port."""
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return f"{number:08X}:{address[1]:04X}"
