"""What the kernel says of a CAN interface (netlink): mode, bitrate, state of the controller, error counters.

It is asked when a bus is opened; the answer is parsed from RTM_NEWLINK. Nothing here touches a bus.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

# linux/rtnetlink.h, linux/if_link.h
RTM_NEWLINK, RTM_GETLINK, NLM_F_REQUEST = 16, 18, 1
IFLA_LINKINFO, IFLA_INFO_DATA = 18, 2
# linux/can/netlink.h
IFLA_CAN_BITTIMING, IFLA_CAN_STATE, IFLA_CAN_CTRLMODE = 1, 4, 5
IFLA_CAN_RESTART_MS, IFLA_CAN_BERR_COUNTER = 6, 8
CTRLMODE_LISTENONLY = 0x02
STATES = ("error-active", "error-warning", "error-passive", "bus-off", "stopped", "sleeping")

NLMSG_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
IFINFO = struct.Struct("=BxHiII")  # family, device type, index, flags, change
ATTRIBUTE = struct.Struct("=HH")  # length with this header, type
WORD = struct.Struct("=I")
CTRLMODE = struct.Struct("=II")  # struct can_ctrlmode: mask, flags
BERR_COUNTER = struct.Struct("=HH")  # struct can_berr_counter: transmit, receive
ATTRIBUTES_MAX = 64  # of one level; a CAN interface has about a dozen


@dataclass(frozen=True, slots=True)
class CanLink:
    """A CAN interface as the kernel describes it; None where it does not say (vcan says nothing)."""

    listen_only: bool | None = None  # the controller cannot even acknowledge
    bitrate: int | None = None  # bit/s
    state: str | None = None  # one of ``STATES``
    restart_ms: int | None = None  # after bus-off; 0: never by itself
    tx_errors: int | None = None
    rx_errors: int | None = None


def ask(channel: str) -> CanLink:
    """Ask the kernel.

    Raises:
        OSError: no such interface.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        index = IFINFO.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(channel), 0, 0)
        length = NLMSG_HEADER.size + len(index)
        route.send(NLMSG_HEADER.pack(length, RTM_GETLINK, NLM_F_REQUEST, 1, 0) + index)
        return parse(route.recv(1 << 16))


def parse(answer: bytes) -> CanLink:
    """What an RTM_NEWLINK message says; any other bytes say nothing."""
    if len(answer) < NLMSG_HEADER.size:
        return CanLink()
    length, kind, *_ = NLMSG_HEADER.unpack_from(answer)
    if kind != RTM_NEWLINK:
        return CanLink()
    attributes = _attributes(answer[NLMSG_HEADER.size + IFINFO.size : length])
    for nested in (IFLA_LINKINFO, IFLA_INFO_DATA):
        attributes = _attributes(attributes.get(nested, b""))
    mode = _unpacked(CTRLMODE, attributes.get(IFLA_CAN_CTRLMODE))
    bitrate = _unpacked(WORD, attributes.get(IFLA_CAN_BITTIMING))  # the first member of struct can_bittiming
    state = _unpacked(WORD, attributes.get(IFLA_CAN_STATE))
    restart = _unpacked(WORD, attributes.get(IFLA_CAN_RESTART_MS))
    errors = _unpacked(BERR_COUNTER, attributes.get(IFLA_CAN_BERR_COUNTER))
    return CanLink(
        listen_only=bool(mode[1] & CTRLMODE_LISTENONLY) if mode else None,
        bitrate=bitrate[0] if bitrate and bitrate[0] else None,
        state=STATES[state[0]] if state and state[0] < len(STATES) else None,
        restart_ms=restart[0] if restart else None,
        tx_errors=errors[0] if errors else None,
        rx_errors=errors[1] if errors else None,
    )


def _unpacked(shape: struct.Struct, data: bytes | None) -> tuple[int, ...] | None:
    return shape.unpack_from(data) if data is not None and len(data) >= shape.size else None


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= ATTRIBUTE.size and len(found) < ATTRIBUTES_MAX:
        length, kind = ATTRIBUTE.unpack_from(data)
        if length < ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[ATTRIBUTE.size : length]  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
        data = data[(length + 3) & ~3 :]  # NLA_ALIGN
    return found
