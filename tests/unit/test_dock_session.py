"""What the tablet makes of a dock link: proof, freshness, commands, FOREIGN. In virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    DockForeign,
    DockIdent,
    DockLinkLost,
    DockLinkUp,
    DockProof,
    DockStatus,
    ForeignReason,
)
from drivers.docks.reference.codec import (
    Challenge,
    Frame,
    Ident,
    Nak,
    NakReason,
    Proof,
    Status,
    StatusBit,
    encode,
)
from tests.dock_rig import LATENCY_NS, SERIAL, VEHICLE_ID, Rig, carries, clean, cut

ROUND_TRIP_NS = 2 * LATENCY_NS


def dropped(rig: Rig) -> dict[str, int]:
    """What the session counted, without its figures of time."""
    return {name: n for name, n in rig.session.counters().values.items() if not name.startswith("round_trip")}


# --- proof and sessions ---


def test_a_paired_dock_is_proved_within_a_round_trip() -> None:
    rig = Rig()
    rig.run(ROUND_TRIP_NS)
    assert rig.of(DockProof) == [DockProof(BootNs(ROUND_TRIP_NS), "dock", BootNs(0))]
    [ident] = rig.of(DockIdent)
    assert (ident.serial, ident.vehicle_id, ident.firmware) == (SERIAL, VEHICLE_ID, (1, 0))
    rig.run(ROUND_TRIP_NS)
    assert rig.dock.in_session()
    assert rig.authenticated()


def test_status_shows_what_the_dock_measures_and_no_more() -> None:
    rig = Rig()
    rig.dock.set_inputs(rig.at, seated=None, kl15=True, vehicle_mv=None, tablet_ma=-320, temperature_dc=-105)
    rig.run(SECOND)
    status = rig.authenticated()[-1]
    assert (status.seated, status.mated, status.locked, status.kl15) == (None, True, None, True)
    assert (status.vehicle_mv, status.tablet_ma, status.temperature_dc) == (None, -320, -105)


def test_evidence_is_as_old_as_the_question_that_was_answered() -> None:
    rig = Rig()
    rig.run(10 * SECOND)
    sent = [status.at - LATENCY_NS for status in rig.authenticated()]
    for at, status in zip(sent, rig.authenticated(), strict=True):
        assert at - status.evidence_at >= LATENCY_NS
        assert status.at - status.evidence_at <= 500 * MS


def test_evidence_does_not_get_younger_while_our_questions_are_lost() -> None:
    rig = Rig()
    rig.run(SECOND)
    last = rig.authenticated()[-1].evidence_at
    rig.fault = lambda packet, to_dock: [] if to_dock else clean(packet, to_dock)
    rig.run(2 * SECOND)
    late = [status for status in rig.authenticated() if status.at > BootNs(SECOND + 500 * MS)]
    assert late
    assert {status.evidence_at for status in late} <= {last, late[0].evidence_at}
    assert late[-1].evidence_at <= SECOND


def test_a_dock_that_takes_part_in_no_session_gives_hints_only() -> None:
    rig = Rig(dock_key=None)
    rig.run(5 * SECOND)
    assert rig.of(DockStatus)
    assert rig.authenticated() == []
    assert rig.of(DockProof) == []


def test_challenges_come_every_30_s_and_after_untagged_frames_once_a_second() -> None:
    rig = Rig()
    rig.run(95 * SECOND)
    proved = [proof.evidence_at for proof in rig.of(DockProof)]
    assert [(later - earlier) // SECOND for earlier, later in pairwise(proved)] == [30, 30, 30]
    unpaired = Rig(dock_key=None)
    unpaired.run(10 * SECOND)
    challenges = [each for each in unpaired.messages(to_dock=True) if isinstance(each, Challenge)]
    assert len(challenges) == 11
    assert len({each.nonce for each in challenges}) == 11


def test_a_woken_tablet_asks_for_proof_at_once_though_the_last_one_still_counts() -> None:
    rig = Rig()
    rig.run(10 * SECOND)
    before = len(rig.of(DockProof))
    rig.session.prove(rig.at)
    rig.carry()
    rig.run(ROUND_TRIP_NS)
    assert len(rig.of(DockProof)) == before + 1


@pytest.mark.parametrize("phase_ms", range(0, 500, 25))
def test_status_once_a_second_meets_evidence_that_is_fresh_until_the_next_one(phase_ms: int) -> None:
    rig = Rig()
    rig.run(5 * SECOND + phase_ms * MS)
    rig.session.cut_power(60, rig.at)
    rig.carry()
    rig.run(SECOND // 2)
    rig.dock.set_inputs(rig.at, tablet_ma=phase_ms)  # a change: STATUS at once, and 1 Hz counts from here
    rig.run(2 * SECOND)
    rig.seen.clear()
    rig.run(10 * SECOND)
    status = rig.authenticated()
    assert 9 <= len(status) <= 11
    for one, following in pairwise(status):
        # The tether's default of 1500 ms, less some jitter.
        assert following.at - one.evidence_at < 1460 * MS


def test_renewing_the_proof_leaves_no_gap_in_authenticated_status() -> None:
    rig = Rig()
    rig.run(70 * SECOND)
    at = [status.at for status in rig.authenticated()]
    assert max(later - earlier for earlier, later in pairwise(at)) <= 200 * MS
    hints = [status for status in rig.of(DockStatus) if not status.authenticated]
    assert all(hint.at < SECOND for hint in hints)


def test_a_reset_of_the_dock_is_followed_by_a_new_proof() -> None:
    rig = Rig()
    rig.run(5 * SECOND)
    rig.dock.brown_out(rig.at)
    before = len(rig.of(DockProof))
    rig.run(SECOND)
    assert len(rig.of(DockProof)) == before + 1
    assert rig.authenticated()[-1].at > 6 * SECOND - 250 * MS
    assert rig.of(DockLinkLost) == []


def test_an_ident_out_of_turn_is_answered_by_a_challenge() -> None:
    rig = Rig()
    rig.run(5 * SECOND)
    [ident] = [packet for packet in rig.packets(False) if carries(packet, Ident)]
    asked = sum(isinstance(each, Challenge) for each in rig.messages(to_dock=True))
    rig.deliver(ident, False)
    rig.run(SECOND)
    assert sum(isinstance(each, Challenge) for each in rig.messages(to_dock=True)) == asked + 1


def test_a_proof_answers_once_and_only_the_newest_challenge() -> None:
    rig = Rig()
    rig.run(SECOND - MS)
    [proof] = [packet for packet in rig.packets(False) if carries(packet, Proof)]
    rig.deliver(proof, False)
    rig.run(40 * SECOND)
    proved = len(rig.of(DockProof))
    rig.deliver(proof, False)
    assert len(rig.of(DockProof)) == proved
    assert dropped(rig) == {"late": 2}


def test_replayed_status_is_refused_even_in_the_next_session() -> None:
    rig = Rig()
    rig.run(SECOND)
    recorded = [packet for packet in rig.packets(False) if carries(packet, Status)]
    seen = len(rig.authenticated())
    for packet in recorded:
        rig.deliver(packet, False)
    assert len(rig.authenticated()) == seen
    rig.run(40 * SECOND)
    seen = len(rig.authenticated())
    for packet in recorded:
        rig.deliver(packet, False)
    assert len(rig.authenticated()) == seen
    assert dropped(rig) == {"counter": len(recorded) - 1, "tag": len(recorded) - 1}


def test_a_status_that_comes_twice_at_once_counts_once() -> None:
    rig = Rig(fault=lambda packet, to_dock: clean(packet, to_dock) * (2 if carries(packet, Status) else 1))
    rig.run(5 * SECOND)
    seen = [status.at for status in rig.authenticated()]
    assert len(seen) == len(set(seen)) > 20
    assert rig.session.counters().values["counter"] == len(seen)


def test_our_own_frames_reflected_to_us_mean_nothing() -> None:
    rig = Rig()
    rig.run(SECOND)
    seen = len(rig.seen)
    ours = rig.packets(True)
    for packet in ours:
        rig.deliver(packet, False)
    assert len(rig.seen) == seen
    assert dropped(rig) == {"misdirected": len(ours)}


def test_frames_of_the_dock_reflected_to_it_mean_nothing() -> None:
    rig = Rig()
    rig.run(SECOND)
    executed = len(rig.dock.executed)
    theirs = rig.packets(False)
    for packet in theirs:
        rig.deliver(packet, True)
    assert len(rig.dock.executed) == executed
    assert rig.dock.dropped["misdirected"] == len(theirs)


# --- FOREIGN ---


def test_three_bad_macs_running_prove_another_key() -> None:
    rig = Rig(dock_key=bytes(32))
    rig.run(SECOND + 500 * MS)
    assert rig.of(DockForeign) == []
    rig.run(SECOND)
    [foreign] = rig.of(DockForeign)
    assert (foreign.reason, foreign.evidence_at) == (ForeignReason.BAD_MAC, 2 * SECOND)
    assert rig.of(DockProof) == []


def test_many_bad_macs_to_one_challenge_count_as_one() -> None:
    rig = Rig(dock_key=bytes(32))
    rig.run(ROUND_TRIP_NS)
    [proof] = [packet for packet in rig.packets(False) if carries(packet, Proof)]
    for _ in range(10):
        rig.deliver(proof, False)
    assert rig.of(DockForeign) == []


def test_bad_macs_in_a_session_prove_nothing() -> None:
    rig = Rig()
    rig.run(SECOND)
    forged = encode(Frame(Proof(0, bytes(8), bytes(16)), 0))
    for _ in range(100):
        rig.run(SECOND)
        rig.deliver(forged, False)
    assert rig.of(DockForeign) == []
    assert rig.of(DockLinkLost) == []


def test_bad_macs_prove_nothing_while_a_session_is_open() -> None:
    """Who drops the dock's answers and sends his own can make the proof old, and not the dock FOREIGN."""
    rig = Rig()
    rig.run(SECOND)
    forged = encode(Frame(Proof(0, bytes(8), bytes(16)), 0))
    rig.fault = lambda packet, to_dock: clean(forged if carries(packet, Proof) else packet, to_dock)
    rig.run(60 * SECOND)
    assert rig.session.counters().values["mac"] > 3
    assert rig.of(DockForeign) == []
    assert rig.authenticated()[-1].at > rig.at - SECOND


