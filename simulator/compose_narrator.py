"""Tells a timeline what changes in a rig: the vehicle, the dock, the tablet and its way to the fleet."""

from __future__ import annotations

from agent.core.types import KeyPosition
from drivers.docks.reference.codec import Output
from simulator.compose_bench import Rig
from simulator.timeline import Lane, Timeline
from simulator.vehicle import Engine

LOCKING = ("restricted", "foreign")


class Narrator:
    """``watch`` is called at every change of the rig and at every tick; only what is new is shown."""

    def __init__(self, rig: Rig, timeline: Timeline) -> None:
        self._rig = rig
        self._timeline = timeline
        self._vehicle = ""
        self._lowest_mv = 0

    def watch(self) -> None:
        self._tell_vehicle()
        self._tell_dock()
        self._tell_tablet()
        self._tell_fleet()

    def _tell_vehicle(self) -> None:
        vehicle = self._rig.world.vehicle
        match vehicle.engine:
            case Engine.CRANKING:
                state = "cranking"
            case Engine.RUNNING:
                state = f"engine on, {vehicle.speed_dkmh // 10} km/h"
            case _:
                state = "ignition on" if vehicle.key is KeyPosition.ON else "parked"
        if state == "cranking":
            first = self._vehicle != state
            self._lowest_mv = vehicle.vehicle_mv if first else min(self._lowest_mv, vehicle.vehicle_mv)
        if state == self._vehicle:
            return
        volts = f"{vehicle.vehicle_mv / 1000:.1f} V"
        if self._vehicle == "cranking":
            volts = f"{volts}, was {self._lowest_mv / 1000:.1f} V"
        self._vehicle = state
        self._timeline.show(Lane.VEHICLE, "state", f"{state}, {volts}")

    def _tell_dock(self) -> None:
        world, dock = self._rig.world, self._rig.world.dock
        if world.plugged is None:
            cable = "cable pulled"
        else:
            cable = "cable in" if world.plugged is world.own_device else "cable in a foreign dock"
        seat = "seated" if dock.inputs.seated else "unseated"
        self._show(Lane.DOCK, "cable", cable, alarming=cable != "cable in")
        self._show(Lane.DOCK, "seat", seat, alarming=seat == "unseated")
        self._show(Lane.DOCK, "session", "session open" if dock.in_session() else "no session")
        actuators = dock.actuators
        if actuators.cutting():
            supply = "supply cut"
        elif actuators.cut_planned():
            supply = "will cut the supply"
        else:
            supply = "supply on" if actuators.powered(dock.inputs) else "supply off"
        self._show(Lane.DOCK, "supply", supply, alarming=supply == "supply cut")
        buzzer = Output.BUZZER in actuators.outputs
        self._show(Lane.DOCK, "alarm", "buzzer and light" if buzzer else "quiet", alarming=buzzer)

    def _tell_tablet(self) -> None:
        seen = self._rig.seen()
        self._show(Lane.TABLET, "power", f"tablet {seen['tablet']}", alarming=seen["tablet"] == "off")
        if seen["session"] != "none":
            self._show(
                Lane.TABLET, "session", f"session {seen['session']}", alarming=seen["session"] == "locked"
            )
        if "tether" in seen:
            tether = f"{seen['tether'].upper()}, {seen['posture']}"
            self._show(Lane.TABLET, "tether", tether, alarming=seen["tether"] in LOCKING)
            self._show(Lane.TABLET, "ignition", f"ignition {seen['ignition']}")
            self._show(Lane.TABLET, "power mode", f"power: {seen['power'].replace('_', ' ')}")

    def _tell_fleet(self) -> None:
        network = self._rig.network
        state = "cut" if network.is_cut else "stalled" if network.is_stalled else "up"
        self._show(Lane.TABLET, "network", f"network {state}", alarming=state != "up")
        if self._rig.fleet:
            self._show(Lane.TABLET, "fleet", f"seen by the fleet: {self._rig.fleet.replace('_', ' ')}")
        tens = (self._rig.waiting or 0) // 10 * 10
        if state != "up" and tens:
            self._show(Lane.TABLET, "backlog", f"{tens} records wait, or more")

    def _show(self, lane: Lane, what: str, value: str, *, alarming: bool = False) -> None:
        self._timeline.show(lane, what, value, alarming=alarming)
