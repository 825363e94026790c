"""Attacks on the dock link, judged by what the core decides. Each is a row of docs/security.md."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from agent.core.state import TetherState
from agent.core.types import MS, SECOND, BootNs, DockForeign, DockProof, DockVersion, ForeignReason
from drivers.docks.reference.codec import (
    Challenge,
    Decoder,
    Frame,
    Hello,
    Ident,
    Lease,
    Message,
    Nak,
    NakReason,
    Output,
    Outputs,
    Pair,
    PowerCutIn,
    Proof,
    Status,
    StatusBit,
    Unpair,
    encode,
    padded,
)
from simulator.docks.reference import Identity, ReferenceDock
from tests.dock_rig import KEY, LATENCY_NS, SERIAL, VEHICLE_ID, Rig, carries, clean, cut
from tests.firmware_rig import FirmwareDock, needs_gcc, record
from tests.tether_rig import FRESH_NS, RESTRICT_NS, TetherRig, tethered

LOCKED_STATES = {TetherState.UNKNOWN, TetherState.UNCERTAIN, TetherState.RESTRICTED}
SEATED = StatusBit.SEATED | StatusBit.MATED
FORGED_STATUS = Status(0, 0, SEATED, SEATED, 12_600, 12_000, 900, 250, 0)


def in_c(at: BootNs) -> FirmwareDock:
    return FirmwareDock(at, pairing=record())


@pytest.fixture(params=["python", pytest.param("c", marks=needs_gcc)])
def dock(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Which dock is on the wire, as keywords of the rig."""
    return {} if request.param == "python" else {"device": in_c}


def restricted_in_time(rig: TetherRig, lost_at: int) -> None:
    """Use ended within T_restrict of the loss of evidence, and never came back."""
    rig.run(max(0, lost_at + FRESH_NS + RESTRICT_NS - rig.at))
    assert not rig.usable
    assert TetherState.TETHERED not in rig.since(lost_at + FRESH_NS)
    rig.run(30 * SECOND)
    assert not rig.usable
    assert TetherState.TETHERED not in rig.since(lost_at + FRESH_NS)


def rewritten(packet: bytes, change: Callable[[bytearray], None]) -> bytes:
    """A frame with something in it changed and its crc made right: COBS by the codec, which is public."""
    body = bytearray(unstuffed(packet))[:-4]
    change(body)
    return stuffed(bytes(body) + zlib.crc32(body).to_bytes(4, "little"))


def unstuffed(packet: bytes) -> bytes:
    out, at = bytearray(), 0
    while packet[at]:
        code = packet[at]
        out += packet[at + 1 : at + code]
        at += code
        if code < 255 and packet[at]:
            out.append(0)
    return bytes(out)


def stuffed(body: bytes) -> bytes:
    assert len(body) < 254
    return b"".join(bytes([len(run) + 1]) + run for run in body.split(b"\0")) + b"\0"


# --- forged without the key ---


def test_a_forged_status_without_a_session_is_a_hint() -> None:
    rig = TetherRig(fault=cut)
    for step in range(50):
        rig.deliver(encode(Frame(FORGED_STATUS, step)), to_dock=False)
        rig.run(200 * MS)
    assert rig.states == [(BootNs(0), TetherState.UNKNOWN)]
    assert not rig.usable


def test_a_forged_status_in_a_session_does_not_outvote_the_dock(dock: dict[str, Any]) -> None:
    rig = tethered(**dock)
    rig.unseat()
    lost_at = rig.at
    for step in range(50):
        rig.deliver(encode(Frame(FORGED_STATUS, step)), to_dock=False)
        rig.run(100 * MS)
    assert rig.state is TetherState.RESTRICTED
    restricted_in_time(rig, lost_at)


