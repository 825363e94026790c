"""What netlink's answer says of a CAN interface."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ports.can_link import CanLink, ask, parse


def attribute(kind: int, data: bytes) -> bytes:
    """A netlink attribute, padded to 4 bytes."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def answer(data: bytes) -> bytes:
    """RTM_NEWLINK of a CAN interface as the kernel lays it out (linux/can/netlink.h)."""
    attributes = attribute(3, b"can0\0") + attribute(18, attribute(1, b"can\0") + attribute(2 | 0x8000, data))
    body = struct.pack("=BxHiII", 0, 280, 3, 1, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), 16, 0, 1, 0) + body


def mode(flags: int) -> bytes:
    return attribute(5, struct.pack("=II", 0x7F, flags))


@pytest.mark.parametrize(
    ("data", "expected"),
    [(mode(2), True), (mode(0x22), True), (mode(0), False), (mode(1), False), (b"", None)],
)
def test_listen_only_is_read_from_the_interfaces_mode(data: bytes, expected: bool | None) -> None:
    assert parse(answer(data)).listen_only is expected


def test_everything_that_an_engineer_asks_for_is_read() -> None:
    data = (
        attribute(1, struct.pack("=8I", 500_000, 875, 125, 6, 7, 2, 1, 6))
        + attribute(4, struct.pack("=I", 2))
        + mode(2)
        + attribute(6, struct.pack("=I", 100))
        + attribute(8, struct.pack("=HH", 3, 129))
    )
    assert parse(answer(data)) == CanLink(True, 500_000, "error-passive", 100, 3, 129)


def test_the_kernel_is_asked_and_loopback_is_no_can() -> None:
    assert ask("lo") == CanLink()
    with pytest.raises(OSError, match="interface"):
        ask("nothing0")


def test_an_error_instead_of_an_answer_is_not_known() -> None:
    assert parse(struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -19)) == CanLink()


@given(st.binary(max_size=200), st.booleans())
def test_any_answer_is_survived(rest: bytes, framed: bool) -> None:
    head = struct.pack("=IHHII", 16 + len(rest), 16, 0, 1, 0) if framed else b""
    link = parse(head + rest)
    assert link.listen_only in (None, True, False)
