"""A rig's world: what reaches the other side of each wire. The far side is the project's own ports."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agent.core.types import BootNs, DockForeign, DockProof, DockStatus, KeyPosition, Observation
from drivers.docks.reference.spec import SPEC
from drivers.ports.serial import SerialLink
from drivers.spec import DockSettings
from drivers.vehicles import vw_mqb
from simulator.agent_config import Layout, Pairing
from simulator.tablet import Power
from simulator.world import World

LIMIT_S = 90.0
PAIRING = Pairing()


def now() -> BootNs:
    return BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class Bench:
    """A world, the tablet's end of its dock link, and what was observed there."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder)
        self.starts = 0
        self.seen: list[Observation] = []
        self.ticked = asyncio.Event()
        self.world = World(
            self.layout,
            PAIRING,
            vw_mqb(),
            now=now,
            seed=1,
            on_tick=self.ticked.set,
            on_start=self._started,
        )
        settings = DockSettings("dock", PAIRING.serial, PAIRING.vehicle_id, PAIRING.key)
        session = SPEC.build(settings, lambda size: bytes(size))
        self.link = SerialLink(session, lambda: str(self.layout.dock_port), self.seen.append, now)

    def _started(self) -> None:
        self.starts += 1

    async def until(self, what: Callable[[], bool]) -> None:
        while not what():
            self.ticked.clear()
            await self.ticked.wait()

    def last_status(self) -> DockStatus | None:
        return next((o for o in reversed(self.seen) if isinstance(o, DockStatus) and o.authenticated), None)

    async def until_status(self, what: Callable[[DockStatus], bool]) -> DockStatus:
        await self.until(lambda: (status := self.last_status()) is not None and what(status))
        status = self.last_status()
        assert status is not None
        return status


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    made = Bench(folder)
    made.world.start()
    made.link.start()
    try:
        async with asyncio.timeout(LIMIT_S):
            yield made
    finally:
        made.link.close()
        await made.world.stop()


def test_the_dock_proves_itself_and_tells_of_seat_ignition_and_supply(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            await b.until(lambda: any(isinstance(o, DockProof) for o in b.seen))
            status = await b.until_status(lambda s: s.seated is True)
            assert status.kl15 is False
            b.world.vehicle.turn_key(KeyPosition.ON)
            await b.until_status(lambda s: s.kl15 is True)
            before = now()
            at = b.world.seat(seated=False)
            assert before <= at <= now()
            status = await b.until_status(lambda s: s.seated is False)
            assert status.tablet_ma == 0

    asyncio.run(main())


def test_a_crank_reaches_the_dock_as_its_lowest_sample(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            await b.until_status(lambda s: s.seated is True)
            b.world.vehicle.crank("iso-1")
            status = await b.until_status(lambda s: s.vehicle_mv is not None and s.vehicle_mv < 10_000)
            assert status.vehicle_mv is not None
            await b.until_status(lambda s: (s.vehicle_mv or 0) > 14_000)

    asyncio.run(main())


def test_frames_are_on_the_bus_once_the_key_turns(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as member:
                member.setblocking(False)
                await asyncio.get_running_loop().sock_connect(member, str(b.layout.can))
                await b.until(lambda: bool(b.world.hub.members))
                b.world.vehicle.turn_key(KeyPosition.ON)
                frame = await asyncio.get_running_loop().sock_recv(member, 64)
                assert len(frame) == 16
                assert sum(b.world.hub.sent_by_pid.values()) == 0

    asyncio.run(main())


def test_the_tablets_supply_follows_the_seat(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            online = b.layout.power_supply / "AC" / "online"
            await b.until(lambda: online.read_text() == "1\n")
            b.world.seat(seated=False)
            await b.until(lambda: online.read_text() == "0\n")

    asyncio.run(main())


def test_a_sleeping_tablet_is_woken_by_ignition_and_one_that_is_off_by_its_supply(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            b.world.tablet.power = Power.SUSPENDED
            b.world.vehicle.turn_key(KeyPosition.ON)
            await b.until(lambda: b.starts == 1)
            b.world.tablet.power = Power.OFF
            b.world.seat(seated=False)
            await b.until(lambda: b.world.tablet.supply_mv == 0)
            assert b.starts == 1
            b.world.seat(seated=True)
            await b.until(lambda: b.starts == 2)

    asyncio.run(main())


def test_a_pothole_loses_what_the_line_carries_and_noise_is_only_noise(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            await b.until_status(lambda s: s.seated is True)
            await b.world.glitch(300)
            await b.world.noise(50_000)
            count = len(b.seen)
            await b.until(lambda: len(b.seen) > count + 3)
            assert b.last_status() is not None

    asyncio.run(main())


def test_another_dock_answers_after_the_cable_was_moved(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            await b.until_status(lambda s: s.seated is True)
            b.world.plug(foreign=True)
            b.link.poke()
            await b.until(lambda: any(isinstance(o, DockForeign) for o in b.seen))

    asyncio.run(main())
