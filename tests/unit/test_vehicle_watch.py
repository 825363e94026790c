"""Which frames of a vehicle profile count, what they say, and what is counted instead."""

from __future__ import annotations

import itertools

import pytest

from agent.core.types import MS, SECOND, BootNs, KeyPosition, SignalKind
from drivers.vehicles import j1939, vw_mqb
from drivers.vehicles.codec import ERROR, EXTENDED, REMOTE, Value, pack
from drivers.vehicles.profile import parse
from drivers.vehicles.tables import ProfileError
from drivers.vehicles.watch import BUS_OFF, MAX_IDS, CompiledProfile

KLEMMEN, MOTOR = vw_mqb().frames
EEC1, VEP1 = j1939().frames
ON = {SignalKind.IGNITION: KeyPosition.ON}


def at(ms: int) -> BootNs:
    return BootNs(ms * MS)


def terminals(position: KeyPosition, counter: int) -> bytes:
    return KLEMMEN.encode({SignalKind.IGNITION: position}, counter)


def said(watch: CompiledProfile, frame: bytes, ms: int) -> list[tuple[SignalKind, Value]]:
    return [(signal.kind, signal.value) for signal in watch.feed([frame], at(ms))]


def vw() -> CompiledProfile:
    """A watch that has just seen a 0x3C0 with counter 0, at 0 ms."""
    watch = CompiledProfile(vw_mqb(), "powertrain")
    assert said(watch, terminals(KeyPosition.OFF, 0), 0) == []
    return watch


def j() -> CompiledProfile:
    return CompiledProfile(j1939(), "powertrain")


# --- VW 0x3C0 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "position"),
    [
        (0b0000, KeyPosition.OFF),
        (0b0001, KeyPosition.ACCESSORY),  # Klemme S alone: a trap met in recordings
        (0b0010, KeyPosition.ON),
        (0b0011, KeyPosition.ON),
        (0b0111, KeyPosition.ON),  # Klemme X says nothing of its own
        (0b1011, KeyPosition.START),
        (0b1000, KeyPosition.START),
        (0b0100, KeyPosition.OFF),
    ],
)
def test_terminals(bits: int, position: KeyPosition) -> None:
    data = bytes([0, 1, bits, 0])
    assert KLEMMEN.checksum is not None
    data = bytes([KLEMMEN.checksum.expected(data)]) + data[1:]
    assert said(vw(), pack(0x3C0, data, extended=False), 100) == [(SignalKind.IGNITION, position)]


def test_the_first_frame_is_not_believed_for_want_of_a_counter_before_it() -> None:
    watch = CompiledProfile(vw_mqb(), "powertrain")
    assert said(watch, terminals(KeyPosition.ON, 7), 0) == []
    assert said(watch, terminals(KeyPosition.ON, 8), 100) == [(SignalKind.IGNITION, KeyPosition.ON)]
    assert watch.counters.values == {"frames": 2}


def test_a_frozen_counter_is_not_believed() -> None:
    watch = vw()
    for n in range(50):
        assert said(watch, terminals(KeyPosition.ON, 0), 100 * n) == []
    assert watch.counters.values["counter"] == 50


@pytest.mark.parametrize(("step", "counts"), [(1, True), (3, True), (4, False), (15, False), (16, False)])
def test_the_counter_must_advance_but_a_frame_or_two_may_be_lost(step: int, counts: bool) -> None:
    assert bool(said(vw(), terminals(KeyPosition.ON, step), 100)) is counts


def test_after_a_silence_the_counter_starts_anew() -> None:
    watch = vw()
    assert said(watch, terminals(KeyPosition.ON, 1), 5_000) == []
    assert said(watch, terminals(KeyPosition.ON, 2), 5_100) == [(SignalKind.IGNITION, KeyPosition.ON)]


def test_a_counter_wraps() -> None:
    watch = vw()
    for n in range(1, 40):
        said(watch, terminals(KeyPosition.ON, n), 100 * n)
    assert watch.counters.values == {"frames": 40}


