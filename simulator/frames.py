"""The CAN frames of a simulated vehicle: which of its profile's frames are due, with what it shows now."""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.types import MS, BootNs, KeyPosition, SignalKind
from drivers.vehicles.codec import Profile, Value
from simulator.vehicle import Engine, Vehicle


class FrameSender:
    """Sends each frame of a profile at its period while the vehicle's bus is awake. Sans-IO."""

    def __init__(self, profile: Profile, vehicle: Vehicle) -> None:
        self._frames = profile.frames
        self._vehicle = vehicle
        self._due = [vehicle.at] * len(profile.frames)
        self._counters = [0] * len(profile.frames)

    @property
    def next_due(self) -> BootNs:
        """When ``frames`` has something to say next, if the bus is awake then."""
        return min(self._due)

    def frames(self) -> list[bytes]:
        """Frames that are due at the vehicle's time, each a struct can_frame; late ones are sent once."""
        at, sent = self._vehicle.at, []
        values = signals(self._vehicle)
        for n, frame in enumerate(self._frames):
            if self._due[n] > at:
                continue
            self._due[n] = BootNs(at + frame.period_ms * MS)
            if self._vehicle.bus_awake:
                sent.append(frame.encode(values, self._counters[n]))
                self._counters[n] += 1
        return sent


def signals(vehicle: Vehicle) -> Mapping[SignalKind, Value]:
    """What the vehicle's control units would say of it now."""
    key = vehicle.key
    if key is KeyPosition.OFF and vehicle.key_in:
        key = KeyPosition.ACCESSORY  # KL_S without KL15
    return {
        SignalKind.IGNITION: key,
        SignalKind.ENGINE_SPEED: vehicle.rpm,
        SignalKind.BATTERY: vehicle.vehicle_mv,
        SignalKind.ALTERNATOR: vehicle.alternator_mv,
        SignalKind.SPEED: vehicle.speed_dkmh,
        SignalKind.READY: vehicle.engine is Engine.RUNNING,
    }
