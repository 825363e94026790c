"""Vehicle, dock and tablet of one rig, alive in real time on the running loop.

The vehicle's supply and ignition reach the dock, the dock's supply reaches the tablet, the tablet's draw
reaches the vehicle; frames go out on the CAN hub, the dock speaks on a pty, the tablet's supplies are files.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from agent.core.types import MS, SECOND, BootNs
from drivers.vehicles.codec import Profile
from simulator.agent_config import Layout, Pairing
from simulator.can_hub import CanHub
from simulator.docks.reference import Identity, ReferenceDock
from simulator.docks.serial_device import PtyPlug, SerialDevice
from simulator.frames import FrameSender
from simulator.tablet import Power, PowerSupplyTree, Tablet
from simulator.vehicle import Vehicle

TICK_NS = 10 * MS  # as finely as physics moves; corners of a crank are met exactly
DOCK_MV = 12_000  # ours: what the dock's converter gives
FOREIGN = Pairing(serial="DK-999999", vehicle_id="WV1ZZZ7HZNH999999", key=bytes(32))


class Wire:
    """The serial line at the dock's end, which a pothole can break for a while. A device model itself."""

    def __init__(self, dock: ReferenceDock) -> None:
        self.dock = dock
        self.broken = False

    def feed(self, data: bytes, at: BootNs) -> None:
        if not self.broken:
            self.dock.feed(data, at)

    def timer(self, at: BootNs) -> None:
        self.dock.timer(at)

    def next_deadline(self) -> BootNs:
        return self.dock.next_deadline()

    def outgoing(self) -> bytes:
        data = self.dock.outgoing()
        return b"" if self.broken else data


class World:
    """What surrounds an agent. ``on_tick`` is called after each tick; ``on_start`` when a tablet that is off
    gets its supply back, or a sleeping one sees ignition come on: then it starts or wakes.
    """

    def __init__(
        self,
        layout: Layout,
        pairing: Pairing,
        profile: Profile,
        *,
        now: Callable[[], BootNs],
        seed: int,
        on_tick: Callable[[], None],
        on_start: Callable[[], None],
    ) -> None:
        self._now = now
        self._on_tick = on_tick
        self._on_start = on_start
        self._random = random.Random(seed)
        start = now()
        self.vehicle = Vehicle(start, seed=seed)
        self.tablet = Tablet(start)
        self.hub = CanHub(layout.can)
        self.dock = ReferenceDock(_identity(pairing), self._random.randbytes, start)
        self.wire = Wire(self.dock)
        self.foreign = ReferenceDock(_identity(FOREIGN), self._random.randbytes, start)
        self.own_device = SerialDevice(self.wire, now)
        self._foreign_device = SerialDevice(Wire(self.foreign), now)
        self.plugged: SerialDevice[Wire] | None = None
        self._plug = PtyPlug(layout.dock_port)
        self._sender = FrameSender(profile, self.vehicle)
        self._tree = PowerSupplyTree(layout.power_supply)
        self._started_by = (False, False)  # supply, ignition: as at the last tick
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.hub.start()
        self.plug()
        self.tick()
        self._task = asyncio.create_task(self._live())

    async def stop(self) -> None:
        """End everything; raises what ended the physics, if something did."""
        self.unplug()
        self.own_device.close()
        self._foreign_device.close()
        self.hub.close()
        if self._task is not None:
            self._task.cancel()
            (outcome,) = await asyncio.gather(self._task, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome

    # --- what a rig does --------------------------------------------------------------------------

    def seat(self, *, seated: bool) -> BootNs:
        """Put the tablet into its dock or take it out. Returns the time just before the dock said so."""
        at = self._now()
        self.dock.set_inputs(at, seated=seated, tablet_ma=0)
        self.own_device.kick()
        return at

    def plug(self, *, foreign: bool = False) -> None:
        """Put the cable into the paired dock, or into another; out of the one before."""
        self.unplug()
        self.plugged = self._foreign_device if foreign else self.own_device
        self._plug.plug(self.plugged)

    def unplug(self) -> None:
        self._plug.pull()
        self.plugged = None

    async def glitch(self, ms: int) -> None:
        """Lose what the line carries."""
        self.wire.broken = True
        await asyncio.sleep(ms / 1000)
        self.wire.broken = False

    async def noise(self, size: int) -> None:
        """Random bytes to the tablet, as far as the line takes them."""
        if self.plugged is not None:
            await self.plugged.inject(self._random.randbytes(size))

    # --- physics ----------------------------------------------------------------------------------

    @property
    def supplied(self) -> bool:
        """Whether the tablet gets power from its dock."""
        return bool(self.dock.inputs.seated) and self.dock.actuators.powered(self.dock.inputs)

    def tick(self) -> None:
        """Bring everything to the present."""
        at = self._now()
        self.vehicle.advance(at)
        self.tablet.advance(at)
        self.tablet.supply_mv = DOCK_MV if self.supplied else 0
        self.vehicle.tablet_ma = self.tablet.supply_ma
        self.dock.set_inputs(
            at,
            kl15=self.vehicle.kl15,
            vehicle_mv=self.vehicle.vehicle_mv,
            dock_mv=DOCK_MV,
            tablet_ma=self.tablet.supply_ma,
        )
        self.own_device.kick()
        for frame in self._sender.frames():
            self.hub.send(frame)
        self._tree.write(self.tablet)
        before, self._started_by = self._started_by, (self.supplied, self.supplied and self.vehicle.kl15)
        supply_came, ignition_came = (
            new and not old for old, new in zip(before, self._started_by, strict=True)
        )
        power = self.tablet.power
        if (power is Power.OFF and supply_came) or (power is Power.SUSPENDED and ignition_came):
            self._on_start()
        self._on_tick()

    async def _live(self) -> None:
        while True:
            self.tick()
            at = self.vehicle.at
            until = min(at + TICK_NS, self.vehicle.next_change() or at + TICK_NS)
            await asyncio.sleep(max(0, until - self._now()) / SECOND)


def _identity(pairing: Pairing) -> Identity:
    return Identity.of(pairing.serial, pairing.vehicle_id, pairing.key)