@pytest.mark.parametrize(
    ("serial", "vehicle_id", "reason"),
    [
        ("DK-000043", VEHICLE_ID, ForeignReason.OTHER_DOCK),
        (SERIAL, "WV1ZZZ7HZNH000043", ForeignReason.OTHER_VEHICLE),
    ],
)
def test_a_good_mac_over_another_identity_is_foreign(
    serial: str, vehicle_id: str, reason: ForeignReason
) -> None:
    rig = Rig(dock_serial=serial, dock_vehicle=vehicle_id)
    rig.run(ROUND_TRIP_NS)
    [foreign] = rig.of(DockForeign)
    assert (foreign.reason, foreign.evidence_at) == (reason, 0)
    rig.run(5 * SECOND)
    assert rig.of(DockProof) == []
    assert rig.authenticated() == []


def test_a_slow_dock_is_not_a_foreign_one() -> None:
    rig = Rig(fault=lambda packet, to_dock: [(1_200 * MS, packet)])
    rig.run(30 * SECOND)
    assert rig.of(DockForeign) == []
    assert rig.session.counters().values["late"] > 0


def test_ident_alone_proves_nothing() -> None:
    stranger = Rig(dock_serial="DK-000043")
    stranger.run(ROUND_TRIP_NS)
    rig = Rig()
    rig.run(SECOND)
    rig.deliver(b"".join(stranger.packets(False)), False)
    rig.run(5 * SECOND)
    assert rig.of(DockForeign) == []
    assert rig.authenticated()[-1].at > rig.at - SECOND


