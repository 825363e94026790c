"""The serial port on real ptys: plugged, pulled in mid-frame, swapped, flooded, busy, full."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import random
import resource
from collections.abc import Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.core.types import (
    BootNs,
    CommandOutcome,
    Counters,
    DockCommandDone,
    DockForeign,
    DockLinkLost,
    DockLinkUp,
    DockProof,
    DockStatus,
    DriveOutputs,
    ForeignReason,
    LinkLoss,
    Observation,
)
from drivers.docks.reference.codec import MAX_PACKET
from drivers.docks.reference.session import ReferenceSession
from drivers.ports.descriptor import WRITE_LIMIT
from drivers.ports.link import LAST_RETRY_S
from drivers.ports.serial import SerialLink
from tests.dock_port import PATIENCE_S, Bench, Seen, boot_now


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


def test_a_dock_is_proved_driven_and_seen_unseated(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench(tmp_path) as bench:
            device = bench.dock()
            bench.plug.plug(device)
            bench.link.start()
            await bench.seen.next(DockProof)
            await bench.seen.next(DockStatus, lambda status: status.authenticated and status.seated is True)
            bench.link.drive(DriveOutputs(latch=True))
            done = await bench.seen.next(DockCommandDone)
            assert done.outcome is CommandOutcome.DONE
            device.model.set_inputs(boot_now(), seated=False)
            device.kick()
            await bench.seen.next(DockStatus, lambda status: status.authenticated and status.seated is False)
            bench.link.close()
            assert (await bench.seen.next(DockLinkLost)).reason is LinkLoss.CLOSED

    run(scenario())


def test_pulled_in_mid_frame_and_plugged_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench(tmp_path) as bench:
            device = bench.dock()
            bench.plug.plug(device)
            bench.link.start()
            await bench.seen.next(DockProof)
            await device.inject(b"\x08\x01\x83\x05\x02")  # the start of a STATUS
            bench.plug.pull()
            assert (await bench.seen.next(DockLinkLost)).reason is LinkLoss.UNPLUGGED
            assert not bench.link.is_open
            bench.plug.plug(device)
            await bench.seen.next(DockLinkUp)
            await bench.seen.next(DockProof)
            assert bench.link.counters().values.get("opened") == 2

    run(scenario())


@pytest.mark.parametrize(
    ("serial", "key", "reason"),
    [
        ("DK-000099", None, ForeignReason.OTHER_DOCK),
        ("DK-000042", bytes(32), ForeignReason.BAD_MAC),
    ],
)
def test_a_different_dock_on_the_same_path_is_foreign(
    tmp_path: Path, serial: str, key: bytes | None, reason: ForeignReason
) -> None:
    async def scenario() -> None:
        async with Bench(tmp_path) as bench:
            bench.plug.plug(bench.dock())
            bench.link.start()
            await bench.seen.next(DockProof)
            bench.plug.pull()
            bench.plug.plug(bench.dock(serial=serial) if key is None else bench.dock(serial=serial, key=key))
            assert (await bench.seen.next(DockForeign)).reason is reason
            assert len(bench.seen.of(DockProof)) == 1

    run(scenario())


@pytest.mark.slow
def test_ten_megabytes_of_noise_are_counted_and_the_link_recovers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench(tmp_path) as bench:
            device = bench.dock()
            bench.plug.plug(device)
            bench.link.start()
            await bench.seen.next(DockProof)
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            noise = random.Random(1).randbytes(1 << 20)
            for _ in range(10):
                async with asyncio.timeout(PATIENCE_S):
                    assert await device.inject(noise) == len(noise)
            await bench.seen.next(
                DockStatus, lambda status: status.authenticated and status.at > boot_now() - 10**9
            )
            grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
            assert grown_kib < 8 * 1024
            counts = bench.link.counters().values
            assert counts["cobs"] + counts["length"] + counts["crc"] > 10_000
            assert isinstance(bench.session, ReferenceSession)
            assert len(bench.session._decoder._held) <= MAX_PACKET
            assert bench.seen.of(DockForeign) == []

    run(scenario())


def make_absent(path: Path) -> None:
    """Nothing at the path."""


def make_folder(path: Path) -> None:
    path.mkdir()


def make_file(path: Path) -> None:
    path.write_bytes(b"not a port")


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_null(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.parametrize("make", [make_absent, make_folder, make_file, make_fifo, make_null])
def test_what_is_no_serial_port_is_tried_again_until_it_is_one(tmp_path: Path, make: Any) -> None:
    async def scenario() -> None:
        async with Bench(tmp_path) as bench:
            make(bench.port)
            with capture_logs() as logs:
                bench.link.start()
            assert bench.link.counters().values["open_failed"] == 1
            assert [(each["event"], each["log_level"]) for each in logs] == [("dock.open_failed", "warning")]
            assert logs[0]["port"] == str(bench.port)
            if bench.port.is_dir():
                bench.port.rmdir()
            bench.plug.plug(bench.dock())
            await bench.seen.next(DockProof)
            assert bench.link.counters().values["open_failed"] <= 2 + 1 / LAST_RETRY_S

    run(scenario())


def test_a_port_that_another_program_has_open_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench(tmp_path) as bench:
            bench.plug.plug(bench.dock())
            other = os.open(bench.port, os.O_RDWR | os.O_NOCTTY)
            fcntl.flock(other, fcntl.LOCK_EX)
            bench.link.start()
            assert not bench.link.is_open
            os.close(other)
            await bench.seen.next(DockProof)

    run(scenario())


def test_a_dead_port_is_tried_at_a_pace_that_slows_down(tmp_path: Path) -> None:
    """A pty whose other end is closed gives EIO at once."""

    async def scenario() -> None:
        async with Bench(tmp_path) as bench:
            master, slave = os.openpty()
            bench.port.symlink_to(os.ttyname(slave))
            os.close(master)
            tries: list[BootNs] = []
            enough = asyncio.Event()

            def locate() -> str:
                tries.append(boot_now())
                if len(tries) == 4:
                    enough.set()
                return str(bench.port)

            link = SerialLink(bench.session, locate, bench.seen.observe, boot_now)
            link.start()
            async with asyncio.timeout(PATIENCE_S):
                await enough.wait()
            os.close(slave)
            waits_ms = [(later - earlier) // 1_000_000 for earlier, later in pairwise(tries)]
            assert all(waited >= least for waited, least in zip(waits_ms, (49, 99, 199), strict=True))
            bench.port.unlink()
            bench.plug.plug(bench.dock())
            await bench.seen.next(DockProof)
            link.close()

    run(scenario())


def test_a_read_error_takes_the_port_off_the_loop_and_it_is_opened_again(tmp_path: Path) -> None:
    """The master of a pty reads EIO once its slave was open and is closed; a pulled USB port does too."""

    async def scenario() -> None:
        async with Bench(tmp_path) as bench:
            bench.port.symlink_to("/dev/ptmx")
            bench.link.start()
            await bench.seen.next(DockLinkUp)
            master = bench.link._fd
            libc = ctypes.CDLL(None)
            libc.ptsname.restype = ctypes.c_char_p
            assert libc.unlockpt(master) == 0
            os.close(os.open(libc.ptsname(master), os.O_RDWR | os.O_NOCTTY))
            assert (await bench.seen.next(DockLinkLost)).reason is LinkLoss.UNPLUGGED
            await bench.seen.next(DockLinkUp)
            assert bench.link.counters().values["lost"] == 1

    run(scenario())


def test_our_device_that_went_is_dropped_though_the_list_still_names_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench(tmp_path) as bench:
            seen = Seen()
            link = SerialLink(bench.session, lambda: str(bench.port), seen.observe, boot_now)
            bench.plug.plug(bench.dock())
            link.start()
            await seen.next(DockProof)
            link.poke(gone="/dev/another")
            assert link.is_open
            link.poke(gone=str(bench.port))
            assert (await seen.next(DockLinkLost)).reason is LinkLoss.UNPLUGGED
            link.close()

    run(scenario())


def test_a_port_known_to_be_absent_is_left_alone_until_udev_speaks(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench(tmp_path) as bench:
            where: list[str | None] = [None]
            seen = Seen()
            link = SerialLink(bench.session, lambda: where[0], seen.observe, boot_now)
            link.start()
            assert link._retry is None
            bench.plug.plug(bench.dock())
            where[0] = str(bench.port)
            link.poke()
            await seen.next(DockProof)
            where[0] = None
            link.poke()
            assert (await seen.next(DockLinkLost)).reason is LinkLoss.UNPLUGGED
            assert link._retry is None
            link.close()

    run(scenario())


class Talker:
    """A session that says whatever the test puts into ``say``."""

    name = "talker"

    def __init__(self) -> None:
        self.say = b""

    def link_up(self, at: BootNs) -> list[Observation]:
        return [DockLinkUp(at, self.name)]

    def link_lost(self, at: BootNs, reason: LinkLoss) -> list[Observation]:
        return [DockLinkLost(at, self.name, reason)]

    def feed(self, data: bytes, at: BootNs) -> list[Observation]:
        return []

    def timer(self, at: BootNs) -> list[Observation]:
        return []

    def next_deadline(self) -> BootNs | None:
        return None

    def drive(self, wanted: DriveOutputs, at: BootNs) -> None:
        self.say += b"drive" * 20 + b"\n"

    def cut_power(self, seconds: int | None, at: BootNs) -> None:
        self.say += b"cut\n"

    def prove(self, at: BootNs) -> None:
        """Nothing to prove."""

    def outgoing(self) -> bytes:
        said, self.say = self.say, b""
        return said

    def counters(self) -> Counters:
        return Counters()


def test_a_peer_that_does_not_read_costs_whole_frames_and_bounded_memory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench(tmp_path, Talker()) as bench:
            master, slave = os.openpty()
            os.set_blocking(master, False)
            bench.port.symlink_to(os.ttyname(slave))
            bench.link.start()
            for _ in range(1000):
                bench.link.drive(DriveOutputs(led=True))
            dropped = bench.link.counters().values["write_dropped"]
            assert 0 < dropped < 1000
            assert len(bench.link._unsent) <= WRITE_LIMIT
            lines = 0
            loop = asyncio.get_running_loop()
            drained = asyncio.Event()
            held = bytearray()

            def read() -> None:
                nonlocal lines
                held.extend(os.read(master, 65536))
                *whole, rest = held.split(b"\n")
                assert all(line.rstrip(b"\r") == b"drive" * 20 for line in whole)
                lines += len(whole)
                held[:] = rest
                if lines == 1000 - dropped:
                    drained.set()

            loop.add_reader(master, read)
            async with asyncio.timeout(PATIENCE_S):
                await drained.wait()
            loop.remove_reader(master)
            assert not held
            os.close(master)
            os.close(slave)

    run(scenario())
