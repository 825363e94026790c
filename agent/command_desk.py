"""Signed commands of the control room: recorded, done once, answered by a record.

That a command is for this run and came once is seen in sync/orders.py. What tightens is done at once; what
does not waits until it is on record that it was asked for, and is not done if that cannot be recorded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from agent.control import Refusal
from agent.core.catalogue import COMMAND_ANSWERED, COMMAND_TAKEN, DIAGNOSTICS, ORDER_REFUSED
from agent.core.orders import Command, OrderRefused
from agent.core.records import Record
from agent.core.state import State
from agent.core.types import (
    SECOND,
    BootNs,
    Effects,
    GrantsRevoked,
    LockOrdered,
    Observation,
    PowerOutcome,
    PowerVerb,
)

log = structlog.get_logger()

TIGHTENING = ("lock", "revoke")
RECORD_S = 5.0  # ours: how long a command waits for its record
FLUSH_S = 20  # ours
LOGIND_S = 10.0  # ours
BUSY_MAX = 8  # ours: commands that are under way
SPACING_NS = 10 * SECOND  # ours: whoever sends rubbish must not flood the audit stream
BUNDLE_MAX = 256 * 1024  # characters, ours: a block of records holds twice as much


class Permits(Protocol):
    async def present(self, text: str) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Means:
    """What commands act on. ``flush`` sends what can be sent until a time: the records that are left."""

    observe: Callable[[Observation], None]
    record: Callable[[Record], asyncio.Future[Any]]
    now: Callable[[], BootNs]
    permits: Permits | None
    flush: Callable[[BootNs], Awaitable[int]]
    log_level: Callable[[str], str]  # "": as configured; returns the level in force
    bundle: Callable[[], Awaitable[object]]
    power: Callable[[PowerVerb], None]


class NotDone(Exception):
    """A command that could not be done; the text is its answer."""


class CommandDesk:
    """Does what comes; ``close`` lets nothing go on."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._tasks: set[asyncio.Task[None]] = set()
        self._rebooting: asyncio.Future[PowerOutcome] | None = None
        self._refused_at: BootNs | None = None
        self._unsaid = 0
        self.taken = 0

    def take(self, command: Command) -> None:
        """Do one command."""
        self.taken += 1
        log.info("command.taken", id=command.id, verb=command.verb)
        if command.verb in TIGHTENING:
            self._tighten(command)
        record = COMMAND_TAKEN.make(
            command.at, id=command.id, number=command.number, verb=command.verb, level=command.level
        )
        recorded = self._means.record(record)
        task = asyncio.get_running_loop().create_task(self._answer(command, recorded))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def refuse(self, refused: OrderRefused) -> None:
        """Record an order that is not obeyed, unless one was recorded a moment ago."""
        log.warning("order.refused", what=refused.what, reason=refused.reason, detail=refused.detail)
        if self._refused_at is not None and refused.at < self._refused_at + SPACING_NS:
            self._unsaid += 1
            return
        record = ORDER_REFUSED.make(
            refused.at, what=refused.what, reason=refused.reason, detail=refused.detail[:1000],
            before=self._unsaid,
        )  # fmt: skip
        self._refused_at, self._unsaid = refused.at, 0
        self._means.record(record)

    def watch(self, observation: Observation, _state: State, _effects: Effects) -> None:
        """A watcher of the runtime: what logind said to a reboot."""
        asked = self._rebooting
        if asked is None or asked.done() or not isinstance(observation, PowerOutcome):
            return
        if observation.verb is PowerVerb.REBOOT:
            asked.set_result(observation)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tighten(self, command: Command) -> None:
        at = self._means.now()
        self._means.observe(LockOrdered(at) if command.verb == "lock" else GrantsRevoked(at, "command", None))

    async def _answer(self, command: Command, recorded: asyncio.Future[Any]) -> None:
        done, detail = True, ""
        try:
            if command.verb not in TIGHTENING:
                await self._on_record(recorded)
                detail = await self._do(command)
        except NotDone as error:
            done, detail = False, str(error)
        except Refusal as error:
            done, detail = False, f"{error}; {error.hint}"
        log.info("command.answered", id=command.id, done=done, detail=detail)
        record = COMMAND_ANSWERED.make(
            self._means.now(), id=command.id, verb=command.verb, done=done, detail=detail[:1000]
        )
        self._means.record(record)

    async def _on_record(self, recorded: asyncio.Future[Any]) -> None:
        await asyncio.wait({recorded}, timeout=RECORD_S)
        if not recorded.done() or recorded.exception() is not None:
            raise NotDone("the store cannot record it: nothing was done")
        if len(self._tasks) > BUSY_MAX:
            raise NotDone(f"{BUSY_MAX} commands are under way already")

    async def _do(self, command: Command) -> str:
        means = self._means
        match command.verb:
            case "permit":
                if means.permits is None:
                    raise NotDone("this tablet takes no permits")
                return str((await means.permits.present(command.paper))["because"])
            case "flush":
                left = await means.flush(BootNs(means.now() + FLUSH_S * SECOND))
                return f"{left} records are not acknowledged" if left >= 0 else "the store did not say"
            case "log-level":
                return f"in force: {means.log_level(command.level)}, until the agent starts again"
            case "diagnostics":
                return await self._bundle(command)
            case "reboot":
                return await self._reboot()
            case verb:
                raise NotDone(f"this version does not know how to {verb}")

    async def _bundle(self, command: Command) -> str:
        text = json.dumps(await self._means.bundle(), separators=(",", ":"), default=str)
        if len(text) > BUNDLE_MAX:
            raise NotDone(f"the bundle has {len(text)} characters; {BUNDLE_MAX} fit a record")
        record = DIAGNOSTICS.make(self._means.now(), id=command.id, status=text)
        await self._on_record(self._means.record(record))
        return f"{len(text)} characters"

    async def _reboot(self) -> str:
        if self._rebooting is not None:
            raise NotDone("a reboot is under way already")
        self._rebooting = asyncio.get_running_loop().create_future()
        try:
            self._means.power(PowerVerb.REBOOT)
            async with asyncio.timeout(LOGIND_S):
                outcome = await self._rebooting
        except TimeoutError:
            raise NotDone("logind gives no answer") from None
        finally:
            self._rebooting = None
        if not outcome.ok:
            raise NotDone(outcome.detail)
        return "logind has begun it"
