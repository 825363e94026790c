"""The alarm on the kernel's own timers; a clock that cannot wake shows what a refusal does."""

from __future__ import annotations

import select
import time

from structlog.testing import capture_logs

from agent import timerfd
from agent.core.types import SECOND, BootNs
from agent.wake_alarm import WakeAlarm


def boot_now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_it_comes_once_and_what_was_taken_back_does_not() -> None:
    alarm = WakeAlarm(timerfd.CLOCK_BOOTTIME)
    alarm.set(BootNs(boot_now() + SECOND // 50))
    assert alarm.status()["wake_alarm_at"] is not None
    select.select([alarm.fileno()], [], [], 60)
    assert alarm.expired()
    assert not alarm.expired()
    alarm.set(BootNs(1))
    alarm.set(None)
    assert not alarm.expired()
    assert alarm.status()["wake_alarm_at"] is None
    alarm.close()
    alarm.close()


def test_a_refused_alarm_is_said_once_with_what_to_do_and_stops_nothing() -> None:
    alarm = WakeAlarm(clock=99)  # no such clock
    with capture_logs() as said:
        alarm.set(BootNs(boot_now() + SECOND))
        alarm.set(BootNs(boot_now() + SECOND))
    assert [entry["event"] for entry in said] == ["power.no_wake_alarm"]
    assert "CAP_WAKE_ALARM" in said[0]["what_to_do"]
    assert "clock 99" in said[0]["error"]
    assert alarm.status() == {"wake_alarm_at": None, "wake_alarm_refused": True}
    assert not alarm.expired()


def test_taking_back_what_was_never_set_asks_the_kernel_for_nothing() -> None:
    alarm = WakeAlarm(clock=99)
    alarm.set(None)
    assert alarm.status() == {"wake_alarm_at": None, "wake_alarm_refused": False}
