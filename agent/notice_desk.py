"""What the officer's notice is told: state, reason, time left and grants, as soon as they change.

A verb of the officer's socket, which every local user may ask: it says what the screen shows anyway, no
evidence and no record. It answers when something changed since ``seen``, or after a while.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from agent.control import Refusal, Verb
from agent.core import explain
from agent.core.state import State
from agent.core.types import BootNs, Effects, Observation
from agent.runtime import Runtime

HOLD_S = 2.0  # ours: also how often an agent shows the notice that it lives


class NoticeDesk:
    """Answers ``notice``; a watcher of the runtime."""

    def __init__(self, device: str, now: Callable[[], BootNs]) -> None:
        self._device = device
        self._now = now
        self._runtime: Runtime | None = None
        self._shown: tuple[object, ...] = (None,) * 5
        self._revision = 0
        self._changed = asyncio.Event()  # replaced at each change: whoever waits has the one of then

    def attach(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def watch(self, _observation: Observation, state: State, _effects: Effects) -> None:
        """A watcher of the runtime: called for every step, and so it compares what was, not what it says."""
        tether, grants = state.tether, state.grants
        shown = (tether.state, tether.decision, tether.reserved_ns, state.posture, grants)
        if any(one is not other for one, other in zip(shown, self._shown, strict=True)):
            news = shown != self._shown
            self._shown = shown
            if not news:
                return
            self._revision += 1
            self._changed.set()
            self._changed = asyncio.Event()

    def verbs(self) -> dict[str, Verb]:
        return {"notice": Verb(self._notice)}

    async def _notice(self, args: Mapping[str, Any]) -> object:
        seen = args.get("seen")
        if seen is not None and type(seen) is not int:
            raise Refusal("bad_request", f"seen: expected a revision, came {seen!r}", "see docs/operating.md")
        if seen == self._revision:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD_S):
                    await self._changed.wait()
        return self._told()

    def _told(self) -> dict[str, Any]:
        runtime = self._runtime
        if runtime is None or not runtime.state.started:
            raise Refusal("starting", "the agent is still starting", "try again in a moment")
        whole = explain.status(runtime.state, runtime.policy, self._now())
        decision = runtime.state.tether.decision
        return {
            "revision": self._revision,
            "device": self._device,
            "tether": {key: whole["tether"][key] for key in ("state", "usable", "ride_through_ms_left")},
            "rule": decision.rule,
            "because": decision.because,
            "grants": whole["grants"],
        }
