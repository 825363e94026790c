"""What somebody on the dock's line does who knows the protocol and has no key: frames with a right crc."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

CRC_BYTES = 4  # docs/dock-link.md
HEADER_BYTES = 4


def with_version(data: bytes, version: int) -> bytes:
    """Every whole frame of a write with another version."""

    def change(body: bytearray) -> None:
        body[0] = version

    return _rewritten(data, change)


def with_turned_bits(data: bytes, rng: random.Random) -> bytes:
    """Every whole frame of a write with one bit turned, behind its header."""

    def change(body: bytearray) -> None:
        if len(body) > HEADER_BYTES:
            body[rng.randrange(HEADER_BYTES, len(body))] ^= 1 << rng.randrange(8)

    return _rewritten(data, change)


def _rewritten(data: bytes, change: Callable[[bytearray], None]) -> bytes:
    *packets, rest = data.split(b"\0")
    out = b""
    for packet in packets:
        whole = unstuffed(packet)
        if len(whole) < HEADER_BYTES + CRC_BYTES:
            out += packet + b"\0"  # no frame: left as it is
            continue
        body = bytearray(whole[:-CRC_BYTES])
        change(body)
        out += stuffed(bytes(body) + zlib.crc32(body).to_bytes(CRC_BYTES, "little")) + b"\0"
    return out + rest


def unstuffed(packet: bytes) -> bytes:
    """COBS taken off; empty if it is none."""
    out, at = bytearray(), 0
    while at < len(packet):
        code = packet[at]
        if code == 0 or at + code > len(packet):
            return b""
        out += packet[at + 1 : at + code]
        at += code
        if code < 0xFF and at < len(packet):
            out.append(0)
    return bytes(out)


def stuffed(whole: bytes) -> bytes:
    """COBS put on; for less than 254 bytes without a zero in a row, as every frame of the link is."""
    return b"".join(bytes([len(run) + 1]) + run for run in whole.split(b"\0"))
