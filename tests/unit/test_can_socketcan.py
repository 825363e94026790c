"""The raw reading of struct can_frame, on sockets that need no CAN hardware, and the netlink answer."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.types import BootNs
from drivers.ports.socketcan import SO_TIMESTAMPING, RawBus, arrival, is_up, open_simcan, open_socketcan
from drivers.vehicles.codec import pack
from drivers.vehicles.profile import parse
from drivers.vehicles.tables import ProfileError
from drivers.vehicles.watch import CompiledProfile

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


def test_the_kernel_says_when_a_frame_came(wire: tuple[socket.socket, RawBus]) -> None:
    """On this socket as on AF_CAN: a frame that waits keeps the time of its arrival."""
    ours, bus = wire
    bus.stamp()
    before = time.time_ns()
    ours.send(FRAMES[1])
    after = time.time_ns()
    ours.send(FRAMES[2])
    (first, one), (second, two) = bus.drain_stamped(10)
    assert (one, two) == (FRAMES[1], FRAMES[2])
    assert first is not None
    assert second is not None
    assert before <= first <= after <= second
    assert bus.drain_stamped(10) == []


def test_without_stamps_a_frame_has_no_time(wire: tuple[socket.socket, RawBus]) -> None:
    ours, bus = wire
    ours.send(FRAMES[1])
    assert bus.drain_stamped(10) == [(None, FRAMES[1])]
    ours.close()
    with pytest.raises(OSError, match="closed by the other end"):
        bus.drain_stamped(10)


def test_the_adapters_time_stands_in_for_the_kernels() -> None:
    """struct scm_timestamping: kernel, unused, adapter; s and ns each."""
    both = struct.pack("=qqqqqq", 5, 1, 0, 0, 7, 2)
    adapter = struct.pack("=qqqqqq", 0, 0, 0, 0, 7, 2)
    assert arrival([(1, SO_TIMESTAMPING, both)]) == 5_000_000_001
    assert arrival([(1, SO_TIMESTAMPING, adapter)]) == 7_000_000_002
    assert arrival([(1, SO_TIMESTAMPING, adapter[:8])]) is None


def test_a_can_fd_frame_is_read_whole_and_counts_where_the_profile_has_it(
    wire: tuple[socket.socket, RawBus],
) -> None:
    frame = {"name": "F", "id": 0x123, "length": 32, "fd": True, "period_ms": 100, "freshness_ms": 2000}
    signal = {"kind": "engine_speed", "start": 240, "length": 16, "range": [0, 9000]}
    tables = {"name": "fd", "title": "t", "sources": ["a bench"], "frame": [{**frame, "signal": [signal]}]}
    watch = CompiledProfile(parse(tables, "test"), "powertrain")
    assert watch.fd
    ours, bus = wire
    ours.send(pack(0x123, bytes(30) + (800).to_bytes(2, "little"), extended=False, fd=True))
    ours.send(pack(0x123, bytes(8), extended=False))
    said = watch.feed(bus.drain(10), BootNs(0))
    assert [signal.value for signal in said] == [800]
    assert watch.counters.values["wrong_format"] == 1


def test_a_can_fd_frame_is_another_frame_where_the_profile_has_a_classic_one() -> None:
    frame = {"name": "F", "id": 0x123, "length": 8, "period_ms": 100, "freshness_ms": 2000}
    signal = {"kind": "engine_speed", "start": 0, "length": 16, "range": [0, 9000]}
    tables = {
        "name": "classic",
        "title": "t",
        "sources": ["a bench"],
        "frame": [{**frame, "signal": [signal]}],
    }
    watch = CompiledProfile(parse(tables, "test"), "powertrain")
    assert not watch.fd
    assert watch.feed([pack(0x123, bytes(8), extended=False, fd=True)], BootNs(0)) == []
    assert watch.counters.values["wrong_format"] == 1
    with pytest.raises(ProfileError, match="length: expected one of"):
        parse({**tables, "frame": [{**frame, "fd": True, "length": 10, "signal": [signal]}]}, "test")


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
