"""The console action, for development: one line of JSON for each change, and nothing is locked."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Mapping
from typing import TextIO

from agent.core.types import Lock, Release
from agent.enforcement.base import EnforcementAction, Outcome, SettingsError, Surroundings


class ConsoleAction(EnforcementAction):
    """Prints ``{"enforcement": "lock"|"release", "decision", "rule", "boot_ns"}`` on standard output."""

    name = "console"

    def __init__(
        self, settings: Mapping[str, object], around: Surroundings, stream: TextIO | None = None
    ) -> None:
        if settings:
            raise SettingsError(f"enforcement.console: takes no settings, not {', '.join(sorted(settings))}")
        self._around = around
        self._stream = stream or sys.stdout

    def lock(self, order: Lock) -> Awaitable[Outcome]:
        asked = self._around.now()
        try:
            self._print("lock", order)
            outcome = Outcome(True, self._around.now() - asked, "printed")
        except OSError as error:
            outcome = Outcome(False, self._around.now() - asked, f"standard output: {error}")
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        done.set_result(outcome)
        return done

    def release(self, order: Release) -> None:
        self._print("release", order)

    def _print(self, what: str, order: Lock | Release) -> None:
        line = {
            "enforcement": what,
            "decision": order.decision,
            "rule": order.cause.rule,
            "boot_ns": self._around.now(),
        }
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
