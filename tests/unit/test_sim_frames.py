"""The frames of the simulated vehicle, read back through its profile."""

from __future__ import annotations

import pytest

from agent.core.types import MS, SECOND, BootNs, KeyPosition, SignalKind
from drivers.vehicles import j1939, vw_mqb
from drivers.vehicles.codec import CAN_FRAME, EXTENDED, Profile
from simulator.frames import FrameSender
from simulator.vehicle import Vehicle

START = BootNs(3 * SECOND)


def read(profile: Profile, frames: list[bytes]) -> dict[SignalKind, object]:
    """What the profile's decoders make of the frames, later ones winning."""
    values: dict[SignalKind, object] = {}
    for packed in frames:
        can_id, length, data = CAN_FRAME.unpack(packed)
        for frame in profile.frames:
            if (frame.can_id, frame.length) == (can_id & ~EXTENDED, length):
                for signal in frame.signals:
                    values[signal.kind] = signal.decoder(length)(data[:length])
    return values


def sent(sender: FrameSender, vehicle: Vehicle, ns: int) -> list[bytes]:
    until, frames = vehicle.at + ns, []
    while vehicle.at < until:
        vehicle.advance(BootNs(vehicle.at + 5 * MS))
        frames += sender.frames()
    return frames


@pytest.mark.parametrize("profile", [vw_mqb(), j1939()], ids=lambda profile: str(profile.name))
def test_a_running_engine_is_seen_through_the_profile(profile: Profile) -> None:
    vehicle = Vehicle(START)
    sender = FrameSender(profile, vehicle)
    vehicle.crank()
    values = read(profile, sent(sender, vehicle, 5 * SECOND))
    assert values[SignalKind.IGNITION] is KeyPosition.ON
    assert values[SignalKind.ENGINE_SPEED] == pytest.approx(vehicle.rpm, abs=20)
    if SignalKind.BATTERY in values:
        assert values[SignalKind.BATTERY] == pytest.approx(vehicle.vehicle_mv, abs=50)


def test_a_key_that_is_in_but_off_is_accessory_and_one_that_is_out_is_off() -> None:
    profile, vehicle = vw_mqb(), Vehicle(START)
    sender = FrameSender(profile, vehicle)
    vehicle.turn_key(KeyPosition.ON)
    vehicle.turn_key(KeyPosition.OFF)
    assert read(profile, sent(sender, vehicle, SECOND))[SignalKind.IGNITION] is KeyPosition.ACCESSORY
    vehicle.pull_key()
    assert read(profile, sent(sender, vehicle, SECOND))[SignalKind.IGNITION] is KeyPosition.OFF


def test_each_frame_keeps_its_period_and_a_sleeping_bus_is_silent() -> None:
    profile, vehicle = vw_mqb(), Vehicle(START)
    sender = FrameSender(profile, vehicle)
    assert sent(sender, vehicle, SECOND) == []
    vehicle.turn_key(KeyPosition.ON)
    frames = sent(sender, vehicle, 2 * SECOND)
    for frame in profile.frames:
        count = sum(CAN_FRAME.unpack(packed)[0] == frame.can_id for packed in frames)
        assert count == pytest.approx(2000 / frame.period_ms, abs=1)
