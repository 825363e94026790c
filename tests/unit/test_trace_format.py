"""The black box's format: everything fits in, comes back the same, damage costs no more than its chunk."""

from __future__ import annotations

import dataclasses
import enum
import struct
import types as python_types
import typing
import zlib
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import trace_format
from agent.core import types
from agent.core.catalogue import LOCAL_ACCESS
from agent.core.records import Record
from agent.core.types import BootNs, CanSignal, Effect, KeyPosition, SignalKind, Write
from agent.trace_format import Damage, Entry, Gap, Step, Wire, pack, read

EFFECTS = [
    each
    for each in vars(types).values()
    if isinstance(each, type) and issubclass(each, Effect) and each is not Effect
]
COMPRESS = zstandard.ZstdCompressor().compress


def sample(kind: Any) -> Any:
    """A value of a type, made from its hints."""
    if kind is Record:
        return LOCAL_ACCESS.make(7, uid=1, verb="events")
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, python_types.UnionType):
        return sample(inner[0])
    if origin is tuple:
        return () if ... in inner else tuple(sample(each) for each in inner)
    if isinstance(kind, typing.NewType):
        return sample(kind.__supertype__)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{each.name: sample(hints[each.name]) for each in dataclasses.fields(kind)})  # type: ignore[operator]
    if issubclass(kind, enum.Flag):
        return ~kind(0)
    if issubclass(kind, enum.Enum):
        return list(kind)[-1]
    return kind(1) if kind is not str else "text"


def chunk(*entries: Entry) -> bytes:
    return pack(entries, COMPRESS)[0]


def wires(*numbers: int) -> bytes:
    return chunk(*(Wire("dock", "in", number, bytes(number)) for number in numbers))


def numbers(raw: bytes) -> list[int]:
    return [entry.at for entry in read(raw) if isinstance(entry, Wire)]


@pytest.mark.parametrize("kind", trace_format.OBSERVATIONS.values(), ids=lambda kind: kind.__name__)
def test_every_observation_comes_back_as_it_was(kind: type[types.Observation]) -> None:
    seen = sample(kind)
    (entry,) = read(chunk(trace_format.step_entry(seen, ())))
    assert isinstance(entry, Step)
    assert trace_format.observation(entry) == seen
    assert trace_format.time_of(entry) == seen.at


@pytest.mark.parametrize("value", [True, 812, KeyPosition.START])
def test_a_signal_keeps_the_type_of_its_value(value: int | bool | KeyPosition) -> None:
    seen = CanSignal(BootNs(1), "bus", SignalKind.READY, value)
    (entry,) = read(chunk(trace_format.step_entry(seen, ())))
    assert isinstance(entry, Step)
    back = trace_format.observation(entry)
    assert isinstance(back, CanSignal)
    assert (type(back.value), back.value) == (type(value), value)


@pytest.mark.parametrize("kind", EFFECTS, ids=lambda kind: kind.__name__)
def test_every_effect_is_held_by_the_names_of_its_fields(kind: type[Effect]) -> None:
    effect = sample(kind)
    (entry,) = read(chunk(trace_format.step_entry(types.DeadlineReached(BootNs(1)), (effect,))))
    assert isinstance(entry, Step)
    ((name, fields),) = entry.effects
    assert name == kind.__name__
    expected = (
        {"kind", "version", "at", "fields"}
        if kind is Write
        else {field.name for field in dataclasses.fields(kind)}
    )
    assert fields.keys() == expected


@given(raw=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_can_be_read(raw: bytes) -> None:
    found = list(read(raw))
    assert sum(each.size for each in found if isinstance(each, Damage)) == len(raw)


@given(
    cut=st.integers(0, 400), put=st.binary(max_size=40), drop=st.integers(0, 40),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_damage_costs_the_chunks_that_it_touches(cut: int, put: bytes, drop: int) -> None:
    chunks = [wires(1, 2), wires(3), wires(4, 5), wires(6)]
    raw = b"".join(chunks)
    cut = min(cut, len(raw))
    hurt = raw[:cut] + put + raw[cut + drop :]
    untouched, at = [], 0
    for number, each in enumerate(chunks):
        if at + len(each) <= cut or at >= cut + drop:
            untouched += [[1, 2], [3], [4, 5], [6]][number]
        at += len(each)
    found = numbers(hurt)
    assert [each for each in found if each in untouched] == untouched
    assert set(found) <= {1, 2, 3, 4, 5, 6}


def test_a_torn_end_leaves_all_that_is_whole() -> None:
    whole, torn = wires(1, 2), wires(3)
    for size in range(1, len(torn)):
        found = list(read(whole + torn[:size]))
        assert numbers(whole + torn[:size]) == [1, 2]
        assert isinstance(found[-1], Damage)
        assert found[-1].offset == len(whole)


def damaged(raw: bytes) -> str:
    (only,) = read(raw)
    assert isinstance(only, Damage)
    return only.problem


def framed(body: bytes, version: int = trace_format.FORMAT) -> bytes:
    return struct.pack("<4sII", b"IVT" + bytes([version]), len(body), zlib.crc32(body)) + body


def test_what_is_wrong_is_said() -> None:
    assert "format 2; this version reads format 1" in damaged(framed(b"", version=2))
    assert "not understood" in damaged(framed(b"no zstd"))
    assert "not understood" in damaged(framed(COMPRESS(b"\x91\x92\xa5other\x01")))
    assert "not understood" in damaged(framed(COMPRESS(b"\x91" * 5000)))
    assert "when decompressed" in damaged(framed(COMPRESS(bytes(trace_format.PLAIN_MAX + 1))))
    assert "at most" in damaged(framed(bytes(trace_format.BODY_MAX + 1)))
    assert "checksum" in damaged(wires(1)[:-1] + b"?")


def test_entries_that_another_version_wrote_are_refused_by_name() -> None:
    with pytest.raises(trace_format.TraceError, match="'Weather'"):
        trace_format.observation(Step("Weather", {"at": 1}, []))
    with pytest.raises(trace_format.TraceError, match=r"DockLinkUp.*dock"):
        trace_format.observation(Step("DockLinkUp", {"at": 1}, []))


@pytest.mark.parametrize("detail", ["no UTF-8: \udcff", 2**64])
def test_what_nothing_can_hold_becomes_a_gap(detail: Any) -> None:
    seen = types.StoreHealth(BootNs(1), True, detail)
    raw, bad = pack([Gap(5), (seen, ()), Gap(6)], COMPRESS)
    assert bad == 1
    assert list(read(raw)) == [Gap(5), Gap(1), Gap(6)]


def test_a_gap_says_how_much_is_missing() -> None:
    assert list(read(chunk(Gap(17)))) == [Gap(17)]