def test_a_changed_frame_counts_for_nothing(dock: dict[str, Any]) -> None:
    """The dock says "unseated"; somebody on the wire sets the bit and makes the crc right."""
    rig = tethered(**dock)

    def change(packet: bytes, to_dock: bool) -> list[tuple[int, bytes]]:
        def seat(body: bytearray) -> None:
            body[12] |= SEATED

        forged = rewritten(packet, seat) if not to_dock and carries(packet, Status) else packet
        return [(LATENCY_NS, forged)]

    rig.fault = change
    rig.unseat()
    restricted_in_time(rig, rig.at)
    assert rig.session.counters().values["tag"] > 20


def test_forged_frames_of_either_side_end_nothing_and_are_not_obeyed(dock: dict[str, Any]) -> None:
    """HELLO, CHALLENGE, IDENT, PROOF, NAK and commands, all without the key, into a session in use."""
    rig = tethered(**dock)
    dice = random.Random(1)
    began, sequence = rig.at, 0
    to_dock: list[Message] = [
        Hello(1, 1, bytes(8)), Challenge(bytes(16)), Lease(0), Outputs(31, Output(0)), PowerCutIn(0),
        Pair(bytes(32), bytes(17)), Unpair(),
    ]  # fmt: skip
    to_tablet: list[Message] = [
        Ident(0, 1, 0, padded("DK-EVIL", 12), padded("", 17), "evil"), Proof(0, bytes(8), bytes(16)),
        Nak(0, NakReason.REFUSED), Nak(0, NakReason.NOT_AUTHENTICATED), FORGED_STATUS,
    ]  # fmt: skip
    for _ in range(200):
        for messages, towards in ((to_dock, True), (to_tablet, False)):
            sequence = (sequence + 1) % 256
            rig.deliver(encode(Frame(dice.choice(messages), sequence, ack_wanted=True)), to_dock=towards)
        rig.run(50 * MS)
    assert rig.state is TetherState.TETHERED
    assert rig.since(began) == []
    assert rig.of(DockForeign) == []
    if isinstance(rig.device, FirmwareDock):
        outputs, paired = rig.device.outputs, rig.device.paired()
    else:
        outputs, paired = rig.dock.actuators.outputs.value, rig.dock.identity.key == KEY
    assert paired
    assert outputs & Output.SUPPLY_ENABLE
    assert outputs & Output.POWER_HOLD


# --- recorded and handed on ---


def test_a_replayed_status_does_not_seat_the_tablet_again(dock: dict[str, Any]) -> None:
    rig = tethered(**dock)
    recorded = rig.packets(to_dock=False)
    dice = random.Random(1)
    rig.fault = lambda packet, to_dock: [(LATENCY_NS, packet if to_dock else dice.choice(recorded))]
    rig.unseat()
    restricted_in_time(rig, rig.at)


@pytest.mark.parametrize("held_ms", [1_600, 3_000, 20_000])
def test_delayed_frames_are_as_old_as_they_are(dock: dict[str, Any], held_ms: int) -> None:
    rig = tethered(**dock)
    rig.fault = lambda packet, to_dock: [(LATENCY_NS if to_dock else held_ms * MS, packet)]
    rig.unseat()
    restricted_in_time(rig, rig.at)


def test_frames_out_of_order_do_not_bring_back_an_old_word(dock: dict[str, Any]) -> None:
    rig = tethered(**dock)
    dice = random.Random(1)
    rig.fault = lambda packet, to_dock: [(dice.randrange(2, 1_200) * MS, packet)]
    rig.run(3 * SECOND)
    rig.unseat()
    restricted_in_time(rig, rig.at)


def test_reflected_frames_mean_nothing(dock: dict[str, Any]) -> None:
    """A loop in place of a dock: what the tablet sends comes back to it, and the dock hears itself."""
    rig = tethered(**dock)
    sent: list[tuple[bool, bytes]] = rig.sent

    def mirror(packet: bytes, to_dock: bool) -> list[tuple[int, bytes]]:
        return []

    rig.fault = mirror
    lost_at, seen = rig.at, len(sent)
    for _ in range(100):
        rig.run(100 * MS)
        for to_dock, packet in sent[seen:]:
            rig.deliver(packet, to_dock=not to_dock)
        seen = len(sent)
    assert rig.session.counters().values["misdirected"] > 5
    restricted_in_time(rig, lost_at)


