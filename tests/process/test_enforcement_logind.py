"""Locking by logind on a private bus: verified, insisted on, watched, and never undone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from agent.core.types import LockOutcome, UsedWhileLocked
from agent.enforcement.chain import Chain
from agent.enforcement.logind import LogindAction
from simulator.logind import Obeys, SimSession
from tests.aio import looped
from tests.logind_rig import Rig, boot_now, lock_order, logind_rig, release_order

QUICK: Mapping[str, object] = {"verify_ms": 80}


@contextlib.asynccontextmanager
async def enforcing(folder: Path, settings: Mapping[str, object] = QUICK) -> AsyncIterator[tuple[Rig, Chain]]:
    async with logind_rig(folder) as rig:
        chain = Chain([LogindAction(settings, rig.around)], rig.observe, boot_now)
        await rig.connect()
        await chain.start()
        try:
            yield rig, chain
        finally:
            await chain.close()


@looped
async def test_a_lock_is_verified_by_reading_back_every_session(tmp_path: Path) -> None:
    async with enforcing(tmp_path) as (rig, chain):
        sessions = [rig.logind.add(SimSession("2", after_s=0.03)), rig.logind.add(SimSession("c3"))]
        chain.lock(lock_order(7))
        await rig.until(lambda: rig.of(LockOutcome))
        (outcome,) = rig.of(LockOutcome)
        assert (outcome.decision, outcome.action, outcome.ok) == (7, "logind", True)
        assert outcome.took_ns >= 30_000_000
        assert all(session.locked for session in sessions)


@looped
async def test_without_any_session_the_outcome_says_so_and_a_later_one_is_locked(tmp_path: Path) -> None:
    async with enforcing(tmp_path) as (rig, chain):
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        assert rig.of(LockOutcome)[0].ok
        assert "no session to lock" in rig.of(LockOutcome)[0].detail
        late = rig.logind.add(SimSession("9"))
        await rig.until(lambda: late.hint)


@looped
async def test_a_session_that_comes_unlocked_too_often_is_ended_if_configured(tmp_path: Path) -> None:
    async with enforcing(tmp_path, {**QUICK, "terminate_after": 3}) as (rig, chain):
        session, other = rig.logind.add(SimSession("2")), rig.logind.add(SimSession("3"))
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        for n in range(1, 3):
            rig.logind.unlock(session)
            await rig.until(lambda: session.hint and session.asked > n)  # noqa: B023
            chain.lock(lock_order(1))  # as the core answers: the same decision
        assert "2" in rig.logind.sessions
        await rig.until(lambda: session.hint)
        await rig.settle()
        rig.logind.unlock(session)
        await rig.until(lambda: "2" not in rig.logind.sessions)
        assert other.locked
        assert "3 times under this decision: it is ended" in rig.of(UsedWhileLocked)[-1].detail


@looped
async def test_a_new_decision_counts_a_sessions_unlocking_anew(tmp_path: Path) -> None:
    async with enforcing(tmp_path, {**QUICK, "terminate_after": 2}) as (rig, chain):
        session = rig.logind.add(SimSession("2"))
        for decision in (1, 3, 5):
            chain.lock(lock_order(decision))
            await rig.until(lambda: len(rig.of(LockOutcome)) == (decision + 1) // 2)  # noqa: B023
            rig.logind.unlock(session)
            await rig.until(lambda: session.hint)
            await rig.settle()
            chain.release(release_order(decision + 1))
        assert list(rig.logind.sessions) == ["2"]


@looped
async def test_logind_that_restarts_is_asked_again(tmp_path: Path) -> None:
    """It forgot who was locked; so did we what it said."""
    async with enforcing(tmp_path) as (rig, chain):
        session = rig.logind.add(SimSession("2"))
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        await rig.logind.stop()
        session.locked = session.hint = False
        await rig.logind.start()
        await rig.until(lambda: session.locked)


@looped
async def test_the_request_is_on_the_bus_before_lock_returns(tmp_path: Path) -> None:
    async with enforcing(tmp_path) as (rig, chain):
        session = rig.logind.add(SimSession("2"))
        chain.lock(lock_order(1))
        await chain.close()  # nothing of the loop's later turns may be needed
        await rig.until(lambda: session.asked)


@looped
async def test_a_session_that_misses_the_first_request_is_asked_again(tmp_path: Path) -> None:
    async with enforcing(tmp_path) as (rig, chain):
        session = rig.logind.add(SimSession("2", obeys=Obeys.SECOND_TIME))
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        assert rig.of(LockOutcome)[0].ok
        assert session.locked
        assert session.asked >= 2


@looped
async def test_a_session_that_ignores_the_request_is_named_in_a_failed_outcome(tmp_path: Path) -> None:
    async with enforcing(tmp_path) as (rig, chain):
        rig.logind.add(SimSession("2"))
        rig.logind.add(SimSession("5", obeys=Obeys.NO))
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        (outcome,) = rig.of(LockOutcome)
        assert not outcome.ok
        assert "session 5" in outcome.detail
        assert "2" not in outcome.detail.partition("session")[2]


@looped
async def test_a_session_that_ignores_the_request_is_ended_if_configured(tmp_path: Path) -> None:
    async with enforcing(tmp_path, {**QUICK, "terminate": True}) as (rig, chain):
        rig.logind.add(SimSession("2"))
        rig.logind.add(SimSession("5", obeys=Obeys.NO))
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        assert rig.of(LockOutcome)[0].ok
        assert list(rig.logind.sessions) == ["2"]


@looped
async def test_a_lie_is_what_logind_cannot_show(tmp_path: Path) -> None:
    """The stated limit: LockedHint is its owner's to set, so a lying session counts as locked."""
    async with enforcing(tmp_path) as (rig, chain):
        session = rig.logind.add(SimSession("2", obeys=Obeys.LIES))
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        assert rig.of(LockOutcome)[0].ok
        assert not session.locked


