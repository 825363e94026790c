"""Has the machine woken from its sleep at a time, by a timer on CLOCK_BOOTTIME_ALARM.

The kernel sets the hardware clock's alarm for it, and takes it back when the agent ends: nothing is left in a
machine whose agent is gone. It needs CAP_WAKE_ALARM (timerfd_create(2)) and a hardware clock that can wake.
"""

from __future__ import annotations

import os

import structlog

from agent import timerfd
from agent.core.types import BootNs

WHAT_TO_DO = "give ivma-agent.service CAP_WAKE_ALARM; see docs/power.md"

log = structlog.get_logger()


class WakeAlarm:
    """One alarm. Where the kernel gives none, that is said once, and the machine sleeps on."""

    def __init__(self, clock: int = timerfd.CLOCK_BOOTTIME_ALARM) -> None:
        self._clock = clock
        self._fd = -1
        self._refused = False
        self.at: BootNs | None = None

    def set(self, at: BootNs | None) -> None:
        """Replace the alarm (boot ns); None: none."""
        if at is None and self._fd < 0:
            return
        try:
            if self._fd < 0:
                self._fd = timerfd.create(self._clock)
            timerfd.arm(self._fd, at)
        except OSError as error:
            self.at = None
            if not self._refused:
                self._refused = True
                log.warning("power.no_wake_alarm", error=str(error), what_to_do=WHAT_TO_DO)
            return
        self.at = at

    def fileno(self) -> int:
        """The timer's descriptor; -1 while there is none."""
        return self._fd

    def expired(self) -> bool:
        """Whether the alarm came since it was set last."""
        return self._fd >= 0 and timerfd.expired(self._fd)

    def status(self) -> dict[str, object]:
        return {"wake_alarm_at": self.at, "wake_alarm_refused": self._refused}

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd, self.at = -1, None