def test_a_recorded_session_plays_to_a_new_one_in_vain(dock: dict[str, Any]) -> None:
    """All that a dock said in a session, to the millisecond, to an agent that has been started anew."""
    rig = tethered(**dock)
    rig.run(35 * SECOND)
    recorded = rig.packets(to_dock=False)
    rig.fault = cut
    rig.restart_agent(same_boot=False)
    began = rig.at
    proofs = len(rig.of(DockProof))
    for packet in recorded:
        rig.deliver(packet, to_dock=False)
        rig.run(100 * MS)
    assert len(rig.of(DockProof)) == proofs
    assert TetherState.TETHERED not in rig.since(began)
    assert not rig.usable


# --- other docks ---


class Both:
    """Two docks on one wire: both hear the tablet, the tablet hears both."""

    def __init__(self, own: ReferenceDock, other: ReferenceDock) -> None:
        self.own, self.other = own, other
        self.own_there = True

    def feed(self, data: bytes, at: BootNs) -> None:
        for each in self._there():
            each.feed(data, at)

    def timer(self, at: BootNs) -> None:
        for each in (self.own, self.other):
            each.timer(at)

    def next_deadline(self) -> BootNs:
        return min(self.own.next_deadline(), self.other.next_deadline())

    def outgoing(self) -> bytes:
        said = [(each, each.outgoing()) for each in (self.own, self.other)]
        return b"".join(data for each, data in said if each in self._there())

    def set_inputs(self, at: BootNs, **changes: Any) -> None:
        self.own.set_inputs(at, **changes)

    def _there(self) -> list[ReferenceDock]:
        return [self.own, self.other] if self.own_there else [self.other]


def both(at: BootNs) -> Both:
    dice = random.Random(1)
    own = Identity.of(SERIAL, VEHICLE_ID, KEY)
    other = Identity.of("DK-OTHER", "V-OTHER", bytes(32))
    return Both(ReferenceDock(own, dice.randbytes, at), ReferenceDock(other, dice.randbytes, at))


def test_a_second_dock_on_the_wire_neither_helps_nor_harms() -> None:
    rig = tethered(device=both)
    began = rig.at
    rig.run(65 * SECOND)
    assert rig.since(began) == []
    assert isinstance(rig.device, Both)
    rig.device.own_there = False
    rig.run(FRESH_NS + RESTRICT_NS)
    assert not rig.usable
    rig.run(10 * SECOND)
    assert rig.state is TetherState.FOREIGN


def test_a_dock_of_another_key_is_foreign_whatever_it_says_it_is() -> None:
    """The right serial, vehicle id and USB ids: those anybody can write. Not the key."""
    rig = TetherRig(dock_key=bytes(32))
    rig.run(10 * SECOND)
    assert rig.state is TetherState.FOREIGN
    assert rig.of(DockForeign)[-1].reason is ForeignReason.BAD_MAC
    assert not rig.usable


def test_the_same_dock_in_another_vehicle_is_foreign() -> None:
    """Its key is right and so is its mac; the vehicle id that the mac covers is another."""
    rig = tethered()
    rig.dock.identity.vehicle_id = padded("WV1ZZZ7HZNH000099", 17)
    rig.dock.reset(rig.at)
    rig.run(3 * SECOND)  # within the ride-through, which it does not get
    assert rig.state is TetherState.FOREIGN
    assert rig.of(DockForeign)[-1].reason is ForeignReason.OTHER_VEHICLE
    assert not rig.usable


def test_the_same_dock_under_another_serial_is_foreign() -> None:
    rig = tethered()
    rig.dock.identity.serial = padded("DK-000043", 12)
    rig.dock.reset(rig.at)
    rig.run(3 * SECOND)
    assert rig.of(DockForeign)[-1].reason is ForeignReason.OTHER_DOCK
    assert not rig.usable


