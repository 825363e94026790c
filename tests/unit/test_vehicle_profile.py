"""Profile files: what is accepted, and errors that say where, what was expected and what came."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cantools.database.can import Database

from agent.core.types import BootNs, KeyPosition, SignalKind
from drivers.vehicles.codec import Missing, pack
from drivers.vehicles.profile import load
from drivers.vehicles.tables import ProfileError
from drivers.vehicles.watch import CompiledProfile

GOOD = """
name = "test"
title = "a test"
sources = ["made up"]

[[frame]]
name = "Speeds"
id = 0x204
length = 8
period_ms = 10
freshness_ms = 1000
counter = { start = 0, length = 4 }
checksum = { algorithm = "vw-mqb", start = 8, length = 8, constant = 1 }

[[frame.signal]]
kind = "engine_speed"
start = 28
length = 13
order = "big"
scale = 2
range = [0, 10000]
not_available = [0, [0x1FF0, 0x1FFF]]

[[frame]]
name = "Key"
id = 0x3B3
length = 8
period_ms = 100
freshness_ms = 2000

[[frame.signal]]
kind = "ignition"
start = 4
length = 4
meanings = { off = [1], accessory = [2], on = [4], start = [8] }

[[frame.signal]]
kind = "ready"
start = 8
length = 1
meanings = { true = [1], false = [0] }
"""


def loaded(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "profile.toml"
    file.write_text(text)
    return load(file)


def test_a_good_profile_is_read(tmp_path: Path) -> None:
    profile = loaded(tmp_path, GOOD)
    speeds, key = profile.frames
    assert (speeds.can_id, speeds.extended, speeds.bus) == (0x204, False, "powertrain")
    assert speeds.signals[0].not_available == ((0, 0), (0x1FF0, 0x1FFF))
    assert [signal.kind for signal in key.signals] == [SignalKind.IGNITION, SignalKind.READY]


# Old text, new text, and what the error must say beside the file's name.
MISTAKES = [
    ('name = "test"', "", ["name is missing", "expected a text"]),
    ('sources = ["made up"]', "sources = []", ["sources", "at least one text", "came []"]),
    ("id = 0x204", "id = 0x804", ["frame 1 (Speeds)", "id", "0 to 2047", "came 2052"]),
    ("id = 0x204", "id = true", ["id", "whole number", "came True"]),
    ("id = 0x204", "pgn = 61444", ["frame 1 (Speeds)", "senders is missing"]),
    ("id = 0x204", "pgn = 0xEF01\nsenders = [0]", ["pgn", "destination"]),
    ("id = 0x204", "pgn = 61444\nsenders = [254]", ["senders", "0 to 253", "came [254]"]),
    ("length = 8\nperiod_ms = 10\n", "length = 9\nperiod_ms = 10\n", ["length", "1 to 8", "came 9"]),
    ("length = 8\nperiod_ms = 10\n", "length = 4\nperiod_ms = 10\n", ["engine_speed", "4 bytes", "(28, 13)"]),
    ("freshness_ms = 1000", "freshness_ms = 15", ["freshness_ms", "from 20", "came 15"]),
    ("freshness_ms = 1000", "fresness_ms = 1000", ["freshness_ms is missing"]),
    ("scale = 2", "scale = 2\noffest = 1", ["engine_speed", "unknown key offest", "did you mean offset?"]),
    ("scale = 2", "zebra = 1", ["unknown key zebra", "known here"]),
    ("scale = 2", "scale = 0", ["scale", "other than 0"]),
    ("scale = 2", "scale = nan", ["scale", "a number"]),
    ("scale = 2", 'scale = "2"', ["scale", "a number", "came '2'"]),
    ("range = [0, 10000]", "range = [10, 0]", ["range", "lower first", "came [10, 0]"]),
    ("range = [0, 10000]", "", ["engine_speed", "range is missing"]),
    ('kind = "engine_speed"', 'kind = "rpm"', ["kind", "engine_speed", "came 'rpm'"]),
    (
        GOOD[GOOD.index('kind = "ready"') :],
        'kind = "ignition"\nstart = 8\nlength = 1\nmeanings = { on = [1] }',
        ["frame Key", "ignition is there twice"],
    ),
    ("accessory = [2]", "accessory = [16]", ["ignition", "meanings", "within the mask 0xF"]),
    ("meanings = { true = [1], false = [0] }", "", ["ready", "meanings", "true and false"]),
    ("meanings = { true = [1], false = [0] }", "meanings = { yes = [1] }", ["ready", "meanings", "yes"]),
    ("accessory = [2]", "accessory = [1]", ["ignition", "each number once"]),
    ("accessory = [2]", "accessory = [-1]", ["ignition", "meanings"]),
    ('kind = "ready"', 'kind = "speed"', ["speed", "meanings", "measured"]),
    ("start = 8\nlength = 1", "start = 5\nlength = 1", ["ready", "nothing else of the frame uses", "(5, 1)"]),
    ("start = 0, length = 4", "start = 28, length = 4", ["engine_speed", "nothing else of the frame uses"]),
    ("start = 0, length = 4", "start = 0, length = 4, modulus = 16", ["counter", "unknown key modulus"]),
    ('"vw-mqb"', '"crc99"', ["checksum", "algorithm", "vw-mqb", "came 'crc99'"]),
    ('order = "big"', 'order = "motorola"', ["order", "big (Motorola)", "came 'motorola'"]),
    ("id = 0x3B3", "id = 0x204", ["frame Key", "id 0x204 is there twice on bus powertrain"]),
    ("id = 0x3B3", "id = 0x3B3\nmatch = { 8 = 1 }", ["frame 2 (Key)", "match", "places 0 to 7"]),
    ("id = 0x3B3", "id = 0x3B3\nmatch = { 2 = 256 }", ["match", "values 0 to 255"]),
    ("id = 0x3B3", "id = 0x3B3\nmatch = { two = 2 }", ["match", "bytes by their place"]),
    ("id = 0x3B3", "id = 0x3B3\nmatch = 2", ["match", "came 2"]),
    ("id = 0x3B3", "id = 0x3B3\nmatch = { 0 = 2 }", ["ignition", "nothing else of the frame uses"]),
    (
        'sources = ["made up"]',
        'sources = ["a"]\nrecordings = [1]',
        ["recordings", "recordings of real vehicles"],
    ),
    ('name = "Key"', 'name = "Speeds"', ["Speeds is there twice"]),
    ("[[frame.signal]]", "[[frame.signals]]", ["frame 1 (Speeds)", "signal is missing"]),
    ("[[frame]]", "[frame", ["not TOML"]),
]


@pytest.mark.parametrize(("old", "new", "words"), MISTAKES)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    with pytest.raises(ProfileError) as caught:
        loaded(tmp_path, text)
    for word in [str(tmp_path / "profile.toml"), *words]:
        assert word in str(caught.value)


TWO_ANSWERS = """
name = "test"
title = "a test"
sources = ["made up"]

