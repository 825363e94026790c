"""The CAN frames of a simulated vehicle: which of its profile's frames are due, with what it shows now."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.core.types import MS, BootNs, KeyPosition, SignalKind
from drivers.vehicles.codec import Frame, Profile, Value
from simulator.vehicle import Engine, Vehicle

KEY_OFF = KeyPosition.OFF  # by its own name: to look a member up in its class is slow
SAID_LIMIT = 256  # values of a frame that are kept encoded; ours


class FrameSender:
    """Sends each frame of a profile at its period while the vehicle's bus is awake. Sans-IO."""

    def __init__(self, profile: Profile, vehicle: Vehicle) -> None:
        self._vehicle = vehicle
        self._senders = [_Sender(frame, vehicle.at) for frame in profile.frames]

    @property
    def next_due(self) -> BootNs:
        """When ``frames`` has something to say next, if the bus is awake then."""
        return BootNs(min(sender.due for sender in self._senders))

    def frames(self, at: BootNs | None = None) -> list[bytes]:
        """Frames that are due, each a struct can_frame; late ones are sent once.

        ``at`` is the vehicle's time, or a little later if nothing happens until then.
        """
        vehicle, sent = self._vehicle, []
        at, awake = at or vehicle.at, vehicle.bus_awake
        for sender in self._senders:
            if sender.due <= at:
                sender.due = at + sender.period_ns
                if awake:
                    sent.append(sender.next(vehicle, BootNs(at)))
        return sent


class _Sender:
    """One frame of the profile, as a control unit sends it."""

    def __init__(self, frame: Frame, start: BootNs) -> None:
        self.period_ns = frame.period_ms * MS
        self.due: int = start
        self._frame = frame
        self._kinds = [signal.kind for signal in frame.signals]
        self._says = [_SAYS[kind] for kind in self._kinds]
        self._counter = 0
        self._counters = 1 if frame.counter is None else 1 << frame.counter.bits.length
        # An idling vehicle says the same few things again and again: the frames by counter, by value.
        self._said: dict[tuple[Value, ...], dict[int, bytes]] = {}
        self._values: tuple[Value, ...] = ()
        self._same: dict[int, bytes] = {}  # what was said with these values

    def next(self, vehicle: Vehicle, at: BootNs) -> bytes:
        values = tuple([say(vehicle, at) for say in self._says])
        if values != self._values:
            if len(self._said) >= SAID_LIMIT:
                self._said.clear()
            self._values, self._same = values, self._said.setdefault(values, {})
        counter = self._counter
        self._counter = (counter + 1) % self._counters
        data = self._same.get(counter)
        if data is None:
            said = dict(zip(self._kinds, values, strict=True))
            data = self._same[counter] = self._frame.encode(said, counter)
        return data


def _key(vehicle: Vehicle, _at: BootNs) -> KeyPosition:
    if vehicle.key is KEY_OFF and vehicle.key_in:
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