def test_a_wrong_checksum_is_not_believed_and_does_not_move_the_counter() -> None:
    watch = vw()
    damaged = bytearray(terminals(KeyPosition.ON, 9))
    damaged[8] ^= 1
    assert said(watch, bytes(damaged), 50) == []
    assert watch.counters.values["checksum"] == 1
    assert said(watch, terminals(KeyPosition.ON, 1), 100) == [(SignalKind.IGNITION, KeyPosition.ON)]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        # BMW E8x/E9x sends 0x3C0 for configuration and 0x3B3 for power management (opendbc).
        (pack(0x3C0, bytes.fromhex("F3 FF 00 00 FF FF FF FF"), extended=False), "wrong_length"),
        (pack(0x3C0, bytes.fromhex("00 00 02 00"), extended=False), "checksum"),
        (pack(0x3C0, bytes.fromhex("00 01 02 00"), extended=True), "wrong_format"),
        (pack(0x3C0 | REMOTE, bytes(4), extended=False), "remote_frame"),
        (pack(ERROR | 4, bytes(8), extended=False), "error_frame"),
        (terminals(KeyPosition.ON, 1)[:12], "wrong_length"),
    ],
)
def test_a_frame_of_another_make_with_the_same_id_is_counted_and_not_believed(
    frame: bytes, reason: str
) -> None:
    watch = vw()
    for n in range(20):
        assert said(watch, frame, 100 * n) == []
    assert watch.counters.values[reason] == 20


def test_other_ids_are_not_ours_to_judge() -> None:
    watch = vw()
    bmw_power = pack(0x3B3, bytes.fromhex("40 00 00 00 00 00 FF FF"), extended=False)
    assert said(watch, bmw_power, 1) == []
    assert watch.counters.values == {"frames": 2}


def test_bus_off_is_noticed() -> None:
    watch = vw()
    watch.feed([pack(ERROR | BUS_OFF, bytes(8), extended=False)], at(0))
    assert watch.bus_off


def test_noise_does_not_grow_the_table_of_ids() -> None:
    watch = vw()
    watch.feed([pack(n, b"", extended=True) for n in range(MAX_IDS + 500)], at(0))
    assert len(watch._known) == MAX_IDS
    assert said(watch, terminals(KeyPosition.ON, 1), 100) == [(SignalKind.IGNITION, KeyPosition.ON)]


# --- when a value is said -------------------------------------------------------------------------


