"""How the tablet's commands and leases reach the dock, or are lost. In virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CommandOutcome,
    DockCommandDone,
    DockLinkLost,
    DockLinkUp,
    DockProof,
    DriveOutputs,
    LinkLoss,
)
from drivers.docks.reference.auth import Direction, Session
from drivers.docks.reference.codec import (
    Ack,
    Frame,
    Hello,
    Lease,
    Nak,
    NakReason,
    Output,
    Outputs,
    PowerCutIn,
    Status,
    encode,
)
from drivers.docks.reference.courier import MAX_RTO_NS, MIN_RTO_NS, Courier, RetryTimer
from drivers.docks.reference.session import ReferenceSession
from drivers.spec import DockSettings
from tests.dock_rig import KEY, SERIAL, VEHICLE_ID, Rig, carries, clean, cut


def test_outputs_are_driven_and_confirmed() -> None:
    rig = Rig()
    rig.run(SECOND)
    rig.session.drive(DriveOutputs(latch=True, led=False), rig.at)
    rig.run(100 * MS)
    assert rig.dock.actuators.outputs == Output.LATCH | Output.POWER_HOLD | Output.SUPPLY_ENABLE
    assert [(d.command, d.outcome) for d in rig.of(DockCommandDone)] == [("outputs", CommandOutcome.DONE)]
    assert rig.authenticated()[-1].locked is True


def test_one_command_is_outstanding_and_the_newest_of_its_type_waits() -> None:
    rig = Rig()
    rig.run(SECOND)
    for on in (True, False, True):
        rig.session.drive(DriveOutputs(buzzer=on), rig.at)
    rig.session.drive(DriveOutputs(latch=True), rig.at)
    rig.session.cut_power(60, rig.at)
    rig.run(100 * MS)
    asked = [each for each in rig.messages(to_dock=True) if isinstance(each, Outputs | PowerCutIn)]
    both = Output.BUZZER | Output.LATCH
    assert asked == [Outputs(Output.BUZZER, Output.BUZZER), PowerCutIn(60), Outputs(both, both)]
    # The answer to the buzzer came when newer outputs waited: it says nothing of those.
    assert [(done.command, done.newest) for done in rig.of(DockCommandDone)] == [
        ("outputs", False),
        ("power_cut_in", True),
        ("outputs", True),
    ]


def test_a_lost_command_is_sent_again_and_executed_once() -> None:
    rig = Rig()
    rig.run(SECOND)
    lose = 2

    def lossy(packet: bytes, to_dock: bool) -> list[tuple[int, bytes]]:
        nonlocal lose
        if not to_dock and carries(packet, Status):
            return clean(packet, to_dock)
        if not to_dock and lose:
            lose -= 1
            return []
        return clean(packet, to_dock)

    rig.fault = lossy
    rig.session.cut_power(60, rig.at)
    rig.run(400 * MS)
    tries = [frame for frame in rig.frames(to_dock=True) if isinstance(frame.message, PowerCutIn)]
    assert len(tries) == 3
    assert len({frame.sequence for frame in tries}) == 1
    assert len({frame.trailer for frame in tries}) == 3
    assert rig.dock.executed.count(PowerCutIn(60)) == 1
    assert [done.outcome for done in rig.of(DockCommandDone)] == [CommandOutcome.DONE]


@pytest.mark.parametrize("kl15", [True, False])
def test_after_five_tries_the_link_is_lost_and_it_comes_back_by_itself(kl15: bool) -> None:
    """Within the dock's lease (KL15 on) its session goes on, so that nothing untagged asks for a proof."""
    rig = Rig()
    rig.dock.set_inputs(rig.at, kl15=kl15)
    rig.run(SECOND)
    rig.fault = cut
    rig.session.drive(DriveOutputs(latch=True), rig.at)
    rig.run(2 * SECOND)
    tries = [frame for frame in rig.frames(to_dock=True) if isinstance(frame.message, Outputs)]
    assert len(tries) == 5
    assert [lost.reason for lost in rig.of(DockLinkLost)] == [LinkLoss.UNANSWERED]
    assert rig.of(DockLinkLost)[0].at <= 2 * SECOND
    assert [done.outcome for done in rig.of(DockCommandDone)] == [CommandOutcome.LOST]
    rig.fault = clean
    rig.run(1_500 * MS)
    assert len(rig.of(DockLinkUp)) == 2
    assert rig.authenticated()[-1].at > rig.at - 250 * MS