[[frame]]
name = "speed"
id = 0x7E8
length = 8
match = { 1 = 0x41, 2 = 0x0C }
period_ms = 500
freshness_ms = 1000
signal = [{ kind = "engine_speed", start = 31, length = 16, order = "big", range = [0, 20000] }]

[[frame]]
name = "voltage"
id = 0x7E8
length = 8
match = { 1 = 0x41, 2 = 0x42 }
period_ms = 500
freshness_ms = 1000
signal = [{ kind = "battery", start = 31, length = 16, order = "big", range = [0, 20000] }]
"""


def test_frames_of_one_id_are_told_apart_by_their_bytes(tmp_path: Path) -> None:
    watch = CompiledProfile(loaded(tmp_path, TWO_ANSWERS), "powertrain")
    assert len(watch.filters()) == 1
    frames = [
        pack(0x7E8, bytes(data), extended=False)
        for data in (
            [4, 0x41, 0x0C, 0x03, 0xE8, 0, 0, 0],
            [4, 0x41, 0x42, 0x30, 0x39, 0, 0, 0],
            [3, 0x41, 0x0D, 0x50, 0, 0, 0, 0],  # a speed, which this profile does not take
            [0x7F, 0x01, 0x0C, 0x12, 0, 0, 0, 0],  # a refusal
        )
    ]
    said = watch.feed(frames, BootNs(0))
    assert {signal.kind: signal.value for signal in said} == {
        SignalKind.ENGINE_SPEED: 1000,
        SignalKind.BATTERY: 12_345,
    }
    assert watch.feed([frames[0][:12]], BootNs(1)) == [], "a torn frame"
    assert watch.counters.values == {"frames": 5}


@pytest.mark.parametrize("match", ["", "match = { 1 = 0x41 }", "match = { 0 = 4 }"])
def test_frames_of_one_id_that_nothing_tells_apart_are_refused(tmp_path: Path, match: str) -> None:
    text = TWO_ANSWERS.replace("match = { 1 = 0x41, 2 = 0x42 }", match)
    with pytest.raises(ProfileError, match=r"voltage: id 0x7E8 is there twice .* another value at one place"):
        loaded(tmp_path, text)


def test_a_vehicle_without_can_says_so(tmp_path: Path) -> None:
    text = 'name = "test"\ntitle = "a test"\nsources = ["made up"]\n'
    assert loaded(tmp_path, f"{text}frame = []\n").frames == ()
    with pytest.raises(ProfileError, match=r"frame is missing: .* frame = \[\] for a vehicle without CAN"):
        loaded(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")


DBC = """
VERSION ""
BS_:
BU_: ECU
BO_ 516 Engine: 8 ECU
 SG_ Speed : 28|13@0+ (2,0) [0|16382] "rpm" ECU
 SG_ Supply : 40|16@1+ (0.001,6) [6|70] "V" ECU
 SG_ Net : 56|8@1- (0.5,-40) [-104|23.5] "V" ECU
 SG_ Key : 0|3@1+ (1,0) [0|7] "" ECU