def test_a_nak_made_in_advance_is_no_evidence() -> None:
    """A dock that tags its NAK to any frame would make them for an attacker, for every sequence to come."""
    rig = Rig()
    rig.run(2 * SECOND)
    keys = rig.dock._current
    assert keys is not None
    stock = [keys.packet(Nak(sequence, NakReason.UNKNOWN_TYPE), 0) for sequence in range(256)]
    seated = Status(0, 0, StatusBit.SEATED, StatusBit.SEATED, 0, 0, 0, 0, 0)
    stock.append(keys.packet(seated, 0))
    made_at = rig.at
    rig.fault = lambda packet, to_dock: []  # the dock is gone; he answers the next LEASE out of his stock
    rig.run(500 * MS)
    for packet in stock:
        rig.deliver(packet, to_dock=False)
    assert rig.authenticated()[-1].evidence_at <= made_at


def test_a_wire_that_carries_again_is_asked_at_once() -> None:
    """A STATUS of the session that is still open ends the silence, not the next challenge of every second."""
    rig = Rig()
    rig.run(2 * SECOND)
    rig.fault = cut
    rig.run(1_300 * MS)
    assert rig.of(DockLinkLost)
    rig.fault = clean
    mended_at = rig.at
    rig.run(200 * MS + 6 * LATENCY_NS)  # a STATUS, a LEASE and its ACK; then the next STATUS
    up = rig.of(DockLinkUp)[-1].at
    assert mended_at < up <= mended_at + 200 * MS + LATENCY_NS
    rig.run(200 * MS)
    assert rig.authenticated()[-1].evidence_at > mended_at