@looped
async def test_an_unlock_while_locked_is_told_and_locked_again(tmp_path: Path) -> None:
    async with enforcing(tmp_path) as (rig, chain):
        session = rig.logind.add(SimSession("2"))
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        rig.logind.unlock(session)
        await rig.until(lambda: rig.of(UsedWhileLocked) and session.locked)


@looped
async def test_a_session_that_flaps_is_locked_each_time_and_told_of_once_a_second(tmp_path: Path) -> None:
    async with enforcing(tmp_path) as (rig, chain):
        session = rig.logind.add(SimSession("2"))
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        for _ in range(5):
            rig.logind.unlock(session)
            await rig.until(lambda: session.hint)
        assert session.asked >= 6
        assert len(rig.of(UsedWhileLocked)) <= 2


@looped
async def test_a_session_that_begins_while_locked_is_locked(tmp_path: Path) -> None:
    async with enforcing(tmp_path) as (rig, chain):
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        session = rig.logind.add(SimSession("4"))
        await rig.until(lambda: session.locked)


@looped
async def test_exempt_greeter_and_remote_sessions_do_not_count(tmp_path: Path) -> None:
    async with enforcing(tmp_path, {**QUICK, "exempt": ["ivma-maint"]}) as (rig, chain):
        rig.logind.add(SimSession("1", obeys=Obeys.NO, user="ivma-maint"))
        rig.logind.add(SimSession("2", obeys=Obeys.NO, kind="greeter"))
        rig.logind.add(SimSession("3", obeys=Obeys.NO, remote=True))
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        assert rig.of(LockOutcome)[0].ok


@looped
async def test_a_release_ends_the_watch_and_unlocks_nothing(tmp_path: Path) -> None:
    async with enforcing(tmp_path) as (rig, chain):
        session = rig.logind.add(SimSession("2"))
        await rig.settle()
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        chain.release(release_order(2))
        asked = session.asked
        rig.logind.unlock(session)
        other = rig.logind.add(SimSession("3"))
        await rig.settle()
        await rig.settle()
        assert (session.locked, session.asked, other.asked) == (False, asked, 0)
        assert rig.of(UsedWhileLocked) == []
        assert not any("Unlock" in call.member for call in rig.logind.calls)


