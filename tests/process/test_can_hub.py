"""The simcan hub between real processes: what each transmits is counted by its pid."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from agent.core.types import CanSignal, KeyPosition, SignalKind
from drivers.vehicles import vw_mqb
from drivers.vehicles.codec import pack
from simulator.can_hub import FRAME_BYTES, MAX_MEMBERS, CanHub
from tests.can_rig import TIMEOUT_S, member, port_on_hub, until

FRAME = pack(0x3C0, bytes(4), extended=False)

SENDER = """
import sys, can
with can.Bus(interface="simcan", channel=sys.argv[1]) as bus:
    for n in range(int(sys.argv[2])):
        bus.send(can.Message(arbitration_id=0x100, data=[n & 255], is_extended_id=False), timeout=5)
    sys.stdin.read()
"""

LISTENER = """
import asyncio, sys
from agent.core.types import BootNs
from drivers.ports.can import CanPort, opener
from drivers.vehicles import vw_mqb
from drivers.vehicles.watch import CompiledProfile

async def main():
    compiled = CompiledProfile(vw_mqb(), "powertrain")
    said = asyncio.Event()
    def observe(observation):
        print(observation, flush=True)
        if "IGNITION" in repr(observation):
            said.set()
    open_bus = opener("simcan", sys.argv[1], compiled)
    port = CanPort("powertrain", open_bus, compiled, observe, lambda: BootNs(0))
    port.start()
    await asyncio.wait_for(said.wait(), 10)

asyncio.run(main())
"""


async def started(code: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def test_frames_are_counted_by_the_process_that_sent_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with CanHub(tmp_path / "can") as hub:
            one, two = await started(SENDER, str(hub.path), "70"), await started(SENDER, str(hub.path), "30")
            await until(lambda: sum(hub.sent_by_pid.values()) == 100)
            assert hub.sent_by_pid == {one.pid: 70, two.pid: 30}
            for process in (one, two):
                await asyncio.wait_for(process.communicate(b""), TIMEOUT_S)
            await until(lambda: hub.members == [])
            assert hub.sent_by_pid == {one.pid: 70, two.pid: 30}, "a member that left is still accounted for"

    asyncio.run(main())


def test_a_listening_port_in_its_own_process_transmits_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        frame = vw_mqb().frames[0]
        async with CanHub(tmp_path / "can") as hub:
            listener = await started(LISTENER, str(hub.path))
            await until(lambda: hub.members == [listener.pid])
            for counter in range(5):
                hub.send(frame.encode({SignalKind.IGNITION: KeyPosition.ON}, counter))
            out, _ = await asyncio.wait_for(listener.communicate(), TIMEOUT_S)
            assert b"KeyPosition.ON" in out
            assert hub.sent_by_pid == {listener.pid: 0}

    asyncio.run(main())


def test_a_frame_goes_to_every_member_but_its_sender(tmp_path: Path) -> None:
    async def main() -> None:
        async with CanHub(tmp_path / "can") as hub:
            with member(hub.path) as one, member(hub.path) as two, member(hub.path) as three:
                await until(lambda: len(hub.members) == 3)
                one.send(FRAME)
                await until(lambda: hub.sent_by_pid[os.getpid()] == 1)
                for receiver in (two, three):
                    assert receiver.recv(64, socket.MSG_DONTWAIT) == FRAME
                with pytest.raises(BlockingIOError):
                    one.recv(64, socket.MSG_DONTWAIT)

    asyncio.run(main())


def test_what_is_no_frame_is_counted_and_goes_nowhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with CanHub(tmp_path / "can") as hub:
            with member(hub.path) as one, member(hub.path) as two:
                await until(lambda: len(hub.members) == 2)
                for size in (1, FRAME_BYTES - 1, FRAME_BYTES + 1, 500):
                    one.send(bytes(size))
                one.send(FRAME)
                await until(lambda: hub.sent_by_pid[os.getpid()] == 5)
                assert hub.refused == 4
                assert two.recv(64, socket.MSG_DONTWAIT) == FRAME

    asyncio.run(main())


def test_a_member_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    async def main() -> None:
        profile = vw_mqb()
        async with port_on_hub(tmp_path / "can", profile) as (hub, port, seen, _):
            with member(hub.path):
                await until(lambda: len(hub.members) == 2)
                sent = 0
                while hub.dropped < 10:
                    hub.send(FRAME)
                    sent += 1
                    if sent % 100 == 0:
                        await until(lambda count=sent: port.counters.values.get("frames", 0) == count)  # type: ignore[misc]  # mypy cannot infer a lambda's default
                hub.send(profile.frames[0].encode({SignalKind.IGNITION: KeyPosition.ON}, 0))
                hub.send(profile.frames[0].encode({SignalKind.IGNITION: KeyPosition.ON}, 1))
                await seen.until(lambda: any(isinstance(each, CanSignal) for each in seen.all))

    asyncio.run(main())


def test_members_are_limited(tmp_path: Path) -> None:
    async def main() -> None:
        async with CanHub(tmp_path / "can") as hub:
            socks = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(MAX_MEMBERS + 1)]
            for number, sock in enumerate(socks, start=1):
                sock.connect(str(hub.path))
                await until(lambda count=number: len(hub.members) + hub.refused == count)  # type: ignore[misc]  # same
            assert (len(hub.members), hub.refused) == (MAX_MEMBERS, 1)
            for sock in socks:
                sock.close()
            await until(lambda: hub.members == [])

    asyncio.run(main())


def test_the_path_is_free_again_after_the_hub(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "can"
        for _ in range(2):
            async with CanHub(path):
                assert path.is_socket()
                with pytest.raises(OSError, match="in use"):
                    CanHub(path).start()
        assert not path.exists()

    asyncio.run(main())
