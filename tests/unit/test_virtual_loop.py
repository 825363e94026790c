"""The virtual loop: asyncio as production uses it, in the world's time; sleep, and death at any instant."""

from __future__ import annotations

import asyncio

import pytest

from agent.core.types import SECOND, BootNs
from simulator.virtual.agenda import Agenda
from simulator.virtual.loop import Killed, VirtualLoop


@pytest.fixture
def agenda() -> Agenda:
    return Agenda()


@pytest.fixture
def loop(agenda: Agenda) -> VirtualLoop:
    return VirtualLoop(agenda)


def test_things_happen_in_order_of_time_and_of_making(agenda: Agenda) -> None:
    seen: list[str] = []
    agenda.after(2, lambda: seen.append("later"))
    agenda.after(1, lambda: seen.append("first"))
    agenda.after(1, lambda: seen.append("second"))
    agenda.after(1, lambda: seen.append("never")).cancel()
    agenda.run_until(BootNs(2))
    assert seen == ["first", "second", "later"]
    assert agenda.now == 2


def test_what_is_asked_for_in_the_past_happens_now(agenda: Agenda) -> None:
    agenda.run_until(BootNs(10))
    seen: list[int] = []
    agenda.at(BootNs(3), lambda: seen.append(agenda.now))
    agenda.run_until(BootNs(10))
    assert seen == [10]


def test_time_jumps_to_the_next_timer(loop: VirtualLoop, agenda: Agenda) -> None:
    async def work() -> float:
        await asyncio.wait_for(asyncio.sleep(3600), 7200)
        return asyncio.get_running_loop().time()

    assert loop.run_until_complete(work()) == 3600
    assert agenda.now == 3600 * SECOND


def test_waiting_has_its_time_limit(loop: VirtualLoop, agenda: Agenda) -> None:
    async def work() -> None:
        never = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait({never}, timeout=1.5)
        assert not done
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.Event().wait()

    loop.run_until_complete(work())
    assert agenda.now == 2 * SECOND


def test_a_timer_never_comes_before_its_nanosecond(loop: VirtualLoop, agenda: Agenda) -> None:
    at = 1_234_567_890_123_456_789
    agenda.run_until(BootNs(at - 7))
    seen: list[int] = []
    loop.call_later(7 / SECOND, lambda: seen.append(agenda.now))
    agenda.run_until(BootNs(at + 1))
    assert seen
    assert seen[0] >= at


def test_what_one_loop_makes_ready_on_another_takes_no_time(loop: VirtualLoop, agenda: Agenda) -> None:
    other, seen = VirtualLoop(agenda), []
    loop.call_soon(
        lambda: other.call_soon_threadsafe(lambda: loop.call_soon(lambda: seen.append(agenda.now)))
    )
    agenda.after(5, lambda: None)
    agenda.run_until(BootNs(5))
    assert seen == [0]


def test_each_loop_is_the_running_one_in_its_own_callbacks(loop: VirtualLoop, agenda: Agenda) -> None:
    other = VirtualLoop(agenda)
    seen: list[object] = []

    def outer() -> None:
        other.enter(lambda: seen.append(asyncio.get_running_loop()))
        seen.append(asyncio.get_running_loop())

    loop.enter(outer)
    assert seen == [other, loop]


def test_nothing_brings_it_about_is_an_error_and_not_for_ever(loop: VirtualLoop) -> None:
    with pytest.raises(RuntimeError, match="waits for something"):
        loop.run_until_complete(loop.create_future())


def test_what_nobody_handles_ends_the_world(loop: VirtualLoop, agenda: Agenda) -> None:
    def defect() -> None:
        raise ZeroDivisionError

    loop.call_later(1, defect)
    with pytest.raises(ZeroDivisionError):
        agenda.run_until(BootNs(2 * SECOND))


# --- sleep ------------------------------------------------------------------------------------------------


def test_asleep_its_time_stands_still_and_the_worlds_goes_on(loop: VirtualLoop, agenda: Agenda) -> None:
    seen: list[float] = []
    loop.call_later(10, lambda: seen.append(agenda.now / SECOND))
    agenda.run_until(BootNs(4 * SECOND))
    loop.freeze()
    agenda.run_until(BootNs(100 * SECOND))
    assert loop.time() == 4
    assert seen == []
    loop.thaw()
    agenda.run_until(BootNs(200 * SECOND))
    assert seen == [106]


def test_what_comes_for_a_sleeping_loop_waits_until_it_wakes(loop: VirtualLoop, agenda: Agenda) -> None:
    seen: list[str] = []
    loop.freeze()
    loop.enter(lambda: seen.append("entered"))
    loop.call_soon_threadsafe(lambda: seen.append("called"))
    timer = loop.call_later(1, lambda: seen.append("cancelled"))
    agenda.run_until(BootNs(SECOND))
    assert seen == []
    timer.cancel()
    loop.thaw()
    agenda.run_until(BootNs(3 * SECOND))
    assert seen == ["entered", "called"]


# --- death ------------------------------------------------------------------------------------------------


def test_a_killed_loop_runs_nothing_more(loop: VirtualLoop, agenda: Agenda) -> None:
    seen: list[str] = []
    loop.call_later(1, lambda: seen.append("timer"))
    loop.call_soon(lambda: seen.append("ready"))
    loop.kill()
    loop.enter(lambda: seen.append("entered"))
    loop.call_soon(lambda: seen.append("called"))
    agenda.run_until(BootNs(2 * SECOND))
    assert seen == []


def test_a_kill_unwinds_what_is_under_way(loop: VirtualLoop, agenda: Agenda) -> None:
    seen: list[str] = []

    async def effects() -> None:
        seen.append("one")
        if len(seen) == 1:
            loop.kill()
            raise Killed
        seen.append("two")

    async def other() -> None:
        await asyncio.sleep(1)
        seen.append("other")

    loop.enter(lambda: [loop.create_task(other()), loop.create_task(effects())].clear())
    agenda.run_until(BootNs(5 * SECOND))
    assert seen == ["one"]


def test_a_hung_loop_is_noticed(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.virtual.loop.TURN_LIMIT", 100)

    def again() -> None:
        loop.call_soon(again)

    with pytest.raises(RuntimeError, match="hung"):
        loop.enter(again)


def test_tasks_of_a_killed_process_unwind_in_the_order_of_their_making(loop: VirtualLoop) -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    tasks: list[asyncio.Task[None]] = []
    loop.enter(lambda: tasks.extend(loop.create_task(work(number)) for number in range(100)))
    loop.kill()
    assert ended == list(range(100))
