"""A full 500 kbit/s bus (4,504 frames/s) into the port: nothing lost, and CPU of a core, one bus and two.

The vehicle is a process of its own, which counts what it sends; the frames come through a Unix socket. Beside
it, in the same run: a bare read of the descriptor every 50 ms, and python-can's Notifier with cantools. The
length is in seconds a run. Details go to standard error.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import can
import cantools

from agent.core.types import BootNs, KeyPosition, Observation, SignalKind
from drivers.ports.can import BUDGET, CanPort, opener
from drivers.ports.socketcan import open_simcan
from drivers.vehicles import vw_mqb
from drivers.vehicles.codec import pack
from drivers.vehicles.watch import CompiledProfile
from simulator.can_hub import CanHub
from tests.can_rig import until
from tests.evidence import claim, options

FRAMES_PER_S = 4504  # 500 kbit/s, 11-bit ids, 8 bytes, unstuffed: 111 bits
TICK_S = 0.005
GOAL_PERCENT = 3.0  # of a core, a bus
PEER_DBC = """
BO_ 960 Klemmen: 4 X
 SG_ Terminals : 16|4@1+ (1,0) [0|15] "" X
BO_ 168 Motor_12: 8 X
 SG_ Speed : 48|16@1+ (0.25,0) [0|16383] "rpm" X
"""


def frame(n: int) -> bytes:
    """The n-th: 10 and 100 a second are the profile's, the others what a bus is full of."""
    key, engine = vw_mqb_frames
    if n % 450 == 0:
        return key.encode({SignalKind.IGNITION: KeyPosition.ON}, n // 450)
    if n % 45 == 7:
        return engine.encode({SignalKind.ENGINE_SPEED: 650 + n // 45 % 40}, n // 45)
    return pack(0x100 + n % 60, n.to_bytes(8, "little"), extended=False)


vw_mqb_frames = vw_mqb().frames


async def send(path: Path, seconds: float) -> None:
    """The vehicle: from the first listener on, for a while; says what it sent and what found no room."""
    async with CanHub(path) as hub:
        print("ready", flush=True)
        await until(lambda: bool(hub.members))
        start, sent = time.monotonic(), 0
        while (passed := time.monotonic() - start) < seconds:
            for n in range(sent, due := int(passed * FRAMES_PER_S)):
                hub.send(frame(n))
            sent = due
            await asyncio.sleep(TICK_S)
        print(json.dumps({"sent": sent, "no_room": hub.dropped}), flush=True)
        await asyncio.Event().wait()  # until this process is ended


class Vehicle:
    """A process that sends."""

    def __init__(self, path: Path, seconds: float) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.evidence.vehicle_can_full_bus",
            "--send",
            str(path),
            str(seconds),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._out = self._process.stdout
        assert self._out.readline() == b"ready\n"

    def sent(self) -> int:
        said = json.loads(self._out.readline())
        assert said["no_room"] == 0, said
        return int(said["sent"])

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._out.close()


def observe(_: Observation) -> None:
    """The agent's inbox; its cost is measured elsewhere."""


def now() -> BootNs:
    return BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


def cpu(began: tuple[float, float]) -> float:
    return 100 * (time.process_time() - began[0]) / (time.monotonic() - began[1])


def ours(folder: Path, buses: int, seconds: float) -> tuple[float, int, int]:
    """CPU in % of a core, frames sent and frames taken in, through the ports of so many buses."""
    vehicles = [Vehicle(folder / f"can{n}of{buses}", seconds) for n in range(buses)]
    try:

        async def run() -> tuple[float, int, int]:
            ports = []
            for n in range(buses):
                compiled = CompiledProfile(vw_mqb(), "powertrain")
                path = str(folder / f"can{n}of{buses}")
                ports.append(CanPort("powertrain", opener("simcan", path, compiled), compiled, observe, now))
            began = time.process_time(), time.monotonic()
            for port in ports:
                port.start()
            await asyncio.sleep(seconds)
            percent = cpu(began)
            sent = sum([await asyncio.to_thread(vehicle.sent) for vehicle in vehicles])
            await asyncio.sleep(0.3)  # more than two batches
            taken = sum(port.counters.values["frames"] for port in ports)
            for port in ports:
                port.close()
            return percent, sent, taken

        return asyncio.run(run())
    finally:
        for vehicle in vehicles:
            vehicle.end()


def bare(path: Path, seconds: float) -> float:
    """The limit: the descriptor read empty every 50 ms and nothing looked at."""
    bus = open_simcan(str(path))
    began = time.process_time(), time.monotonic()
    while time.monotonic() - began[1] < seconds:
        time.sleep(0.05)
        bus.drain(BUDGET)
    percent = cpu(began)
    bus.close()
    return percent


def notifier(path: Path, seconds: float) -> float:
    """The peer, as its documentation has it: a Notifier whose listener decodes two messages."""
    database = cantools.database.load_string(PEER_DBC, "dbc", strict=False)
    assert isinstance(database, cantools.database.can.Database)
    wanted = {960, 168}

    def listener(message: can.Message) -> None:
        if message.arbitration_id in wanted:
            database.decode_message(message.arbitration_id, bytes(message.data))

    with can.Bus(interface="simcan", channel=str(path)) as bus:
        began = time.process_time(), time.monotonic()
        each = can.Notifier(bus, [listener], timeout=0.1)
        time.sleep(seconds)
        percent = cpu(began)
        each.stop()
    return percent


def beside(path: Path, seconds: float, run: Callable[[Path, float], float]) -> float:
    vehicle = Vehicle(path, seconds + 2)
    try:
        return run(path, seconds)
    finally:
        vehicle.end()


def main() -> int:
    seconds, _ = options.length(__doc__, full=20, short=5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        limit = beside(folder / "limit", seconds, bare)
        one, sent, taken = ours(folder, 1, seconds)
        two, sent_two, taken_two = ours(folder, 2, seconds)
        peer = beside(folder / "peer", seconds, notifier)
    lost = sent + sent_two - taken - taken_two
    details = {
        "limit_percent": round(limit, 2),
        "one_bus_percent": round(one, 2), "two_buses_percent": round(two, 2),
        "notifier_and_cantools_percent": round(peer, 2), "peer_over_ours": round(peer / one, 1),
        "frames_sent": sent + sent_two, "lost": lost,
    }  # fmt: skip
    print(json.dumps(details), file=sys.stderr)
    return claim.state(
        f"CPU of the port on a full 500 kbit/s bus, one bus and two, {lost} of {sent + sent_two} frames lost",
        max(one, two / 2),
        "% of one core, a bus",
        GOAL_PERCENT,
        holds=lost == 0 and max(one, two / 2) <= GOAL_PERCENT,
        timed=lost == 0,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        asyncio.run(send(Path(sys.argv[2]), float(sys.argv[3])))
        sys.exit(0)
    sys.exit(main())
