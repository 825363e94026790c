"""The deadline timer on CLOCK_BOOTTIME."""

from __future__ import annotations

import asyncio
import time

from agent import clock
from agent.boot_timer import BootTimer
from agent.core.types import MS, SECOND, BootNs
from tests.aio import looped


def now() -> BootNs:
    return BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class Fired:
    def __init__(self) -> None:
        self.at: list[BootNs] = []
        self._event = asyncio.Event()
        self.timer = BootTimer(asyncio.get_running_loop(), self)

    def __call__(self) -> None:
        self.at.append(now())
        self._event.set()

    async def wait(self) -> BootNs:
        self._event.clear()
        async with asyncio.timeout(5):
            await self._event.wait()
        return self.at[-1]


@looped
async def test_never_early_and_soon_after() -> None:
    fired = Fired()
    for milliseconds in (1, 5, 20):
        deadline = BootNs(now() + milliseconds * MS)
        fired.timer.set(deadline)
        assert deadline <= await fired.wait() < deadline + 2 * SECOND
    fired.timer.close()


@looped
async def test_a_deadline_in_the_past_comes_at_once() -> None:
    fired = Fired()
    for deadline in (BootNs(0), BootNs(-5), BootNs(now() - SECOND)):
        fired.timer.set(deadline)
        await fired.wait()
    fired.timer.close()


@looped
async def test_only_the_deadline_set_last_counts_and_none_is_none() -> None:
    fired = Fired()
    fired.timer.set(BootNs(now() + 1 * MS))
    fired.timer.set(None)
    fired.timer.set(BootNs(now() + 3600 * SECOND))
    later = BootNs(now() + 30 * MS)
    fired.timer.set(later)
    await fired.wait()
    assert len(fired.at) == 1
    assert fired.at[0] >= later
    fired.timer.close()
    fired.timer.close()


@looped
async def test_a_timer_set_anew_between_expiry_and_the_loops_turn_does_not_fire() -> None:
    fired = Fired()
    fired.timer.set(BootNs(0))
    fired.timer.set(None)
    other = Fired()
    other.timer.set(BootNs(now() + 10 * MS))
    await other.wait()
    assert fired.at == []
    fired.timer.close()
    other.timer.close()


def test_the_clock_of_decisions_is_the_one_that_nobody_can_set() -> None:
    before = now()
    assert before <= clock.boot_now() <= now()
