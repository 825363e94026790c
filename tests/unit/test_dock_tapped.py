"""What the black box keeps of a dock's wire: every call and every byte but the key of a PAIR."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.types import BootNs, DriveOutputs, LinkLoss, Observation
from drivers.docks.reference.codec import Challenge, Frame, Lease, Message, Outputs, Pair, Unpair, encode
from drivers.docks.reference.scrub import Scrubber
from drivers.docks.reference.session import ReferenceSession
from drivers.spec import DockSettings
from drivers.tapped import TappedSession, call

SETTINGS = DockSettings("yard", "DK-1", "VIN-1", bytes(range(32)))
Note = tuple[str, int, object]

messages = st.one_of(
    st.builds(Challenge, st.binary(min_size=16, max_size=16)),
    st.builds(Lease, st.integers(0, 2**32 - 1)),
    st.builds(Outputs, st.integers(0, 255), st.integers(0, 255)),
    st.just(Unpair()),
)
keys = st.binary(min_size=32, max_size=32)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    return [*chunks, data]


@given(
    before=st.lists(messages, max_size=3),
    key=keys,
    after=messages,
    sizes=st.lists(st.integers(0, 40), max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_a_pair_is_blanked_however_it_is_cut(
    before: list[Message], key: bytes, after: Message, sizes: list[int]
) -> None:
    first = b"".join(encode(Frame(message, 1)) for message in before)
    pair, last = encode(Frame(Pair(key, bytes(17)), 0)), encode(Frame(after, 2))
    scrub = Scrubber()
    kept = b"".join(scrub(chunk) for chunk in cut(first + pair + last, sizes))
    assert kept == first + pair[:3] + b"\xff" * (len(pair) - 4) + b"\0" + last


@given(seen=st.lists(messages, max_size=6), sizes=st.lists(st.integers(0, 40), max_size=20))
@settings(max_examples=50, deadline=None)
def test_every_other_frame_stays_as_it_was(seen: list[Message], sizes: list[int]) -> None:
    data = b"".join(encode(Frame(message, 7)) for message in seen)
    scrub = Scrubber()
    assert b"".join(scrub(chunk) for chunk in cut(data, sizes)) == data


def session() -> ReferenceSession:
    return ReferenceSession(SETTINGS, random.Random(1).randbytes)


def test_every_call_is_noted_and_can_be_made_again() -> None:
    notes: list[Note] = []
    tapped = TappedSession(session(), lambda *note: notes.append(note), Scrubber)
    seen: list[Observation] = []
    sent = b""

    def take(observations: list[Observation]) -> None:
        nonlocal sent
        seen.extend(observations)
        sent += tapped.outgoing()

    take(tapped.link_up(BootNs(10)))
    take(tapped.feed(b"\x01\x00noise\x00", BootNs(20)))
    tapped.drive(DriveOutputs(latch=True), BootNs(30))
    tapped.cut_power(30, BootNs(40))
    tapped.cut_power(None, BootNs(45))
    tapped.prove(BootNs(50))
    deadline = tapped.next_deadline()
    assert deadline is not None
    take(tapped.timer(deadline))
    take(tapped.link_lost(BootNs(deadline + 1), LinkLoss.UNPLUGGED))
    acts = [act for act, _, _ in notes if act != "out"]
    assert acts == ["up", "in", "drive", "cut", "cut", "prove", "timer", "lost"]
    assert tapped.counters().values["cobs"]
    assert tapped.name == "yard"

    again, seen_again, sent_again = session(), [], b""
    for act, at, what in notes:
        if act != "out":
            plain = {"latch": True} if act == "drive" else what  # as a file gives it back
            seen_again += call(again, act, BootNs(at), plain)
            sent_again += again.outgoing()
    assert (seen_again, sent_again) == (seen, sent)


@pytest.mark.parametrize(
    ("act", "what"), [("jump", None), ("in", None), ("lost", "eaten"), ("drive", {"latch": 3})]
)
def test_a_call_that_there_is_not_is_refused(act: str, what: object) -> None:
    with pytest.raises(ValueError, match=r"session has no call|eaten|latch"):
        call(session(), act, BootNs(0), what)
