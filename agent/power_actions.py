"""Suspend and power-off, and the delay inhibitor that gives the agent time to lock and commit first."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

import structlog

from agent.core.types import BootNs, PowerOutcome, PowerVerb, ShutdownSignal, SleepSignal
from agent.dbus_wire import BusError
from agent.enforcement.base import Surroundings
from agent.login1 import Login1
from agent.logs import Cycle

WHAT = "sleep:shutdown"
WHY = "lock the tablet and commit its records"
RETRY_S = 2.0  # ours: logind refuses an inhibitor while the operation it would delay is under way

log = structlog.get_logger()


class PowerActions(Protocol):
    """What the runtime needs of the machine's power."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    def request(self, verb: PowerVerb) -> None:
        """Ask for it; a PowerOutcome follows, then the Sleep- or ShutdownSignal of its beginning."""

    def allow_sleep(self) -> None:
        """Give up the delay: everything is locked and committed. It is taken again after the resume."""

    def wake_at(self, at: BootNs | None) -> None:
        """Have the machine woken from a sleep at that time; None: not."""

    def status(self) -> dict[str, object]: ...


class Alarm(Protocol):
    """Conforms to ``agent.wake_alarm.WakeAlarm``."""

    def set(self, at: BootNs | None) -> None: ...
    def status(self) -> dict[str, object]: ...
    def close(self) -> None: ...


class Wakeup(Protocol):
    """Conforms to ``drivers.ports.wakeup.Wakeup``."""

    def asleep(self) -> None: ...
    def reason(self) -> str: ...


class LogindPower:
    """Power through logind. Construct it before the bus is started.

    A delay lock is held from the start: to watch PrepareForSleep without one is a race
    (systemd's inhibitor documentation), and the tablet would sleep unlocked.
    """

    def __init__(self, around: Surroundings, alarm: Alarm, wakeup: Wakeup | None = None) -> None:
        self._alarm = alarm
        self._wakeup = wakeup
        self._observe = around.observe
        self._now = around.now
        self._login1 = Login1(around.bus())
        self._login1.on_prepare(self._sleep, self._shutdown)
        self._login1.on_presence(self._take, self._drop)
        self._inhibitor: int | None = None
        self._taking: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._refused = Cycle(log, "power.no_inhibitor")

    async def start(self) -> None:
        """Nothing to do: the inhibitor is taken as soon as logind is there."""

    async def close(self) -> None:
        tasks = [task for task in (self._taking, *self._requests) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._drop()
        self._alarm.close()

    def request(self, verb: PowerVerb) -> None:
        task = asyncio.create_task(self._request(verb, self._login1.power(verb)), name=f"power {verb.value}")
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    def allow_sleep(self) -> None:
        self._drop()

    def wake_at(self, at: BootNs | None) -> None:
        self._alarm.set(at)

    def status(self) -> dict[str, object]:
        return {
            "inhibitor": self._inhibitor is not None, "inhibitor_failures": self._refused.failures,
            **self._alarm.status(),
        }  # fmt: skip

    async def _request(self, verb: PowerVerb, call: asyncio.Future[tuple[object, ...]]) -> None:
        try:
            await call
        except BusError as error:
            log.warning("power.refused", verb=verb.value, error=str(error))
            self._observe(PowerOutcome(self._now(), verb, False, str(error)))
        else:
            self._observe(PowerOutcome(self._now(), verb, True, ""))

    def _sleep(self, starting: bool) -> None:
        reason = ""
        if self._wakeup is not None:
            if starting:
                self._wakeup.asleep()
            else:
                reason = self._wakeup.reason()
        self._signal(SleepSignal(self._now(), starting, reason))

    def _shutdown(self, starting: bool) -> None:
        self._signal(ShutdownSignal(self._now(), starting))

    def _signal(self, signal: SleepSignal | ShutdownSignal) -> None:
        self._observe(signal)
        if not signal.starting:
            self._take()

    def _take(self) -> None:
        if self._taking is None or self._taking.done():
            self._taking = asyncio.create_task(self._keep_trying(), name="inhibitor")

    async def _keep_trying(self) -> None:
        while self._inhibitor is None:
            try:
                self._inhibitor = await self._login1.inhibit(WHAT, WHY)
            except BusError as error:
                self._refused.failed(error=str(error), what_to_do="see systemd/50-ivma.rules for polkit")
                await asyncio.sleep(RETRY_S)
        self._refused.ended()

    def _drop(self) -> None:
        if self._inhibitor is not None:
            os.close(self._inhibitor)
            self._inhibitor = None
