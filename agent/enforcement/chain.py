"""Runs the configured enforcement actions in their order, and reports what came of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from agent.core.types import BootNs, Lock, LockOutcome, Observation, Release
from agent.enforcement.base import EnforcementAction, Outcome

log = structlog.get_logger()


class Chain:
    """Carries ``Lock`` and ``Release`` out.

    Decisions are numbered. One that is older than the newest seen does nothing; an equal lock locks
    again (the session was used meanwhile). Every lock has exactly one LockOutcome for each action, also
    when a newer decision supersedes it.
    """

    def __init__(
        self,
        actions: Sequence[EnforcementAction],
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
    ) -> None:
        self._actions = actions
        self._observe = observe
        self._now = now
        self._newest = -1
        self._locked = False
        self._running: set[asyncio.Future[Outcome]] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        self.ignored = 0

    async def start(self) -> None:
        for action in self._actions:
            await action.start()

    async def close(self) -> None:
        """Stop keeping watch; what is locked stays locked."""
        for task in self._waiting:
            task.cancel()
        running = list(self._running)
        self._cancel(running)
        if running:
            await asyncio.wait(running)
        for action in self._actions:
            await action.close()

    def lock(self, order: Lock) -> None:
        """Begin every action's lock before returning."""
        if order.decision < self._newest:
            self._ignore("lock", order.decision)
            return
        self._newest, self._locked = order.decision, True
        superseded = list(self._running)
        for action in self._actions:
            begun = self._now()
            try:
                future = asyncio.ensure_future(action.lock(order))
            except Exception as error:  # a site's action must not keep the next one from locking
                log.error("enforcement.action_failed", action=action.name, error=str(error), exc_info=True)
                self._observe(LockOutcome(self._now(), order.decision, action.name, False, 0, repr(error)))
                continue
            self._running.add(future)
            future.add_done_callback(partial(self._ended, action.name, order, begun))
        self._cancel(superseded)

    def release(self, order: Release) -> None:
        """End every action's lock, unless a newer decision locked."""
        if order.decision < self._newest or (order.decision == self._newest and self._locked):
            self._ignore("release", order.decision)
            return
        self._newest, self._locked = order.decision, False
        self._cancel(list(self._running))
        for action in self._actions:
            try:
                action.release(order)
            except Exception as error:  # nor from ending its prohibition
                log.error("enforcement.action_failed", action=action.name, error=str(error), exc_info=True)

    def once_verified(self, do: Callable[[], None], within_s: float) -> None:
        """Call ``do`` when every lock has its outcome or the time is over; at once if none is under way.

        For the inhibitor of a sleep: a tablet that sleeps before its screen locker ran shows the session
        for a moment when it wakes.
        """
        if not self._running:
            do()
            return

        async def wait() -> None:
            await asyncio.wait(list(self._running), timeout=within_s)
            do()

        task = asyncio.create_task(wait(), name="locked before sleep")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    def status(self) -> dict[str, object]:
        """What `ivmactl status` shows, as JSON."""
        return {
            "decision": self._newest if self._newest >= 0 else None,
            "locked": self._locked,
            "ignored": self.ignored,
            "actions": {action.name: action.status() for action in self._actions},
        }

    def _ended(self, action: str, order: Lock, begun: BootNs, future: asyncio.Future[Outcome]) -> None:
        self._running.discard(future)
        if future.cancelled():
            outcome = Outcome(False, self._now() - begun, "superseded before it was verified")
        elif error := future.exception():
            log.error("enforcement.action_failed", action=action, exc_info=error)
            outcome = Outcome(False, self._now() - begun, repr(error))
        else:
            outcome = future.result()
        if not outcome.ok:
            log.warning(
                "enforcement.not_verified", action=action, decision=order.decision, detail=outcome.detail
            )
        self._observe(
            LockOutcome(self._now(), order.decision, action, outcome.ok, outcome.took_ns, outcome.detail)
        )

    def _cancel(self, futures: Sequence[asyncio.Future[Outcome]]) -> None:
        for future in futures:
            future.cancel()

    def _ignore(self, what: str, decision: int) -> None:
        self.ignored += 1
        log.warning("enforcement.stale_decision", what=what, decision=decision, newest=self._newest)
