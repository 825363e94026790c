"""Attackers of the deterministic world do what they say, and nothing that would need the key."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from agent.core.types import MS, SECOND, BootNs, DockForeign, DockProof, DockStatus, ForeignReason
from drivers.docks.reference.codec import (
    Ack,
    Challenge,
    Decoder,
    Dropped,
    Frame,
    Hello,
    Ident,
    Ping,
    Proof,
    Reason,
    Status,
    encode,
    padded,
)
from drivers.docks.reference.session import ReferenceSession
from drivers.spec import DockSettings
from simulator.docks.reference import Identity, ReferenceDock
from simulator.faults.knobs import Behind
from simulator.virtual.agenda import Agenda
from simulator.virtual.dockwire import Device, DockWire
from simulator.virtual.events import Events
from simulator.virtual.impostors import Forger, Reflector
from simulator.virtual.tamper import stuffed, unstuffed, with_turned_bits, with_version
from tests.dock_rig import KEY, SERIAL, VEHICLE_ID

AT = BootNs(0)
FRAMES = encode(Frame(Ping(7), 1)) + encode(Frame(Challenge(bytes(16)), 2))


def read(data: bytes) -> list[Frame | Dropped]:
    return Decoder().feed(data)


def test_a_frame_of_another_version_is_whole_but_for_that() -> None:
    items = read(with_version(FRAMES, 2))
    assert [item.reason for item in items if isinstance(item, Dropped)] == [Reason.VERSION] * 2
    assert with_version(FRAMES, 1) == FRAMES


def test_turned_bits_leave_a_right_crc() -> None:
    dice = random.Random(1)
    for _ in range(200):
        for item in read(with_turned_bits(FRAMES, dice)):
            assert not isinstance(item, Dropped) or item.reason is Reason.LENGTH
    assert with_turned_bits(FRAMES, dice) != FRAMES


@pytest.mark.parametrize("data", [b"", b"\0", b"\x05\x01\0", b"noise", b"\x02\x01\0\0\0"])
def test_what_is_no_frame_is_left_as_it_is(data: bytes) -> None:
    assert with_version(data, 9) == data


def test_cobs_on_and_off() -> None:
    dice = random.Random(1)
    for size in range(1, 200):
        whole = dice.randbytes(size).replace(b"\x07", b"\0")
        assert 0 not in stuffed(whole)
        assert unstuffed(stuffed(whole)) == whole


def test_a_reflector_says_what_it_heard() -> None:
    reflector = Reflector()
    reflector.feed(b"abc", AT)
    assert (reflector.outgoing(), reflector.outgoing()) == (b"abc", b"")


def test_a_forger_speaks_under_the_paired_dock_s_name() -> None:
    forger = Forger(padded(SERIAL, 12), padded(VEHICLE_ID, 17), random.Random(1), AT)
    forger.feed(encode(Frame(Hello(1, 1, bytes(8)), 1)) + FRAMES, AT)
    forger.timer(AT)
    said = [item.message for item in read(forger.outgoing()) if isinstance(item, Frame)]
    [ident] = [message for message in said if isinstance(message, Ident)]
    assert (ident.dock_serial, ident.vehicle_id) == (padded(SERIAL, 12), padded(VEHICLE_ID, 17))
    assert {type(message) for message in said} >= {Ident, Proof, Ack, Status}


class Tablet:
    """The production session on a wire of the world."""

    def __init__(self) -> None:
        self.agenda = Agenda()
        dice = random.Random(1)
        own, twin = Identity.of(SERIAL, VEHICLE_ID, KEY), Identity.of(SERIAL, VEHICLE_ID, bytes(32))
        foreign = ReferenceDock(Identity.of("DK-OTHER", "V", bytes(32)), dice.randbytes, AT)
        makers: dict[Behind, Callable[[BootNs], Device]] = {
            Behind.TWIN: lambda at: ReferenceDock(twin, dice.randbytes, at),
            Behind.FORGER: lambda at: Forger(own.serial, own.vehicle_id, dice, at),
        }
        dock: Device = ReferenceDock(own, dice.randbytes, AT)
        self.wire = DockWire(
            self.agenda, dice, dock, foreign, Events(), lambda _to_tablet, _data: None, 115_200, makers
        )
        self.session = ReferenceSession(DockSettings("dock", SERIAL, VEHICLE_ID, KEY), dice.randbytes)
        self.seen: list[object] = []
        self.changed()
        self._tick()

    def readable(self, data: bytes) -> None:
        self.seen += self.session.feed(data, self.agenda.now)
        self._send()

    def lost(self) -> None:
        """The link's loss is told by ``changed``, which opens it again."""

    def changed(self) -> None:
        self.wire.open(self)
        self.seen += self.session.link_up(self.agenda.now)
        self._send()

    def run(self, ns: int) -> None:
        self.agenda.run_until(BootNs(self.agenda.now + ns))

    def authenticated(self, since: int) -> list[DockStatus]:
        statuses = [each for each in self.seen if isinstance(each, DockStatus) and each.authenticated]
        return [status for status in statuses if status.at > since]

    def _send(self) -> None:
        self.wire.write(self, self.session.outgoing())

    def _tick(self) -> None:
        self.seen += self.session.timer(self.agenda.now)
        self._send()
        self.agenda.after(10 * MS, self._tick)