@looped
async def test_an_older_decision_does_nothing(tmp_path: Path) -> None:
    async with enforcing(tmp_path) as (rig, chain):
        session = rig.logind.add(SimSession("2"))
        chain.lock(lock_order(5))
        await rig.until(lambda: rig.of(LockOutcome))
        chain.release(release_order(4))
        chain.release(release_order(5))
        rig.logind.unlock(session)
        await rig.until(lambda: session.locked)
        assert chain.ignored == 2


@looped
async def test_a_superseded_lock_still_has_its_outcome(tmp_path: Path) -> None:
    async with enforcing(tmp_path) as (rig, chain):
        rig.logind.add(SimSession("2", after_s=0.04))
        chain.lock(lock_order(1))
        chain.lock(lock_order(2))
        await rig.until(lambda: len(rig.of(LockOutcome)) == 2)
        first, second = rig.of(LockOutcome)
        assert (first.decision, first.ok, "superseded" in first.detail) == (1, False, True)
        assert (second.decision, second.ok) == (2, True)


@looped
async def test_a_lock_without_a_bus_takes_as_soon_as_there_is_one(tmp_path: Path) -> None:
    async with enforcing(tmp_path) as (rig, chain):
        await rig.logind.stop()
        await rig.daemon.stop()
        await rig.until(lambda: not rig.bus.connected)
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome))
        assert not rig.of(LockOutcome)[0].ok
        await rig.daemon.start()
        await rig.logind.start()
        session = rig.logind.add(SimSession("2"))
        await rig.until(lambda: len(rig.of(LockOutcome)) == 2)
        assert rig.of(LockOutcome)[1].ok
        assert session.locked


@looped
async def test_a_lock_of_the_start_does_not_wait_for_the_time_of_a_screen_locker(tmp_path: Path) -> None:
    """The bus is only being connected then; a release may come so soon that nothing would ever lock."""
    async with logind_rig(tmp_path) as rig:
        session = rig.logind.add(SimSession("2"))
        action = LogindAction({"verify_ms": 10_000}, rig.around)
        chain = Chain([action], rig.observe, boot_now)
        await chain.start()
        rig.bus.start()
        chain.lock(lock_order(1))
        await rig.until(lambda: rig.of(LockOutcome), 5.0)
        assert rig.of(LockOutcome)[0].ok
        assert session.locked
        await chain.close()


@looped
async def test_a_sleep_can_wait_for_the_lock_but_not_for_ever(tmp_path: Path) -> None:
    # So long that a slow machine asks once only: a second request would lock it when it is to be open.
    async with enforcing(tmp_path, {"verify_ms": 5000}) as (rig, chain):
        done: list[bool] = []

        def now_sleep() -> None:
            done.append(session.locked)
            rig.changed.set()

        session = rig.logind.add(SimSession("2", after_s=0.03))
        chain.once_verified(now_sleep, 2.0)
        assert done == [False]  # nothing was under way
        chain.lock(lock_order(1))
        chain.once_verified(now_sleep, 2.0)
        await rig.until(lambda: len(done) == 2)
        assert done[1]
        session.obeys = Obeys.NO
        rig.logind.unlock(session)
        chain.lock(lock_order(2))
        chain.once_verified(now_sleep, 0.01)
        await rig.until(lambda: len(done) == 3)
        assert not done[2]


@looped
async def test_undock_to_the_lock_call_takes_under_ten_milliseconds(tmp_path: Path) -> None:
    """From the order to the call as the far side of the bus stamps it, 50 times."""
    async with enforcing(tmp_path) as (rig, chain):
        rig.logind.add(SimSession("2"))
        took = []
        for number in range(0, 100, 2):
            order = lock_order(number)
            chain.lock(order)
            await rig.until(lambda: any(o.decision == order.decision for o in rig.of(LockOutcome)))  # noqa: B023
            first = next(at for at in rig.logind.times("LockSessions") if at > order.cause.at)
            took.append(first - order.cause.at)
            chain.release(release_order(number + 1))
        assert sorted(took)[len(took) * 95 // 100] < 10_000_000
