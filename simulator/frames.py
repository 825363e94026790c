"""The CAN frames of a simulated vehicle: which of its profile's frames are due, with what it shows now."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.core.types import MS, BootNs, KeyPosition, SignalKind
from drivers.vehicles.codec import Profile, Value
from simulator.vehicle import Engine, Vehicle

# Where a sender's running number begins anew: a multiple of what any frame's counter holds (16 values, 256).
COUNTERS = 256
SAID_LIMIT = 16_384  # frames that are kept encoded; ours


class FrameSender:
    """Sends each frame of a profile at its period while the vehicle's bus is awake. Sans-IO."""

    def __init__(self, profile: Profile, vehicle: Vehicle) -> None:
        self._frames = profile.frames
        self._vehicle = vehicle
        self._due = [vehicle.at] * len(profile.frames)
        self._counters = [0] * len(profile.frames)
        self._says = [[_SAYS[signal.kind] for signal in frame.signals] for frame in profile.frames]
        self._said: dict[tuple[int, tuple[Value, ...], int], bytes] = {}

    @property
    def next_due(self) -> BootNs:
        """When ``frames`` has something to say next, if the bus is awake then."""
        return min(self._due)

    def frames(self, at: BootNs | None = None) -> list[bytes]:
        """Frames that are due, each a struct can_frame; late ones are sent once.

        ``at`` is the vehicle's time, or a little later if nothing happens until then.
        """
        vehicle, sent = self._vehicle, []
        at, awake = at or vehicle.at, vehicle.bus_awake
        for n, frame in enumerate(self._frames):
            if self._due[n] > at:
                continue
            self._due[n] = BootNs(at + frame.period_ms * MS)
            if awake:
                values = tuple([say(vehicle, at) for say in self._says[n]])
                sent.append(self._encoded(n, values))
        return sent

    def _encoded(self, n: int, values: tuple[Value, ...]) -> bytes:
        """An idling vehicle says the same few things again and again."""
        counter = self._counters[n]
        self._counters[n] = (counter + 1) % COUNTERS
        key = n, values, counter
        data = self._said.get(key)
        if data is None:
            if len(self._said) >= SAID_LIMIT:
                self._said.clear()
            frame = self._frames[n]
            kinds = (signal.kind for signal in frame.signals)
            data = self._said[key] = frame.encode(dict(zip(kinds, values, strict=True)), counter)
        return data


def _key(vehicle: Vehicle, _at: BootNs) -> KeyPosition:
    if vehicle.key is KeyPosition.OFF and vehicle.key_in:
        return KeyPosition.ACCESSORY  # KL_S without KL15
    return vehicle.key


# What the vehicle's control units would say of it now.
_SAYS: Mapping[SignalKind, Callable[[Vehicle, BootNs], Value]] = {
    SignalKind.IGNITION: _key,
    SignalKind.ENGINE_SPEED: lambda vehicle, at: vehicle.rpm_at(at),
    SignalKind.BATTERY: lambda vehicle, _at: vehicle.vehicle_mv,
    SignalKind.ALTERNATOR: lambda vehicle, _at: vehicle.alternator_mv,
    SignalKind.SPEED: lambda vehicle, _at: vehicle.speed_dkmh,
    SignalKind.READY: lambda vehicle, _at: vehicle.engine is Engine.RUNNING,
}
