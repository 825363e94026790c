"""Numbers in CAN data, checksums, and the frames that a simulated vehicle sends."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.types import KeyPosition, SignalKind
from drivers.vehicles import j1939, vw_mqb
from drivers.vehicles.codec import CAN_FRAME, Bits, Signal, pack
from drivers.vehicles.codec import vw_mqb as vw_checksum

# (start, length, order, data, number): worked out by hand from the DBC's rules.
PLACES = [
    (24, 16, "little", "00 00 00 48 14 00 00 00", 0x1448),
    (4, 8, "little", "50 0A", 0xA5),
    (7, 8, "big", "A5 00", 0xA5),
    (3, 8, "big", "0A 50", 0xA5),
    (28, 13, "big", "00 00 00 1F FF 00 00 00", 0x1FFF),  # Ford 0x204 engine speed: 28|13@0
]


@pytest.mark.parametrize(("start", "length", "order", "data", "number"), PLACES)
def test_a_number_is_where_the_dbc_says(start: int, length: int, order: str, data: str, number: int) -> None:
    bits = Bits(start, length, "little" if order == "little" else "big")
    raw = bytes.fromhex(data)
    assert bits.reader(len(raw))(raw) == number
    assert bits.put(bytes(len(raw)), number) == raw


@given(
    st.integers(0, 63),
    st.integers(1, 64),
    st.booleans(),
    st.booleans(),
    st.binary(min_size=8, max_size=8),
    st.data(),
)
def test_what_is_put_is_read_back_and_nothing_else_moves(
    start: int, length: int, big: bool, signed: bool, data: bytes, draw: st.DataObject
) -> None:
    bits = Bits(start, length, "big" if big else "little", signed)
    places = bits.places(8)
    if not places <= set(range(64)):
        return
    low, high = (-(1 << (length - 1)), (1 << (length - 1)) - 1) if signed else (0, (1 << length) - 1)
    number = draw.draw(st.integers(low, high))
    changed = bits.put(data, number)
    assert bits.reader(8)(changed) == number
    before, after = int.from_bytes(data, "little"), int.from_bytes(changed, "little")
    assert all(place in places for place in range(64) if (before ^ after) >> place & 1)


# Frames of LWI_01 (0x86) recorded in a car: first byte checksum, second byte's low nibble counter. Its
# constant is 0x86 (opendbc). They are facts about the cars, found in public tests of checksum tools.
@pytest.mark.parametrize(
    "frame",
    ["6B00BD0000000000", "EE010A0000000000", "D802A90000000000", "0303BEA212000000", "600F62C000000000"],
)
def test_the_volkswagen_checksum_is_the_one_that_cars_send(frame: str) -> None:
    data = bytes.fromhex(frame)
    assert vw_checksum(data, 0x86) == data[0]


def test_the_volkswagen_checksum_agrees_with_the_published_check_value() -> None:
    """AUTOSAR: CRC8H2F of "123456789" is 0xDF; our last byte is the sender's constant."""
    assert vw_checksum(b"?12345678", ord("9")) == 0xDF


@pytest.mark.parametrize(
    ("scale", "offset", "number", "value"),
    [
        ("0.125", "0", 5192, 649),
        ("0.125", "0", 5, 1),
        ("50", "0", 265, 13250),
        ("1", "6000", 100, 6100),
        ("0.5", "-40", 81, 1),
    ],
)
def test_a_measured_value_is_rounded_in_its_unit(scale: str, offset: str, number: int, value: int) -> None:
    signal = Signal(
        SignalKind.BATTERY,
        Bits(0, 16),
        scale=Fraction(scale),
        offset=Fraction(offset),
        lowest=-100,
        highest=99_999,
    )
    assert signal.decoder(2)(number.to_bytes(2, "little")) == value


def test_every_number_rounds_as_the_exact_value_does() -> None:
    signal = Signal(
        SignalKind.BATTERY,
        Bits(0, 16),
        scale=Fraction("0.1558"),
        offset=Fraction("-7.3"),
        lowest=-99,
        highest=99_999,
    )
    decode = signal.decoder(2)
    for number in range(0, 1 << 16, 7):
        value = decode(number.to_bytes(2, "little"))
        assert isinstance(value, int)
        assert abs(number * signal.scale + signal.offset - value) <= Fraction(1, 2)


def test_a_simulated_vehicle_gets_the_profiles_own_frame() -> None:
    can_id, data = j1939().encode(SignalKind.ENGINE_SPEED, 649)
    assert can_id == 0x0CF00400
    assert data == bytes.fromhex("FFFFFF4814FFFFFF")
    can_id, data = vw_mqb().encode(SignalKind.IGNITION, KeyPosition.START, counter=18)
    assert (can_id, data[1:]) == (0x3C0, bytes([2, 0b1011, 0]))


def test_what_a_profile_cannot_say_is_refused() -> None:
    with pytest.raises(LookupError, match="vw-mqb has no battery"):
        vw_mqb().encode(SignalKind.BATTERY, 12_000)


def test_a_frame_on_the_wire_is_a_struct_can_frame() -> None:
    frame = pack(0x18FEF700, b"\x01\x02", extended=True)
    assert CAN_FRAME.unpack(frame) == (0x98FEF700, 2, b"\x01\x02" + bytes(6))
    assert len(frame) == 16