BO_ 2566844672 CCVS: 8 ECU
 SG_ Road : 8|16@1+ (0.00390625,0) [0|251] "km/h" ECU
"""

KEYS = {
    0: KeyPosition.OFF, 1: KeyPosition.ACCESSORY, 2: KeyPosition.ON, 3: KeyPosition.ON, 4: KeyPosition.START,
}  # fmt: skip

WITH_DBC = """
name = "from-dbc"
title = "places and scales from a DBC"
sources = ["made up"]
dbc = "vehicle.dbc"

[[frame]]
message = "Engine"
period_ms = 10
freshness_ms = 1000
[[frame.signal]]
signal = "Speed"
kind = "engine_speed"
range = [0, 10000]
[[frame.signal]]
signal = "Supply"
kind = "battery"
per_unit = 1000 # mV of each V
range = [6000, 40000]
[[frame.signal]]
signal = "Net"
kind = "alternator"
per_unit = 1000
range = [-200000, 200000]
[[frame.signal]]
signal = "Key"
kind = "ignition"
meanings = { off = [0], accessory = [1], on = [2, 3], start = [4] }

[[frame]]
message = "CCVS"
period_ms = 100
freshness_ms = 1000
[[frame.signal]]
signal = "Road"
kind = "speed"
per_unit = 10
range = [0, 2510]
"""


def test_a_dbc_signal_decodes_as_cantools_decodes_it(tmp_path: Path) -> None:
    """cantools is the oracle: every place, scale and sign of the DBC, over a range of data."""
    (tmp_path / "vehicle.dbc").write_text(DBC)
    profile = loaded(tmp_path, WITH_DBC)
    oracle = Database()
    oracle.add_dbc_string(DBC)
    factors = {"Speed": 1, "Supply": 1000, "Net": 1000, "Road": 10}
    for frame in profile.frames:
        message = oracle.get_message_by_name(frame.name)
        assert (message.frame_id, message.is_extended_frame) == (frame.can_id, frame.extended)
        there = {signal.name for signal in message.signals}
        named = [name for name in ("Speed", "Supply", "Net", "Key", "Road") if name in there]
        for n in range(0, 1 << 16, 97):
            data = (n * 0x9E3779B97F4A7C15 & (1 << 64) - 1).to_bytes(8, "little")
            expected: Any = message.decode(data, decode_choices=False)
            for name, signal in zip(named, frame.signals, strict=True):
                value = signal.decoder(8)(data)
                if name == "Key":
                    assert value is KEYS.get(expected[name], Missing.RANGE)
                elif type(value) is int:
                    assert abs(value - expected[name] * factors[name]) <= 0.5 + 1e-6
                else:
                    exact = expected[name] * factors[name]
                    assert not signal.lowest <= exact <= signal.highest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.replace("vehicle.dbc", "none.dbc"), ["none.dbc cannot be read"]),
        (lambda s: s.replace('"Engine"', '"Motor"'), ["message", "CCVS, Engine", "came 'Motor'"]),
        (lambda s: s.replace('"Supply"', '"Volts"'), ["message Engine", "signal", "Supply", "came 'Volts'"]),
        (lambda s: s.replace("= 10\n", "= 10\nstart = 3\n"), ["signal Road", "start", "from the DBC only"]),
        (
            lambda s: s.replace('message = "CCVS"', 'message = "CCVS"\nid = 3'),
            ["message CCVS", "id", "from the DBC only"],
        ),
    ],
)
def test_a_mistake_about_the_dbc_is_named(
    tmp_path: Path, change: Callable[[str], str], words: list[str]
) -> None:
    (tmp_path / "vehicle.dbc").write_text(DBC)
    with pytest.raises(ProfileError) as caught:
        loaded(tmp_path, change(WITH_DBC))
    for word in [str(tmp_path / "profile.toml"), *words]:
        assert word in str(caught.value)


def test_a_dbc_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "vehicle.dbc").write_text("BO_ hello")
    with pytest.raises(ProfileError, match="is no DBC file"):
        loaded(tmp_path, WITH_DBC)


def test_a_pgn_may_take_its_signals_from_a_dbc(tmp_path: Path) -> None:
    (tmp_path / "vehicle.dbc").write_text(DBC)
    text = WITH_DBC.replace('message = "CCVS"', 'message = "CCVS"\npgn = 65265\nsenders = [0, 0x47]')
    watch = CompiledProfile(loaded(tmp_path, text), "powertrain")
    frame = pack(0x18FEF147, bytes.fromhex("FF 00 64 FF FF FF FF FF"), extended=True)
    (signal,) = watch.feed([frame], BootNs(0))
    assert (signal.kind, signal.value) == (SignalKind.SPEED, 1000)  # 100.0 km/h
