"""Whatever happens to frames on the way, nothing is believed without the key, and the link recovers."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.types import MS, SECOND, BootNs, DockForeign, DockProof, DockStatus, Observation
from drivers.docks.reference.codec import Frame, Message, Proof, Status, StatusBit, encode
from drivers.docks.reference.session import ReferenceSession
from drivers.spec import DockSettings
from tests.dock_rig import KEY, LATENCY_NS, SERIAL, VEHICLE_ID, Rig, clean

EXAMPLES = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
# How often, in percent, a packet is lost, doubled, late, damaged, or replaced by an old one.
RATES = st.fixed_dictionaries(
    {name: st.integers(0, 60) for name in ("lose", "double", "delay", "flip", "replay")}
)


class Trouble:
    """Faults from one seed, below the codec: on packets as bytes."""

    def __init__(self, seed: int, rates: dict[str, int]) -> None:
        self._dice = random.Random(seed)
        self._rates = rates
        self._old: list[bytes] = []

    def __call__(self, packet: bytes, to_dock: bool) -> list[tuple[int, bytes]]:
        self._old = [*self._old[-200:], packet]
        copies = [packet] * (0 if self._happens("lose") else 1)
        if self._happens("double"):
            copies.append(packet)
        if self._happens("replay"):
            copies.append(self._dice.choice(self._old))
        return [(LATENCY_NS + self._delay(), self._damaged(copy)) for copy in copies]

    def _happens(self, name: str) -> bool:
        return self._dice.randrange(100) < self._rates[name]

    def _delay(self) -> int:
        return self._dice.randrange(600 * MS) if self._happens("delay") else 0

    def _damaged(self, packet: bytes) -> bytes:
        if not self._happens("flip"):
            return packet
        damaged = bytearray(packet)
        damaged[self._dice.randrange(len(damaged))] ^= 1 << self._dice.randrange(8)
        return bytes(damaged[: self._dice.randrange(len(damaged)) + 1])


def run_watching_age(rig: Rig, ns: int) -> None:
    """Run, and check that no authenticated STATUS is younger than the last one that the dock sent."""
    rig.run(ns)
    for status in rig.authenticated():
        assert status.evidence_at <= status.at - LATENCY_NS


@EXAMPLES
@given(SEEDS, RATES)
def test_the_link_converges_when_faults_stop(seed: int, rates: dict[str, int]) -> None:
    rig = Rig(seed=seed, fault=Trouble(seed, rates))
    run_watching_age(rig, 20 * SECOND)
    rig.fault = clean
    rig.run(8 * SECOND)
    fresh = [status for status in rig.authenticated() if status.at > rig.at - SECOND]
    assert fresh
    assert max(status.at - status.evidence_at for status in fresh) <= 500 * MS
    # Damaged proofs may look like another key while it lasts, and must not once it is over.
    assert all(foreign.at < rig.at - 6 * SECOND for foreign in rig.of(DockForeign))


@EXAMPLES
@given(SEEDS, RATES)
def test_a_dock_without_the_key_is_never_believed(seed: int, rates: dict[str, int]) -> None:
    rig = Rig(dock_key=bytes(32), seed=seed, fault=Trouble(seed, rates))
    rig.run(20 * SECOND)
    assert rig.of(DockProof) == []
    assert rig.authenticated() == []


@EXAMPLES
@given(SEEDS, RATES, st.integers(0, 8))
def test_unseated_is_never_seen_as_seated_later_than_it_could_be(
    seed: int, rates: dict[str, int], seconds: int
) -> None:
    """Frames held back or replayed carry the old word, but with evidence from before the change."""
    rig = Rig(seed=seed, fault=Trouble(seed, rates))
    rig.run(seconds * SECOND)
    rig.dock.set_inputs(rig.at, seated=False)
    unseated = rig.at
    rig.run(10 * SECOND)
    for status in rig.authenticated():
        if status.seated:
            assert status.evidence_at <= unseated


class Attacker:
    """Sits on the wire without the key: records, drops, delays, replays, reflects, forges."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._records: list[bytes] = []

    def __call__(self, packet: bytes, to_dock: bool) -> list[tuple[int, bytes]]:
        self._records.append(packet)
        out = [(self._dice.choice((LATENCY_NS, LATENCY_NS, SECOND)), packet)]
        match self._dice.randrange(6):
            case 0:
                out = []
            case 1:
                out += [(self._dice.randrange(SECOND), self._dice.choice(self._records)) for _ in range(3)]
            case 2:
                out.append((LATENCY_NS, self._forged()))
        return out

    def _forged(self) -> bytes:
        seated = StatusBit.SEATED
        messages: list[Message] = [
            Status(0, 0, seated, seated, 0, 0, 0, 0, 0),
            Proof(0, self._dice.randbytes(8), self._dice.randbytes(16)),
        ]
        return encode(Frame(self._dice.choice(messages), self._dice.randrange(256)))


@EXAMPLES
@given(SEEDS)
def test_an_attacker_without_the_key_gains_nothing_from_an_absent_dock(seed: int) -> None:
    """After recording a session it plays alone to a tablet that has been started anew."""
    recorded = Rig(seed=seed)
    recorded.run(35 * SECOND)
    packets = recorded.packets(to_dock=False)
    dice = random.Random(seed)
    tablet = ReferenceSession(
        DockSettings("dock", SERIAL, VEHICLE_ID, KEY), random.Random(seed + 1).randbytes
    )
    seen: list[Observation] = tablet.link_up(recorded.at)
    for step in range(300):
        seen += tablet.feed(dice.choice(packets), BootNs(recorded.at + step * 10 * MS))
    assert not [each for each in seen if isinstance(each, DockProof)]
    assert not [each for each in seen if isinstance(each, DockStatus) and each.authenticated]


@EXAMPLES
@given(SEEDS)
def test_an_attacker_on_a_live_link_cannot_make_evidence_younger(seed: int) -> None:
    rig = Rig(seed=seed)
    rig.fault = Attacker(seed)
    rig.run(5 * SECOND)
    rig.dock.set_inputs(rig.at, seated=False)
    unseated = rig.at
    rig.run(15 * SECOND)
    assert all(status.evidence_at <= unseated for status in rig.authenticated() if status.seated)


@EXAMPLES
@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 2 * SECOND)), max_size=30))
def test_any_bytes_at_any_time_leave_a_session_that_works(noise: list[tuple[bytes, int]]) -> None:
    rig = Rig()
    for data, pause in noise:
        rig.deliver(data, to_dock=False)
        rig.deliver(data, to_dock=True)
        rig.run(pause)
    rig.run(5 * SECOND)
    assert rig.authenticated()[-1].at > rig.at - SECOND
