"""Power without logind, for development: prints what logind would be asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable
from typing import TextIO

from agent.core.types import BootNs, Observation, PowerOutcome, PowerVerb, ShutdownSignal, SleepSignal

DELAY_S = 5.0  # logind.conf(5): InhibitDelayMaxSec is 5 s by default


class ConsolePower:
    """For development: prints ``{"power": verb, "boot_ns"}`` where logind would act.

    Signals come as from logind, the delay included. SIGCONT is the resume, so a rig may stop the process
    for the time of the sleep.
    """

    def __init__(
        self,
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
        stream: TextIO | None = None,
    ) -> None:
        self._observe = observe
        self._now = now
        self._stream = stream or sys.stdout
        self._pending: PowerVerb | None = None
        self._asleep = False
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        with contextlib.suppress(ValueError, RuntimeError):  # not the main thread: nobody will resume us
            asyncio.get_running_loop().add_signal_handler(signal.SIGCONT, self.resumed)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def request(self, verb: PowerVerb) -> None:
        if self._pending is not None:
            self._observe(
                PowerOutcome(self._now(), verb, False, f"{self._pending.value} is already under way")
            )
            return
        self._pending = verb
        self._timer = asyncio.get_running_loop().call_later(DELAY_S, self.allow_sleep)
        self._observe(PowerOutcome(self._now(), verb, True, ""))
        self._observe(
            SleepSignal(self._now(), True) if verb is PowerVerb.SUSPEND else ShutdownSignal(self._now(), True)
        )

    def allow_sleep(self) -> None:
        verb, self._pending = self._pending, None
        if verb is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._asleep = verb is PowerVerb.SUSPEND
            self._stream.write(json.dumps({"power": verb.value, "boot_ns": self._now()}) + "\n")
            self._stream.flush()

    def wake_at(self, at: BootNs | None) -> None:
        """Printed, where the machine would be woken."""
        self._stream.write(json.dumps({"wake_at": at}) + "\n")
        self._stream.flush()

    def resumed(self) -> None:
        """The machine woke up."""
        if self._asleep:
            self._asleep = False
            self._observe(SleepSignal(self._now(), False))

    def status(self) -> dict[str, object]:
        return {"inhibitor": self._pending is None, "inhibitor_failures": 0}