# --- versions and nonces ---


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_no_way_around(dock: dict[str, Any], version: int) -> None:
    """Every frame of the dock is given another version: none counts, and the dock takes none either."""
    rig = tethered(**dock)

    def downgrade(body: bytearray) -> None:
        body[0] = version

    rig.fault = lambda packet, to_dock: [(LATENCY_NS, rewritten(packet, downgrade))]
    lost_at = rig.at
    rig.unseat()
    restricted_in_time(rig, lost_at)
    assert rig.session.counters().values["version"] > 5
    assert len(rig.of(DockVersion)) == 1  # once an hour at most


def test_a_version_that_is_not_offered_is_refused(dock: dict[str, Any]) -> None:
    rig = Rig(**dock)
    for lowest, highest in ((0, 0), (2, 9)):
        rig.run(SECOND)  # refusals are paced
        rig.device.outgoing()
        rig.device.feed(encode(Frame(Hello(lowest, highest, bytes(8)), 7)), rig.at)
        said = [item.message for item in Decoder().feed(rig.device.outgoing()) if isinstance(item, Frame)]
        assert Nak(7, NakReason.REFUSED) in said
        assert not [message for message in said if isinstance(message, Ident)]


def test_one_proof_opens_one_session(dock: dict[str, Any]) -> None:
    """Taken twice it would start the session's counters again, and its frames could be replayed."""
    rig = tethered(**dock)
    [proof, *_] = [packet for packet in rig.packets(to_dock=False) if carries(packet, Proof)]
    proofs, late = len(rig.of(DockProof)), rig.session.counters().values.get("late", 0)
    rig.deliver(proof, to_dock=False)
    assert len(rig.of(DockProof)) == proofs
    assert rig.session.counters().values["late"] == late + 1


def test_no_nonce_is_used_twice(dock: dict[str, Any]) -> None:
    """The tablet's over restarts of the agent, the dock's over its resets; each names one session."""
    rig = tethered(**dock)
    for _ in range(20):
        rig.restart_agent()
        rig.device.reset() if isinstance(rig.device, FirmwareDock) else rig.dock.reset(rig.at)
        rig.run(3 * SECOND)
    asked = [m.nonce for m in rig.messages(to_dock=True) if isinstance(m, Challenge)]
    proved = [m.dock_nonce for m in rig.messages(to_dock=False) if isinstance(m, Proof)]
    assert len(asked) > 20
    assert len(proved) > 20
    assert len(set(asked)) == len(asked)
    assert len(set(proved)) == len(proved)


# --- time without proof ---


def test_resets_of_the_dock_do_not_renew_the_ride_through(dock: dict[str, Any]) -> None:
    """Frames get through that end no loss: each reset says HELLO and no more."""
    rig = tethered(**dock)
    rig.fault = lambda packet, to_dock: [] if carries(packet, Proof) else clean(packet, to_dock)
    lost_at = rig.at
    for _ in range(40):
        rig.device.reset() if isinstance(rig.device, FirmwareDock) else rig.dock.reset(rig.at)
        rig.run(200 * MS)
    assert not rig.usable
    restricted_in_time(rig, lost_at)


def test_restarts_of_the_agent_do_not_renew_the_ride_through() -> None:
    """Killed over and over while the dock is gone: what is left of this loss, and no more."""
    rig = tethered()
    rig.fault = cut
    lost_at = rig.at
    for _ in range(10):
        rig.run(700 * MS)
        rig.restart_agent()
    assert not rig.usable
    restricted_in_time(rig, lost_at)


def test_losses_one_after_the_other_draw_on_one_budget() -> None:
    """A wire that is cut and mended: all use without proof together stays within the budget."""
    rig = tethered()
    budget_ns = rig.core.state.tether.budget_ns
    spent = 0
    for _ in range(60):
        rig.fault = cut
        lost_at = rig.at
        rig.run(5 * SECOND)
        ended = next(
            (at for at, state in rig.states if at > lost_at and state is TetherState.RESTRICTED), rig.at
        )
        spent += max(0, ended - lost_at - FRESH_NS)
        rig.fault = clean
        rig.run(2 * SECOND)  # less than a refill takes
    assert spent <= budget_ns
    assert rig.core.state.tether.budget_ns < SECOND
