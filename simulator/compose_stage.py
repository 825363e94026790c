"""The actions of scenario files, done on a rig of real processes."""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.types import KeyPosition
from simulator.compose_bench import Rig


class Stage:
    """A rig as ``simulator.play`` wants it."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def seen(self) -> Mapping[str, str]:
        return self._rig.seen()

    @property
    def provides(self) -> frozenset[str]:
        return self._rig.provides

    async def change(self) -> None:
        await self._rig.change()

    async def perform(self, action: str, arguments: Mapping[str, int | str]) -> None:
        """Do an action of ``simulator.scenario.ACTIONS``; the values are checked there."""
        self._rig.waiting = None  # what was known of the queue before does not answer what is asked after
        rig, world, vehicle = self._rig, self._rig.world, self._rig.world.vehicle
        match action:
            case "wait":
                pass
            case "key on":
                vehicle.turn_key(KeyPosition.ON)
            case "key accessory":
                vehicle.turn_key(KeyPosition.ACCESSORY)
            case "key off":
                vehicle.pull_key()
            case "crank":
                vehicle.crank(str(arguments["profile"]))
            case "drive":
                vehicle.drive(10 * int(arguments["speed_kmh"]))
            case "glitch":
                rig.spawn(world.glitch(int(arguments["ms"])))
            case "noise":
                rig.spawn(world.noise(1000 * int(arguments["kilobytes"])))
            case "undock":
                rig.undock()
            case "return":
                world.seat(seated=True)
            case "unplug":
                world.unplug()
            case "plug" | "plug foreign":
                world.plug(foreign=action == "plug foreign")
            case "officer":
                rig.system.unlock()
            case "button":
                await rig.wake()
            case _:
                await self._disturb(action)

    async def _disturb(self, action: str) -> None:
        rig = self._rig
        match action:
            case "network cut":
                await rig.network.cut()
            case "network stall":
                rig.network.stall()
            case "network heal":
                await rig.network.heal()
            case "kill agent":
                await rig.agent.kill()
            case "start agent":
                await rig.agent.start()
            case "kill broker":
                await rig.kill_broker()
            case "kill depot":
                await rig.kill_depot()
            case _:
                raise NotImplementedError(f"no rig can do {action!r}; add it to simulator/compose_stage.py")
