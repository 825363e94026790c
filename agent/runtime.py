"""The loop: inbox -> step -> tightening effects -> commit -> the other effects, and one deadline timer.

There is one total order of observations. Whatever sees something calls ``observe`` on the loop; nothing
here reads a device, and nothing here decides.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from agent.core.machine import next_deadline, step
from agent.core.policy import Policy
from agent.core.records import Record
from agent.core.state import State
from agent.core.types import (
    Basis,
    BeginLease,
    BootNs,
    DeadlineReached,
    Effect,
    Effects,
    KeepGrant,
    Lock,
    Observation,
    Order,
    Release,
    Remember,
    Remembered,
    Write,
)

log = structlog.get_logger()

AFTER_COMMIT = Order.AFTER_COMMIT  # by its own name: to look a member up in its class is slow

# Reentrant observations only: a step's effects may be answered at once. Far more than one step can cause.
INBOX_LIMIT = 1024
# A loosening that rests on fresh proof waits this long for a slow or failed store (2-behaviour, ours).
PROOF_WAIT_S = 1.0
# Sleeping and powering off wait at most what logind grants an inhibitor by default (InhibitDelayMaxSec).
POWER_WAIT_S = 5.0


class Ledger(Protocol):
    """Where records become durable."""

    def commit(self, records: Sequence[Record], remember: Remembered | None) -> asyncio.Future[object]:
        """Commit all in one transaction; the future ends when they are durable by their class."""


class Timer(Protocol):
    def set(self, at: BootNs | None) -> None: ...


class LockMarker(Protocol):
    """A note of a lock that is not committed yet; the next start records what a crash left unrecorded."""

    def set(self, decision: int, rule: str) -> None: ...
    def clear(self, decision: int) -> None: ...


class Emergency(Protocol):
    """Where records are kept of what takes effect although they are not durable."""

    def keep(self, records: Sequence[Record]) -> None: ...
    def forget(self) -> None: ...


Watcher = Callable[[Observation, State, Effects], None]


class Runtime:
    """Runs the core. Not thread-safe: everything happens on the loop that it was made in."""

    def __init__(
        self,
        state: State,
        policy: Policy,
        *,
        ledger: Ledger,
        run: Callable[[Effect], None],
        marker: LockMarker,
        now: Callable[[], BootNs],
        watchers: Sequence[Watcher] = (),
        emergency: Emergency | None = None,
    ) -> None:
        self.state = state
        self.policy = policy
        self.steps = 0
        self.dropped = 0
        self._ledger = ledger
        self._run = run
        self._marker = marker
        self._emergency = emergency
        self._now = now
        self._watchers = list(watchers)
        self._timer: Timer | None = None
        self._deadline: BootNs | None = None
        self._inbox: deque[Observation] = deque()
        self._busy = False
        self._waiting: set[asyncio.Task[None]] = set()

    def arm_with(self, timer: Timer) -> None:
        """Give the runtime its timer, whose callback is ``deadline``."""
        self._timer = timer
        self._arm()

    def observe(self, observation: Observation) -> None:
        """Take an observation in; it is worked off before this returns, unless a step is running."""
        if self._busy:
            if len(self._inbox) >= INBOX_LIMIT:
                self.dropped += 1
            else:
                self._inbox.append(observation)
            return
        self._busy = True
        try:
            self._one(observation)
            while self._inbox:
                self._one(self._inbox.popleft())
        finally:
            self._busy = False
        self._arm()

    def deadline(self) -> None:
        """The timer's callback."""
        self._deadline = None
        self.observe(DeadlineReached(self._now()))

    def change_policy(self, policy: Policy) -> None:
        """Put another policy in force at once."""
        self.policy = policy
        self.deadline()

    async def settle(self) -> None:
        """Wait until every effect that waits for a commit has run."""
        while self._waiting:
            await asyncio.wait(self._waiting)

    def _one(self, observation: Observation) -> None:
        self.state, effects = step(self.state, observation, self.policy)
        self.steps += 1
        if effects:
            self._carry_out(effects)
        for watch in self._watchers:
            watch(observation, self.state, effects)

    def _carry_out(self, effects: Effects) -> None:
        records: list[Record] = []
        remember: Remembered | None = None
        later: list[Effect] = []
        keeps: list[Effect] = []  # apart: what waits for a permit's slice must not hold up a proof
        locked: int | None = None
        # A lock that stands is asked for again after a restart or a defiance; its record is from before.
        to_record = any(isinstance(effect, Write) for effect in effects)
        for effect in effects:
            if isinstance(effect, Write):
                records.append(effect.record)
            elif isinstance(effect, Remember):
                remember = effect.what
            elif isinstance(effect, KeepGrant):
                keeps.append(effect)
            elif effect.order is AFTER_COMMIT:
                later.append(effect)
            else:
                if isinstance(effect, Lock) and to_record:
                    self._marker.set(effect.decision, effect.cause.rule)
                    locked = effect.decision
                self._run(effect)
        if not (records or remember or later or keeps):
            return
        commit = self._ledger.commit(records, remember)
        if locked is not None or later:
            self._wait(commit, locked, later, records)
        if keeps:
            self._wait(commit, None, keeps, records)

    def _wait(
        self, commit: asyncio.Future[object], locked: int | None, later: list[Effect], records: list[Record]
    ) -> None:
        task = asyncio.get_running_loop().create_task(self._after(commit, locked, later, records))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _after(
        self, commit: asyncio.Future[object], locked: int | None, later: list[Effect], records: list[Record]
    ) -> None:
        await asyncio.wait({commit}, timeout=_patience_s(later))
        durable = commit.done() and commit.exception() is None
        if durable and locked is not None:
            self._marker.clear(locked)
        if not durable and later:
            log.warning("store.not_durable", effects=[type(effect).__name__ for effect in later])
            if records and any(_loosens_undurable(effect) for effect in later):
                self._keep(records, commit)
        for effect in later:
            if isinstance(effect, KeepGrant):
                self._run(replace(effect, kept=durable))  # the core is told either way
                continue
            if not durable and _needs_durability(effect):
                continue
            if isinstance(effect, Release | BeginLease) and _decision(effect) != self.state.decision:
                continue  # a newer decision has overtaken it
            self._run(effect)

    def _keep(self, records: list[Record], commit: asyncio.Future[object]) -> None:
        """Keep what takes effect now until its commit comes through, if it ever does."""
        emergency = self._emergency
        if emergency is None:
            return
        emergency.keep(records)

        def ended(commit: asyncio.Future[object]) -> None:
            if not commit.cancelled() and commit.exception() is None:
                emergency.forget()

        commit.add_done_callback(ended)

    def _arm(self) -> None:
        if self._timer is None:
            return
        deadline = next_deadline(self.state, self.policy)
        if deadline != self._deadline:
            self._deadline = deadline
            self._timer.set(deadline)


def _needs_durability(effect: Effect) -> bool:
    """A permit that the store does not hold could be used twice; proof and the override need no store."""
    if isinstance(effect, KeepGrant):
        return not effect.hurried
    return isinstance(effect, Release | BeginLease) and effect.basis not in (Basis.PROOF, Basis.OVERRIDE)


def _loosens_undurable(effect: Effect) -> bool:
    """It ends a prohibition although its record is not durable."""
    return isinstance(effect, Release | KeepGrant) and not _needs_durability(effect)


def _decision(effect: Release | BeginLease) -> int:
    return effect.decision if isinstance(effect, Release) else effect.lease.decision


def _patience_s(later: list[Effect]) -> float | None:
    """How long effects wait for a slow or failed store; None: until it is durable, or refused."""
    if not later or any(_needs_durability(effect) for effect in later):
        return None
    loosens = any(isinstance(effect, Release | BeginLease | KeepGrant) for effect in later)
    return PROOF_WAIT_S if loosens else POWER_WAIT_S