def test_a_new_proof_is_followed_by_a_lease_even_while_a_command_is_under_way() -> None:
    rig = Rig()
    rig.run(29_990 * MS)
    rig.fault = lambda packet, to_dock: [] if carries(packet, Ack) else clean(packet, to_dock)
    rig.session.drive(DriveOutputs(latch=True), rig.at)
    rig.run(15 * MS)
    assert rig.of(DockProof)[-1].evidence_at == 30 * SECOND
    assert isinstance(rig.messages(to_dock=True)[-1], Lease)
    rig.fault = clean
    rig.run(500 * MS)
    assert [(done.command, done.outcome) for done in rig.of(DockCommandDone)] == [
        ("outputs", CommandOutcome.DONE)
    ]
    assert rig.dock.actuators.locked(rig.dock.inputs)


def test_an_answer_counts_only_under_the_session_of_its_command() -> None:
    courier = Courier()
    ours, other = Session(KEY, Direction.TO_DOCK), Session(KEY, Direction.TO_DOCK)
    courier.ask(Lease(1), BootNs(0))
    courier.start(7, ours, BootNs(0))
    assert courier.answered(7, other, BootNs(1)) is None
    assert courier.answered(8, ours, BootNs(1)) is None
    assert courier.answered(7, ours, BootNs(1)) is not None


def test_a_silent_device_is_asked_once_a_second_and_reported_once() -> None:
    rig = Rig(fault=cut)
    rig.run(10 * SECOND)
    assert [lost.reason for lost in rig.of(DockLinkLost)] == [LinkLoss.UNANSWERED]
    asked = [each for each in rig.messages(to_dock=True) if isinstance(each, Hello)]
    assert 5 + 8 <= len(asked) <= 5 + 10


def test_a_refused_command_is_reported_as_refused() -> None:
    rig = Rig()
    rig.dock.set_inputs(rig.at, kl15=True)
    rig.run(SECOND)
    rig.session.cut_power(0, rig.at)
    rig.run(100 * MS)
    rig.session.cut_power(None, rig.at)
    rig.run(100 * MS)
    outcomes = [done.outcome for done in rig.of(DockCommandDone)]
    assert outcomes == [CommandOutcome.DONE, CommandOutcome.REFUSED]


def test_an_untagged_refusal_fails_no_command() -> None:
    rig = Rig()
    rig.run(SECOND)
    rig.session.drive(DriveOutputs(latch=True), rig.at)
    rig.carry()
    sequence = rig.frames(to_dock=True)[-1].sequence
    for reason in NakReason:
        rig.deliver(encode(Frame(Nak(sequence, reason), 0)), False)
    rig.run(SECOND)
    assert [done.outcome for done in rig.of(DockCommandDone)] == [CommandOutcome.DONE]


def test_a_wish_that_cannot_be_sent_is_lost_and_never_happens_later() -> None:
    rig = Rig(dock_key=None)
    rig.run(SECOND)
    rig.session.cut_power(60, rig.at)
    rig.run(6 * SECOND)
    assert [done.outcome for done in rig.of(DockCommandDone)] == [CommandOutcome.LOST]
    rig.dock.identity.key = KEY
    rig.run(5 * SECOND)
    assert rig.authenticated()
    assert PowerCutIn(60) not in rig.dock.executed


