"""The raw reading of struct can_frame, on sockets that need no CAN hardware, and the netlink answer."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ports import socketcan
from drivers.ports.socketcan import RawBus, is_listen_only, is_up, listen_only_of, open_simcan, open_socketcan
from drivers.vehicles.codec import pack

FRAMES = [pack(n, bytes([n]), extended=False) for n in range(100)]


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, RawBus]]:
    """A sender, and the bus that reads what it sends, message by message as AF_CAN does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bus = RawBus(theirs)
    with ours:
        yield ours, bus
    bus.close()


def test_every_frame_that_waits_is_read_in_order(wire: tuple[socket.socket, RawBus]) -> None:
    ours, bus = wire
    for frame in FRAMES:
        ours.send(frame)
    assert bus.drain(1000) == FRAMES
    assert bus.drain(1000) == []


def test_no_more_than_the_budget_is_read(wire: tuple[socket.socket, RawBus]) -> None:
    ours, bus = wire
    for frame in FRAMES:
        ours.send(frame)
    assert [len(bus.drain(40)) for _ in range(4)] == [40, 40, 20, 0]


def test_the_end_comes_after_the_last_frame(wire: tuple[socket.socket, RawBus]) -> None:
    ours, bus = wire
    ours.send(FRAMES[1])
    ours.close()
    assert bus.drain(1000) == [FRAMES[1]]
    with pytest.raises(OSError, match="closed by the other end"):
        bus.drain(1000)


def test_an_interface_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(OSError, match="nocan0"):
        open_socketcan("nocan0", [])


def test_no_hub_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        open_simcan(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(("flags", "up"), [("0x1003\n", True), ("0x1002\n", False)])
def test_whether_an_interface_is_up_is_read_from_its_flags(tmp_path: Path, flags: str, up: bool) -> None:
    (tmp_path / "can0").mkdir()
    (tmp_path / "can0" / "flags").write_text(flags)
    assert is_up("can0", tmp_path) is up


def test_the_kernel_is_asked_by_netlink_and_loopback_is_no_can() -> None:
    assert is_listen_only("lo") is None
    assert is_up("lo")


def attribute(kind: int, data: bytes) -> bytes:
    """A netlink attribute, padded to 4 bytes."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def link(mode: int | None) -> bytes:
    """RTM_NEWLINK of a CAN interface as the kernel lays it out (linux/can/netlink.h)."""
    data = attribute(1, bytes(32)) + (b"" if mode is None else attribute(5, struct.pack("=II", 0x7F, mode)))
    attributes = attribute(3, b"can0\0") + attribute(18, attribute(1, b"can\0") + attribute(2 | 0x8000, data))
    body = struct.pack("=BxHiII", 0, 280, 3, 1, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), 16, 0, 1, 0) + body


@pytest.mark.parametrize(
    ("mode", "expected"), [(0x02, True), (0x22, True), (0x00, False), (0x01, False), (None, None)]
)
def test_listen_only_is_read_from_the_interfaces_mode(mode: int | None, expected: bool | None) -> None:
    assert listen_only_of(link(mode)) is expected


def test_an_error_instead_of_an_answer_is_not_known() -> None:
    assert listen_only_of(struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -19)) is None


@given(st.binary(max_size=200))
def test_any_answer_is_survived(rest: bytes) -> None:
    answer = struct.pack("=IHHII", 16 + len(rest), 16, 0, 1, 0) + rest
    assert listen_only_of(answer) in (None, True, False)


def test_nothing_in_the_module_sends_on_a_bus() -> None:
    """Its one send is the question to the kernel."""
    source = Path(socketcan.__file__).read_text()
    assert source.count(".send") == source.count("route.send") == 1
