"""The dock's line in memory: what each knob does to bytes, and what is at the other end."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from agent.core.types import MS, SECOND, BootNs
from simulator.faults.knobs import Behind
from simulator.virtual.agenda import Agenda
from simulator.virtual.dockwire import DockWire
from simulator.virtual.events import Events

BYTE_NS = 10 * SECOND // 115_200


class Device:
    """Says what it is given, and keeps what it hears."""

    def __init__(self) -> None:
        self.out = b""
        self.heard: list[bytes] = []

    def feed(self, data: bytes, at: BootNs) -> None:
        self.heard.append(data)

    def timer(self, at: BootNs) -> None:
        pass

    def next_deadline(self) -> BootNs | None:
        return None

    def next_actuation(self) -> BootNs | None:
        return None

    def outgoing(self) -> bytes:
        data, self.out = self.out, b""
        return data


class Port:
    def __init__(self, agenda: Agenda) -> None:
        self.agenda = agenda
        self.got: list[tuple[int, bytes]] = []
        self.losses = 0
        self.changes = 0

    def readable(self, data: bytes) -> None:
        self.got.append((self.agenda.now, data))

    def lost(self) -> None:
        self.losses += 1

    def changed(self) -> None:
        self.changes += 1

    @property
    def bytes(self) -> bytes:
        return b"".join(data for _, data in self.got)


class Bed:
    def __init__(self) -> None:
        self.agenda = Agenda()
        self.own, self.foreign = Device(), Device()
        self.carried: list[tuple[bool, bytes]] = []
        self.wire = DockWire(
            self.agenda,
            random.Random(1),
            self.own,
            self.foreign,
            Events(),
            lambda to_tablet, data: self.carried.append((to_tablet, data)),
            115_200,
        )
        self.port = Port(self.agenda)
        assert self.wire.open(self.port)

    def say(self, data: bytes) -> None:
        self.own.out = data
        self.wire.own.kick()

    def run(self, ns: int) -> None:
        self.agenda.run_until(BootNs(self.agenda.now + ns))


@pytest.fixture
def bed() -> Bed:
    return Bed()


def test_bytes_take_their_time_on_the_line_both_ways(bed: Bed) -> None:
    bed.say(b"status")
    bed.wire.write(bed.port, b"lease")
    bed.run(SECOND)
    assert bed.port.got == [(6 * BYTE_NS, b"status")]
    assert bed.own.heard == [b"lease"]
    assert bed.carried == [(True, b"status"), (False, b"lease")]
    assert bed.wire.carried == [5, 6]


def test_a_line_carries_one_byte_at_a_time(bed: Bed) -> None:
    bed.say(b"first")
    bed.say(b"second")
    bed.run(SECOND)
    assert bed.port.got == [(5 * BYTE_NS, b"first"), (11 * BYTE_NS, b"second")]


def test_late_bytes_stay_in_order_when_the_delay_ends(bed: Bed) -> None:
    bed.wire.delay_ns = 50 * MS
    bed.say(b"late")
    bed.wire.delay_ns = 0
    bed.say(b"prompt")
    bed.run(SECOND)
    assert [data for _, data in bed.port.got] == [b"late", b"prompt"]
    assert bed.port.got[0][0] > 50 * MS


def test_split_makes_a_wake_up_of_each_piece(bed: Bed) -> None:
    bed.wire.split_bytes = 3
    bed.say(b"eightbyt")
    bed.run(SECOND)
    assert [data for _, data in bed.port.got] == [b"eig", b"htb", b"yt"]


def test_merge_makes_one_wake_up_of_what_came_within_its_time(bed: Bed) -> None:
    bed.wire.merge_ns = 20 * MS
    bed.say(b"one ")
    bed.run(5 * MS)
    bed.say(b"two ")
    bed.run(18 * MS)
    bed.say(b"three")
    bed.wire.merge_ns = 0
    bed.run(SECOND)
    assert [data for _, data in bed.port.got] == [b"one two ", b"three"]
    assert bed.port.got[0][0] == 20 * MS


def test_loss_and_flips_change_bytes(bed: Bed) -> None:
    bed.wire.lose_permille, bed.wire.flip_permille = 100, 100
    bed.say(bytes(1000))
    bed.run(SECOND)
    assert 850 < len(bed.port.bytes) < 950
    assert 50 < sum(byte != 0 for byte in bed.port.bytes) < 150


def test_duplicates_and_replays_come_after_what_was_said(bed: Bed) -> None:
    bed.wire.duplicate_permille = 1000
    bed.say(b"twice ")
    bed.wire.duplicate_permille = 0
    bed.wire.replay_permille = 1000
    bed.say(b"once ")
    bed.wire.replay_permille = 0
    bed.run(SECOND)
    assert bed.port.bytes in (b"twice twice once once ", b"twice twice once twice ")


def test_a_pulled_plug_loses_what_was_on_its_way(bed: Bed) -> None:
    bed.say(b"never read")
    bed.wire.plug(Behind.NOTHING)
    bed.run(SECOND)
    assert bed.port.got == []
    assert (bed.port.losses, bed.port.changes) == (1, 0)
    assert not bed.wire.open(bed.port)
    bed.wire.plug(None)
    assert bed.wire.open(bed.port)


def test_a_plug_may_be_pulled_within_a_frame(bed: Bed) -> None:
    bed.wire.plug(Behind.NOTHING, after_bytes=8)
    bed.say(b"five ")
    bed.say(b"five ")
    bed.run(SECOND)
    assert bed.port.bytes == b"five fiv"
    assert bed.port.losses == 1


def test_a_waiting_pull_is_taken_back_by_another_call(bed: Bed) -> None:
    bed.wire.plug(Behind.NOTHING, after_bytes=8)
    bed.wire.plug(None)
    bed.say(b"all of it arrives")
    bed.run(SECOND)
    assert bed.port.bytes == b"all of it arrives"
    assert bed.port.losses == 0


def test_a_replayer_plays_what_the_paired_dock_said(bed: Bed) -> None:
    for word in (b"one ", b"two "):
        bed.say(word)
        bed.run(200 * MS)
    bed.wire.plug(Behind.REPLAYER)
    assert (bed.port.losses, bed.port.changes) == (1, 1)
    bed.port.got.clear()
    bed.wire.open(bed.port)
    bed.run(500 * MS)
    assert bed.port.bytes == b"one two one "


def test_a_fault_lies_over_the_life_and_undoes_none_of_it(bed: Bed) -> None:
    wire, seen = bed.wire, []
    changes: list[Callable[[], None]] = [
        lambda: wire.plug(Behind.FOREIGN),
        lambda: wire.dock(None),
        lambda: wire.plug(None),
        lambda: wire.dock(wire.own),
    ]
    for change in changes:
        change()
        seen.append(wire.behind)
    assert seen == [wire.foreign, wire.foreign, None, wire.own]


def test_a_sleeping_tablet_hears_nothing(bed: Bed) -> None:
    bed.wire.sleep(True)
    bed.say(b"unheard")
    bed.run(SECOND)
    bed.wire.sleep(False)
    bed.say(b"heard")
    bed.run(SECOND)
    assert bed.port.bytes == b"heard"


def test_a_dock_without_power_is_dumb(bed: Bed) -> None:
    bed.wire.own.dark = True
    bed.say(b"nothing")
    bed.wire.write(bed.port, b"lease")
    bed.run(SECOND)
    assert bed.port.got == []
    assert bed.own.heard == []
