"""The raw reading of struct can_frame, on sockets that need no CAN hardware, and the netlink answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.ports.socketcan import RawBus, is_up, open_simcan, open_socketcan
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


def test_loopback_is_up() -> None:
    assert is_up("lo")
