"""What every registered vehicle profile must be. A new profile is under test by its entry point alone."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from agent.core.types import MS, BootNs, KeyPosition, SignalKind
from drivers.vehicles.codec import ALGORITHMS, Frame, Missing, Profile, Signal, Value
from drivers.vehicles.profile import load
from drivers.vehicles.watch import CompiledProfile

PROFILES: dict[str, Profile] = {entry.name: entry.load()() for entry in entry_points(group="ivma.vehicles")}
PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-vehicle.md").read_text()
EACH = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


def samples(signal: Signal) -> list[Value]:
    """Values over the whole of what a signal can say."""
    if signal.meanings:
        return [value for value, _ in signal.meanings]
    if signal.kind is SignalKind.IGNITION:
        return [KeyPosition.OFF, KeyPosition.ON]
    return [signal.lowest, (signal.lowest + signal.highest) // 2, signal.highest]


def test_the_shipped_profiles_are_registered() -> None:
    assert {"vw-mqb", "j1939", "obd2", "generic"} <= PROFILES.keys()


@EACH
def test_the_page_lists_it(profile: Profile) -> None:
    assert f"| `{profile.name}` |" in PAGE


@EACH
def test_its_name_is_its_entry_point_and_its_sources_are_given(profile: Profile) -> None:
    assert PROFILES[profile.name] is profile
    assert all(len(source) > 10 for source in profile.sources)


@EACH
def test_every_signal_has_a_range_and_its_frame_a_freshness(profile: Profile) -> None:
    for frame in profile.frames:
        assert frame.freshness_ms >= 2 * frame.period_ms
        for signal in frame.signals:
            assert signal.meanings or signal.lowest < signal.highest


@EACH
def test_it_compiles_for_each_of_its_buses(profile: Profile) -> None:
    for bus in {frame.bus for frame in profile.frames}:
        assert CompiledProfile(profile, bus).filters()


@EACH
def test_its_own_frames_are_believed_and_say_what_was_put_in(profile: Profile) -> None:
    for frame in profile.frames:
        for signal in frame.signals:
            for value in samples(signal):
                watch = CompiledProfile(profile, frame.bus)
                got = [
                    (each.kind, each.value)
                    for n in range(2)  # the first of a frame with a counter is only remembered
                    for each in watch.feed([frame.encode({signal.kind: value}, n)], BootNs(n * MS))
                ]
                assert near(signal, dict(got)[signal.kind], value)


def near(signal: Signal, got: Value, put: Value) -> bool:
    """Equal, or within half a step of the frame's resolution (and half a unit of rounding)."""
    if isinstance(put, KeyPosition) or isinstance(got, KeyPosition):
        return got is put
    return abs(got - put) * 2 <= abs(signal.scale) + 1


@EACH
def test_a_frame_of_another_length_is_refused(profile: Profile) -> None:
    for frame in profile.frames:
        watch = CompiledProfile(profile, frame.bus)
        shorter = bytearray(frame.encode({}))
        shorter[4] = frame.length - 1
        assert watch.feed([bytes(shorter)], BootNs(0)) == []
        assert watch.counters.values["wrong_length"] == 1


@EACH
def test_a_frozen_counter_is_refused_where_there_is_one(profile: Profile) -> None:
    for frame in with_counter(profile):
        watch = CompiledProfile(profile, frame.bus)
        values = {signal.kind: samples(signal)[-1] for signal in frame.signals}
        for n in range(10):
            assert watch.feed([frame.encode(values, 5)], BootNs(n * MS)) == []
        assert watch.counters.values["counter"] == 9


def test_the_example_of_the_documentation_is_a_profile(tmp_path: Path) -> None:
    file = tmp_path / "my-vehicle.toml"
    file.write_text(PAGE.split("```toml\n")[1].split("```")[0])
    assert len(load(file).frames) == 2
    for word in [*(kind.value for kind in SignalKind), *ALGORITHMS, *(missing.value for missing in Missing)]:
        assert word in PAGE


def with_counter(profile: Profile) -> list[Frame]:
    return [frame for frame in profile.frames if frame.counter is not None]
