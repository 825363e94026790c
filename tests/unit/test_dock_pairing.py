"""Setting and clearing a key over the reference link, in virtual time: losses, forgeries, other keys."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from agent.core.types import MS, BootNs, DockIdent, PairAnswer
from drivers.docks.reference.codec import (
    Ack,
    Decoder,
    Frame,
    Ident,
    Message,
    Nak,
    NakReason,
    Pair,
    Proof,
    Unpair,
    encode,
)
from drivers.docks.reference.pairing import ReferencePairing
from drivers.docks.reference.session import ReferenceSession
from drivers.spec import DockSettings
from simulator.docks.reference import Identity, PairFault, ReferenceDock
from tests.firmware_rig import FirmwareDock, needs_gcc

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
SERIAL, VEHICLE = "DK-000042", "WV1ZZZ7HZNH000042"
STEP_NS = 5 * MS
Passes = Callable[[Message, bool], bool]  # a message, and whether it goes to the dock


class Bench:
    """A pairing and a dock on one wire; ``passes`` drops messages."""

    def __init__(self, key: bytes | None = None, vehicle: str = VEHICLE) -> None:
        dice = random.Random(1)
        self.at = BootNs(0)
        self.dock = ReferenceDock(Identity.of(SERIAL, vehicle, key), dice.randbytes, self.at)
        self.answers: list[PairAnswer | DockIdent] = []
        self.talk = ReferencePairing(dice.randbytes, self.answers.append)
        self.passes: Passes = lambda _message, _to_dock: True
        self.sent: list[Message] = []
        self.talk.link_up(self.at)

    def answer(self) -> PairAnswer | DockIdent:
        """Let time pass until the question is answered."""
        self.answers.clear()
        while not self.answers:
            self.at = BootNs(self.at + STEP_NS)
            assert self.at < 60_000 * MS
            self.dock.timer(self.at)
            self.talk.timer(self.at)
            self.carry()
        (answer,) = self.answers
        assert self.talk.next_deadline() is None
        return answer

    def carry(self) -> None:
        for data, to_dock in ((self.talk.outgoing(), True), (self.dock.outgoing(), False)):
            for packet in data.split(b"\0")[:-1]:
                (item,) = Decoder().feed(packet + b"\0")
                assert isinstance(item, Frame)
                self.sent += [item.message] if to_dock else []
                if self.passes(item.message, to_dock):
                    (self.dock if to_dock else self.talk).feed(packet + b"\0", self.at)

    def pair(self, key: bytes = KEY) -> PairAnswer | DockIdent:
        self.talk.ask_pair(key, VEHICLE, self.at)
        return self.answer()

    def prove(self, key: bytes = KEY, serial: str = SERIAL, vehicle: str = VEHICLE) -> PairAnswer | DockIdent:
        self.talk.ask_proof(key, serial, vehicle, self.at)
        return self.answer()

    def unpair(self) -> PairAnswer | DockIdent:
        self.talk.ask_unpair(self.at)
        return self.answer()


def dropping(kind: type[Message], times: int, *, to_dock: bool) -> Passes:
    left = [times]

    def passes(message: Message, towards: bool) -> bool:
        if isinstance(message, kind) and towards is to_dock and left[0]:
            left[0] -= 1
            return False
        return True

    return passes


def test_a_fresh_dock_says_who_it_is_takes_a_key_and_proves_it() -> None:
    bench = Bench(vehicle="")
    bench.talk.ask_ident(bench.at)
    ident = bench.answer()
    assert isinstance(ident, DockIdent)
    assert (ident.serial, ident.vehicle_id) == (SERIAL, "")
    assert bench.prove() is PairAnswer.UNPAIRED
    assert bench.pair() is PairAnswer.DONE
    assert bench.prove() is PairAnswer.DONE
    assert bench.prove(OTHER) is PairAnswer.OTHER_KEY
    assert bench.prove(vehicle="WV1ZZZ7HZNH000043") is PairAnswer.OTHER_KEY
    assert bench.prove(serial="DK-000043") is PairAnswer.OTHER_KEY


@pytest.mark.parametrize(("kind", "to_dock"), [(Pair, True), (Ack, False)])
def test_what_is_lost_is_sent_again_and_executed_once(kind: type[Message], to_dock: bool) -> None:
    bench = Bench()
    bench.passes = dropping(kind, 2, to_dock=to_dock)
    bench.dock.service_contact = True  # else a dock that took the first refuses the second
    assert bench.pair() is PairAnswer.DONE
    assert sum(isinstance(message, Pair) for message in bench.sent) == 3
    assert sum(isinstance(message, Pair) for message in bench.dock.executed) == 1
    assert bench.prove() is PairAnswer.DONE


def test_a_dock_that_took_the_key_unheard_refuses_the_second_and_still_proves() -> None:
    bench = Bench()
    bench.dock.pair_fault = PairFault.AFTER_STORING
    assert bench.pair() is PairAnswer.REFUSED
    assert bench.prove() is PairAnswer.DONE


def test_a_dock_that_lost_its_supply_before_storing_takes_the_second() -> None:
    bench = Bench()
    bench.dock.pair_fault = PairFault.BEFORE_STORING
    assert bench.pair() is PairAnswer.DONE
    assert bench.prove() is PairAnswer.DONE


def test_a_paired_dock_refuses_and_keeps_its_key() -> None:
    bench = Bench(OTHER)
    assert bench.pair() is PairAnswer.REFUSED
    assert bench.dock.identity.key == OTHER


def test_nobody_there_ends_each_question() -> None:
    bench = Bench()
    bench.passes = lambda _message, _to_dock: False
    assert bench.pair() is PairAnswer.SILENT
    assert sum(isinstance(message, Pair) for message in bench.sent) == 5
    assert bench.prove() is PairAnswer.SILENT
    bench.talk.ask_ident(bench.at)
    assert bench.answer() is PairAnswer.SILENT


def test_one_late_proof_of_another_challenge_is_no_other_key() -> None:
    bench = Bench(KEY)
    late = encode(Frame(Proof(1, bytes(8), bytes(16)), 9))
    bench.talk.ask_proof(KEY, SERIAL, VEHICLE, bench.at)
    bench.talk.timer(bench.at)
    bench.talk.feed(late, bench.at)
    assert bench.answer() is PairAnswer.DONE


def test_no_challenge_goes_out_twice() -> None:
    bench = Bench(KEY)
    bench.passes = lambda message, to_dock: to_dock
    assert bench.prove() is PairAnswer.SILENT
    nonces = [message.payload() for message in bench.sent]
    assert len(nonces) == len(set(nonces)) == 3


def test_a_key_is_cleared_in_a_session_only() -> None:
    bench = Bench(KEY)
    with pytest.raises(ValueError, match="proof first"):
        bench.talk.ask_unpair(bench.at)
    assert bench.prove() is PairAnswer.DONE
    # Forged, untagged, with the right number: it settles nothing.
    bench.passes = dropping(Ack, 1, to_dock=False)
    bench.talk.ask_unpair(bench.at)
    bench.talk.timer(bench.at)
    for sequence in range(256):
        bench.talk.feed(encode(Frame(Ack(sequence), 0)), bench.at)
        bench.talk.feed(encode(Frame(Nak(sequence, NakReason.REFUSED), 0)), bench.at)
    assert bench.answers[-1:] == [PairAnswer.DONE]  # that of the proof
    # The dock forgot its key; its tagged answer was lost, and is given again when it is asked again.
    assert bench.answer() is PairAnswer.DONE
    assert bench.dock.identity.key is None
    assert bench.prove() is PairAnswer.UNPAIRED


def test_a_key_is_cleared_and_the_answer_believed() -> None:
    bench = Bench(KEY)
    assert bench.prove() is PairAnswer.DONE
    assert bench.unpair() is PairAnswer.DONE
    assert bench.dock.identity.key is None
    assert any(isinstance(message, Unpair) for message in bench.dock.executed)


@needs_gcc
def test_the_dock_in_c_takes_keeps_and_forgets_a_key_as_the_page_says() -> None:
    """An implementation that shares no line with ours."""
    board = FirmwareDock(BootNs(0), serial=SERIAL)
    bench = Bench()
    bench.dock = board  # type: ignore[assignment]  # what a bench calls, both have
    assert bench.prove() is PairAnswer.UNPAIRED
    board.broken(flash=True)
    assert bench.pair() is PairAnswer.REFUSED
    board.broken(flash=False)
    assert bench.pair() is PairAnswer.DONE
    assert bench.prove() is PairAnswer.DONE
    assert bench.pair(OTHER) is PairAnswer.REFUSED
    assert bench.prove(OTHER) is PairAnswer.OTHER_KEY
    board.set_inputs(bench.at, service=True)
    assert bench.pair(OTHER) is PairAnswer.DONE
    board.reset()
    assert bench.prove(OTHER) is PairAnswer.DONE
    # The first answer is lost; this dock knows the repetition for one.
    bench.passes = dropping(Ack, 1, to_dock=False)
    assert bench.unpair() is PairAnswer.DONE
    assert not board.paired()


def test_an_ident_alone_is_what_it_says_it_is() -> None:
    bench = Bench(KEY)
    bench.talk.ask_ident(bench.at)
    bench.talk.timer(bench.at)
    bench.talk.feed(encode(Frame(Ident(0, 9, 9, b"X".ljust(12, b"\0"), bytes(17), "forged"), 0)), bench.at)
    assert isinstance(bench.answers[-1], DockIdent)
    assert bench.prove(serial="X", vehicle="") is PairAnswer.OTHER_KEY


def test_a_link_below_the_version_of_the_pairing_is_not_spoken() -> None:
    settings = DockSettings("dock", SERIAL, VEHICLE, KEY, version=2)
    with pytest.raises(ValueError, match=r"paired at version 2 .* speaks 1: a lower one is refused"):
        ReferenceSession(settings, random.Random(1).randbytes)
