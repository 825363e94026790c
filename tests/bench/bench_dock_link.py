"""From bytes on the serial descriptor to the observation, and what one STATUS costs in the session.

Run: python tests/bench/bench_dock_link.py. The limit is an echo of the same bytes over the same kind of pty.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
import tty
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from agent.core.types import BootNs, DockProof, DockStatus, Observation
from drivers.docks.reference.codec import Status, encode
from drivers.docks.reference.session import ReferenceSession
from tests.dock_port import Bench, boot_now
from tests.dock_rig import Rig

FRAMES = 2000
STATUS = Status(1000, 1, 15, 15, 12_600, 12_000, 1000, 250, 0)


def percentiles(samples_ns: list[int]) -> dict[str, float]:
    ordered = sorted(samples_ns)
    return {"p50": ordered[len(ordered) // 2] / 1000, "p99": ordered[len(ordered) * 99 // 100] / 1000}


async def descriptor_to_observation() -> list[int]:
    """A changed input of the simulated dock, from its write to the pty to the tablet's observation."""
    took: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        async with Bench(Path(folder)) as bench:
            device = bench.dock()
            bench.plug.plug(device)
            bench.link.start()
            await bench.seen.next(DockProof)
            await bench.seen.next(DockStatus, lambda status: status.authenticated)
            for number in range(FRAMES):
                seated = bool(number % 2)
                device.model.set_inputs(boot_now(), seated=seated)
                begun = time.perf_counter_ns()
                device.kick()
                await bench.seen.next(DockStatus, partial(shows, seated))
                took.append(time.perf_counter_ns() - begun)
    return took


def shows(seated: bool, status: DockStatus) -> bool:
    return status.seated is seated


async def echo() -> list[int]:
    """The same way without us: a frame's bytes through a pty into an asyncio reader."""
    loop = asyncio.get_running_loop()
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(slave, False)
    arrived = asyncio.Event()
    took: list[int] = []

    def read() -> None:
        os.read(slave, 4096)
        arrived.set()

    loop.add_reader(slave, read)
    for _ in range(FRAMES):
        begun = time.perf_counter_ns()
        os.write(master, bytes(41))
        await arrived.wait()
        arrived.clear()
        took.append(time.perf_counter_ns() - begun)
    loop.remove_reader(slave)
    os.close(master)
    os.close(slave)
    return took


def session_cost_us() -> float:
    """One authenticated STATUS through the session, without a descriptor."""
    rig = Rig()
    rig.run(10_000_000)
    session: ReferenceSession = rig.session
    keys = rig.dock._current
    assert keys is not None
    packets = [encode(keys.seal(STATUS, n % 256)) for n in range(FRAMES)]
    seen: list[Observation] = []
    begun = time.perf_counter_ns()
    for packet in packets:
        seen += session.feed(packet, BootNs(rig.at))
    took = time.perf_counter_ns() - begun
    assert len(seen) == FRAMES
    return took / FRAMES / 1000


def main() -> None:
    ours, limit = asyncio.run(descriptor_to_observation()), asyncio.run(echo())
    for name, value in (
        ("descriptor_to_observation_us", percentiles(ours)),
        ("pty_echo_alone_us", percentiles(limit)),
        ("session_status_us", session_cost_us()),
    ):
        print(json.dumps({"bench": "dock_link", "name": name, "value": value}))


if __name__ == "__main__":
    main()