def test_unplugging_loses_what_was_under_way() -> None:
    rig = Rig()
    rig.run(SECOND)
    rig.session.drive(DriveOutputs(latch=True), rig.at)
    rig.session.cut_power(10, rig.at)
    lost = rig.session.link_lost(rig.at, LinkLoss.UNPLUGGED)
    assert lost == [
        DockLinkLost(rig.at, "dock", LinkLoss.UNPLUGGED),
        DockCommandDone(rig.at, "dock", "outputs", CommandOutcome.LOST),
        DockCommandDone(rig.at, "dock", "power_cut_in", CommandOutcome.LOST),
    ]
    assert rig.session.next_deadline() is None


# --- leases and wake-ups ---


def test_a_lease_goes_out_at_least_every_500_ms_at_either_pace_of_status() -> None:
    for seconds in (None, 600):
        rig = Rig()
        rig.run(SECOND)
        rig.session.cut_power(seconds, rig.at)
        sent_at: list[int] = []

        def note(
            packet: bytes, to_dock: bool, rig: Rig = rig, sent_at: list[int] = sent_at
        ) -> list[tuple[int, bytes]]:
            if to_dock and carries(packet, Lease):
                sent_at.append(rig.at)
            return clean(packet, to_dock)

        rig.fault = note
        rig.run(20 * SECOND)
        assert max(b - a for a, b in pairwise(sent_at)) <= 500 * MS
        assert rig.of(DockLinkLost) == []


def test_an_idle_tablet_wakes_up_for_the_docks_frames_only() -> None:
    rig = Rig()
    rig.run(5 * SECOND)
    before, frames_before = rig.tablet_wakeups, len(rig.packets(False))
    rig.run(20 * SECOND)
    assert rig.tablet_wakeups - before <= len(rig.packets(False)) - frames_before


def test_a_session_without_verified_answers_ends() -> None:
    rig = Rig()
    rig.run(SECOND)
    rig.fault = lambda packet, to_dock: clean(packet, to_dock) if carries(packet, Status) else []
    rig.run(8 * SECOND)
    assert rig.session.counters().values["stale"] == 1
    rig.fault = clean
    rig.run(3 * SECOND)
    assert rig.authenticated()[-1].at > rig.at - SECOND


def test_after_a_long_sleep_nothing_old_counts() -> None:
    rig = Rig()
    rig.run(SECOND)
    recorded = [packet for packet in rig.packets(False) if carries(packet, Status)][-1]
    rig.session.drive(DriveOutputs(latch=True), rig.at)
    woken = BootNs(rig.at + 3600 * SECOND)
    seen = rig.session.feed(recorded, woken)
    assert [type(each) for each in seen] == [DockCommandDone]
    assert rig.session.timer(woken) == []
    deadline = rig.session.next_deadline()
    assert deadline is not None
    assert deadline > woken


def test_retransmission_adapts_within_its_bounds() -> None:
    timer = RetryTimer()
    assert timer.rto_ns == MAX_RTO_NS
    for _ in range(50):
        timer.measured(4 * MS)
    assert timer.rto_ns == MIN_RTO_NS
    timer.back_off()
    assert timer.rto_ns == 2 * MIN_RTO_NS
    timer.measured(150 * MS)
    assert 4 * MIN_RTO_NS < timer.rto_ns <= MAX_RTO_NS


def test_settings_that_do_not_fit_name_the_dock_and_what_was_expected() -> None:
    with pytest.raises(ValueError, match="dock yard: the key has 5 bytes; expected 32"):
        ReferenceSession(DockSettings("yard", SERIAL, VEHICLE_ID, b"short"), bytes)
    with pytest.raises(ValueError, match="at most 12"):
        ReferenceSession(DockSettings("yard", "longer than twelve", VEHICLE_ID, KEY), bytes)
    rig = Rig()
    with pytest.raises(ValueError, match="expected 0 to 65534"):
        rig.session.cut_power(65535, rig.at)