@pytest.mark.parametrize("behind", [Behind.TWIN, Behind.FORGER, Behind.REFLECTOR, Behind.REPLAYER])
def test_nobody_in_the_dock_s_place_is_believed(behind: Behind) -> None:
    tablet = Tablet()
    tablet.run(5 * SECOND)
    assert tablet.authenticated(0)
    tablet.wire.plug(behind)
    plugged, proofs = tablet.agenda.now, len([each for each in tablet.seen if isinstance(each, DockProof)])
    tablet.run(20 * SECOND)
    assert tablet.authenticated(plugged) == []
    assert len([each for each in tablet.seen if isinstance(each, DockProof)]) == proofs
    foreign = [each.reason for each in tablet.seen if isinstance(each, DockForeign)]
    strangers = behind is not Behind.REFLECTOR  # a recording answers, too: with macs of other challenges
    assert set(foreign) == ({ForeignReason.BAD_MAC} if strangers else set())
    tablet.wire.plug(None)
    tablet.run(5 * SECOND)
    assert tablet.authenticated(tablet.agenda.now - SECOND)


def test_a_bystander_is_heard_and_changes_nothing() -> None:
    tablet = Tablet()
    tablet.run(5 * SECOND)
    tablet.wire.bystander = True
    came = tablet.agenda.now
    tablet.run(40 * SECOND)
    hints = [each for each in tablet.seen if isinstance(each, DockStatus) and not each.authenticated]
    assert len([hint for hint in hints if hint.at > came]) > 30
    assert [each for each in tablet.seen if isinstance(each, DockForeign)] == []
    assert tablet.authenticated(tablet.agenda.now - SECOND)
    tablet.wire.bystander = False
    quiet = tablet.agenda.now + SECOND
    tablet.run(10 * SECOND)
    hints = [each for each in tablet.seen if isinstance(each, DockStatus) and not each.authenticated]
    assert [hint for hint in hints if hint.at > quiet] == []


@pytest.mark.parametrize("knob", ["version", "change_permille"])
def test_frames_that_somebody_meddles_with_count_for_nothing(knob: str) -> None:
    tablet = Tablet()
    tablet.run(5 * SECOND)
    setattr(tablet.wire, knob, {"version": 2, "change_permille": 1000}[knob])
    began = tablet.agenda.now
    tablet.run(20 * SECOND)
    assert tablet.authenticated(began + 100 * MS) == []
    setattr(tablet.wire, knob, {"version": None, "change_permille": 0}[knob])
    tablet.run(5 * SECOND)
    assert tablet.authenticated(tablet.agenda.now - SECOND)
