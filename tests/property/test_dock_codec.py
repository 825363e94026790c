"""Any bytes, cut anywhere, give frames or counted errors; and what is written can be read."""

from __future__ import annotations

import itertools
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.docks.reference.codec import (
    MAX_MODEL,
    MAX_PACKET,
    MAX_PAYLOAD,
    MESSAGES,
    Decoder,
    Dropped,
    Frame,
    Ident,
    LocalProtocolError,
    Message,
    Ping,
    Reason,
    Trailer,
    decode,
    encode,
    padded,
)

EXAMPLES = settings(max_examples=200, deadline=None)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    kind = draw(st.sampled_from(list(MESSAGES.values())))
    payload = draw(st.binary(min_size=kind.LAYOUT.size, max_size=kind.LAYOUT.size))
    if kind is Ident:
        payload += draw(st.text(max_size=MAX_MODEL // 4)).encode()
    message = kind.parse(payload)
    assert isinstance(message, Message)
    trailer = None
    if not kind.HANDSHAKE and draw(st.booleans()):
        trailer = Trailer(draw(st.integers(0, 2**32 - 1)), draw(st.binary(min_size=8, max_size=8)))
    return Frame(message, draw(st.integers(0, 255)), draw(st.booleans()), trailer)


@EXAMPLES
@given(frames())
def test_a_frame_survives_the_wire(frame: Frame) -> None:
    packet = encode(frame)
    assert packet.count(0) == 1
    assert len(packet) <= MAX_PACKET + 1
    assert Decoder().feed(packet) == [frame]


NOISE = st.binary(max_size=600)
STREAMS = st.lists(st.one_of(frames().map(encode), NOISE, st.binary(max_size=8).map(lambda b: b + b"\0")))


@EXAMPLES
@given(STREAMS.map(b"".join), st.lists(st.integers(0, 2**16), max_size=20))
def test_how_a_stream_is_cut_changes_nothing(stream: bytes, cuts: list[int]) -> None:
    whole = Decoder().feed(stream)
    pieces = Decoder()
    assert [item for part in split(stream, cuts) for item in pieces.feed(part)] == whole
    bytewise = Decoder()
    assert [item for byte in stream for item in bytewise.feed(bytes((byte,)))] == whole


@EXAMPLES
@given(st.lists(NOISE, max_size=10), frames())
def test_after_any_noise_the_next_frame_but_one_is_read(noise: list[bytes], frame: Frame) -> None:
    decoder = Decoder()
    for part in noise:
        for item in decoder.feed(part):
            assert isinstance(item, Frame | Dropped)
        assert len(decoder._held) <= MAX_PACKET
    decoder.feed(encode(frame))
    assert decoder.feed(encode(frame)) == [frame]


@given(st.integers(MAX_PACKET + 1, 3 * MAX_PACKET), frames())
def test_what_follows_too_long_a_run_is_dropped_up_to_the_next_zero(size: int, frame: Frame) -> None:
    stream = b"\x01" * size + encode(frame)
    assert Decoder().feed(stream) == [Dropped(Reason.LENGTH)]
    decoder = Decoder()
    bytewise = [item for byte in stream for item in decoder.feed(bytes((byte,)))]
    assert bytewise == [Dropped(Reason.LENGTH)]
    assert decoder.feed(encode(frame)) == [frame]


@EXAMPLES
@given(frames(), st.integers(0, 2**16), st.integers(1, 255))
def test_a_changed_byte_is_never_read_as_another_frame(frame: Frame, where: int, flip: int) -> None:
    packet = bytearray(encode(frame))
    packet[where % (len(packet) - 1)] ^= flip
    assert all(isinstance(item, Dropped) for item in Decoder().feed(bytes(packet)))


def test_the_crc_is_ieee_802_3() -> None:
    assert zlib.crc32(b"123456789") == 0xCBF43926


@given(st.binary(max_size=MAX_PAYLOAD + 40))
def test_any_packet_gives_a_frame_or_a_reason(packet: bytes) -> None:
    assert isinstance(decode(packet), Frame | Dropped)


def test_a_field_that_does_not_fit_is_our_own_error() -> None:
    with pytest.raises(LocalProtocolError, match="Ping"):
        Ping(2**32).payload()
    with pytest.raises(LocalProtocolError, match="at most 32"):
        Ident(0, 0, 0, bytes(12), bytes(17), "m" * 33).payload()
    with pytest.raises(LocalProtocolError, match="ASCII"):
        padded("döck", 12)
    with pytest.raises(LocalProtocolError, match="at most 12"):
        padded("a serial too long", 12)
