"""Whatever comes over a bus: no exception, no value out of its range, no foreign frame believed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.types import MS, BootNs, KeyPosition, SignalKind
from drivers.vehicles import j1939, vw_mqb
from drivers.vehicles.codec import Frame, Profile, pack
from drivers.vehicles.watch import CompiledProfile

PROFILES = [vw_mqb(), j1939()]
OUR_WORDS = [
    int.from_bytes(frame.encode({})[:4], "little") for profile in PROFILES for frame in profile.frames
]

words = st.one_of(st.sampled_from(OUR_WORDS), st.integers(0, (1 << 32) - 1))
frames = st.one_of(
    st.binary(max_size=20),
    st.builds(
        lambda word, length, data: word.to_bytes(4, "little") + bytes([length, 0, 0, 0]) + data,
        words,
        st.integers(0, 255),
        st.binary(min_size=8, max_size=8),
    ),
)


@settings(max_examples=300)
@given(st.sampled_from(PROFILES), st.lists(st.tuples(frames, st.integers(0, 3_000)), max_size=60))
def test_any_frames_give_values_in_range_or_counts(profile: Profile, batch: list[tuple[bytes, int]]) -> None:
    watch = CompiledProfile(profile, "powertrain")
    ranges = {s.kind: (s.lowest, s.highest) for frame in profile.frames for s in frame.signals}
    at = 0
    for frame, gap_ms in batch:
        at += gap_ms * MS
        for signal in watch.feed([frame], BootNs(at)):
            assert signal.at == at
            if signal.kind is SignalKind.IGNITION:
                assert isinstance(signal.value, KeyPosition)
            else:
                lowest, highest = ranges[signal.kind]
                assert type(signal.value) is int
                assert lowest <= signal.value <= highest
    assert watch.counters.values.get("frames", 0) == len(batch)


def klemmen() -> Frame:
    return PROFILES[0].frames[0]


@settings(max_examples=300)
@given(st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 200)), max_size=100))
def test_frames_of_4_random_bytes_with_the_terminals_id_are_believed_only_if_checksum_and_counter_are_right(
    foreign: list[tuple[bytes, int]],
) -> None:
    watch, at, before = CompiledProfile(PROFILES[0], "powertrain"), 0, None
    checksum = klemmen().checksum
    assert checksum is not None
    for data, gap_ms in foreign:
        at += gap_ms * MS
        right = checksum.expected(data) == data[0]
        count = data[1] & 0xF
        advanced = right and before is not None and 1 <= (count - before) % 16 <= 3
        signals = watch.feed([pack(0x3C0, data, extended=False)], BootNs(at))
        assert not signals or advanced
        if right:
            before = count


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(list(KeyPosition)), min_size=1, max_size=40),
    st.lists(st.binary(min_size=5, max_size=8), min_size=1, max_size=10),
)
def test_foreign_frames_between_ours_change_nothing(turns: list[KeyPosition], foreign: list[bytes]) -> None:
    """Of another length, as the BMW's: whatever they carry, our own frames say what they would alone."""
    alone, among = (CompiledProfile(PROFILES[0], "powertrain") for _ in range(2))
    for n, position in enumerate(turns):
        ours, at = klemmen().encode({SignalKind.IGNITION: position}, n), BootNs(n * 100 * MS)
        theirs = [pack(0x3C0, data, extended=False) for data in foreign]
        assert alone.feed([ours], at) == among.feed([*theirs, ours], at)


@settings(max_examples=200)
@given(st.lists(st.binary(min_size=16, max_size=16), max_size=40), st.integers(1, 40))
def test_how_frames_are_batched_changes_no_switch(batch: list[bytes], size: int) -> None:
    """One by one or in batches at the same times: the same key positions in the same order."""
    mixed = [
        frame if n % 2 else klemmen().encode({SignalKind.IGNITION: list(KeyPosition)[frame[0] % 4]}, n // 2)
        for n, frame in enumerate(batch)
    ]
    single, batched = (CompiledProfile(PROFILES[0], "powertrain") for _ in range(2))
    one = [
        s.value for frame in mixed for s in single.feed([frame], BootNs(0)) if s.kind is SignalKind.IGNITION
    ]
    many = [
        s.value
        for start in range(0, len(mixed), size)
        for s in batched.feed(mixed[start : start + size], BootNs(0))
        if s.kind is SignalKind.IGNITION
    ]
    assert one == many