def test_a_value_is_said_on_change_and_to_keep_it_fresh() -> None:
    watch = vw()
    times = [n for n in range(1, 61) if said(watch, terminals(KeyPosition.ON, n), 100 * n)]
    freshness_ms = KLEMMEN.freshness_ms
    assert times[0] == 1
    assert all(later - earlier == freshness_ms // 4 // 100 for earlier, later in itertools.pairwise(times))


def test_an_unchanged_frame_without_a_counter_keeps_its_value_fresh_too() -> None:
    watch = j()
    frame = EEC1.encode({SignalKind.ENGINE_SPEED: 650})
    times = [ms for ms in range(0, 1000, 10) if said(watch, frame, ms)]
    assert times == [0, 250, 500, 750]


def test_of_a_measured_signal_only_the_last_of_a_batch_is_said_but_of_a_switch_every_change() -> None:
    watch = vw()
    MOTOR_FRAMES = [
        MOTOR.encode({SignalKind.ENGINE_SPEED: rpm}, n) for n, rpm in enumerate((0, 120, 240, 800))
    ]
    turns = [KeyPosition.ON, KeyPosition.START, KeyPosition.ON]
    batch = [*MOTOR_FRAMES, *(terminals(position, n) for n, position in enumerate(turns, start=1))]
    signals = watch.feed(batch, at(50))
    assert [signal.value for signal in signals] == [*turns, 800]
    assert {signal.at for signal in signals} == {at(50)}


# --- J1939 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", range(8))
def test_a_pgn_is_known_at_any_priority(priority: int) -> None:
    data = EEC1.data({SignalKind.ENGINE_SPEED: 650})
    frame = pack(priority << 26 | 61444 << 8, data, extended=True)
    assert said(j(), frame, 0) == [(SignalKind.ENGINE_SPEED, 650)]


def test_only_the_engine_controller_is_believed() -> None:
    watch = j()
    assert (
        said(watch, pack(EEC1.can_id | 0x47, EEC1.data({SignalKind.ENGINE_SPEED: 650}), extended=True), 0)
        == []
    )
    assert watch.counters.values["other_sender"] == 1


def test_one_frame_carries_several_signals() -> None:
    values: dict[SignalKind, Value] = {
        SignalKind.ALTERNATOR: 14_000,
        SignalKind.BATTERY: 13_250,
        SignalKind.IGNITION: KeyPosition.ON,
    }
    assert set(said(j(), VEP1.encode(values), 0)) == set(values.items())


@pytest.mark.parametrize("raw", [0xFB00, 0xFE00, 0xFFFF])
def test_not_available_is_no_value(raw: int) -> None:
    watch = j()
    data = bytes(3) + raw.to_bytes(2, "little") + bytes(3)
    assert said(watch, pack(EEC1.can_id, data, extended=True), 0) == []
    assert watch.counters.values["not_available"] == 1


def test_zero_rpm_is_a_value() -> None:
    assert said(j(), bytes.fromhex("0004F08C08000000") + bytes.fromhex("F0FF7D0000FFFFFF"), 0) == [
        (SignalKind.ENGINE_SPEED, 0)
    ]


@pytest.mark.parametrize(
    ("raw", "position"),
    [
        (0, KeyPosition.OFF),
        (20, KeyPosition.OFF),
        (120, KeyPosition.ON),
        (265, KeyPosition.ON),
        (60, None),
        (900, None),
    ],
)
def test_the_keyswitch_voltage_between_its_limits_is_no_evidence(
    raw: int, position: KeyPosition | None
) -> None:
    data = b"\xff" * 6 + raw.to_bytes(2, "little")
    expected = [] if position is None else [(SignalKind.IGNITION, position)]
    assert said(j(), pack(VEP1.can_id, data, extended=True), 0) == expected


def test_a_value_that_went_missing_is_said_at_once_when_it_is_back() -> None:
    watch = j()
    speed = EEC1.encode({SignalKind.ENGINE_SPEED: 650})
    assert said(watch, speed, 0)
    assert not said(watch, EEC1.encode({}), 10)
    assert said(watch, speed, 20) == [(SignalKind.ENGINE_SPEED, 650)]


# --- buses ----------------------------------------------------------------------------------------

TWO_BUSES = parse(
    {
        "name": "two",
        "title": "the same id on two buses",
        "sources": ["none"],
        "frame": [
            {
                "name": name, "bus": bus, "id": can_id, "length": 1, "period_ms": 10, "freshness_ms": 100,
                "signal": [{"kind": "battery", "start": 0, "length": 8, "scale": 100, "range": [0, 20000]}],
            }
            for name, bus, can_id in (("one", "body", 0x10), ("two", "powertrain", 0x20))
        ],
    },
    "test",
)  # fmt: skip


def test_a_frame_counts_on_its_own_bus_only() -> None:
    frame = pack(0x10, b"\x7d", extended=False)
    assert said(CompiledProfile(TWO_BUSES, "body"), frame, 0) == [(SignalKind.BATTERY, 12_500)]
    other = CompiledProfile(TWO_BUSES, "powertrain")
    assert said(other, frame, 0) == []
    assert other.counters.values["wrong_bus"] == 1


def test_a_bus_that_the_profile_does_not_have_is_refused() -> None:
    with pytest.raises(ProfileError, match="expected a bus named body, powertrain, came can7"):
        CompiledProfile(TWO_BUSES, "can7")


def test_the_kernels_filters_let_exactly_the_profiles_frames_pass() -> None:
    for profile in (vw_mqb(), j1939()):
        filters = CompiledProfile(profile, "powertrain").filters()
        for frame in profile.frames:
            word = frame.can_id | (EXTENDED if frame.extended else 0)
            assert any(word & mask == wanted & mask for wanted, mask in filters)
            for other in (word ^ 0x100, word ^ EXTENDED, word | REMOTE):
                assert not any(other & mask == wanted & mask for wanted, mask in filters)


def test_a_silence_longer_than_the_freshness_says_the_value_anew() -> None:
    watch = j()
    frame = VEP1.encode(ON)
    assert said(watch, frame, 0)
    assert watch.feed([frame], BootNs(10 * SECOND))
