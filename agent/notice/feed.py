"""Follows the agent through its control socket, as the user that the notice runs as.

It listens to events, and asks for the status after each, every few seconds, and while a ride-through runs
every second, because that can grow without an event. An agent that does not answer in time counts as silent,
however open its socket is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from agent.core.types import BootNs
from agent.logs import Cycle
from agent.notice.view import SILENT, Report, report

POLL_S = 5.0  # ours: also how late a stopped agent is noticed, with ANSWER_S
POLL_SOON_S = 1.0  # ours: while something runs out
ANSWER_S = 2.0  # ours: the agent answers in milliseconds
ACT_S = 12.0  # ours: what it grants is recorded first; it gives its own handlers 10 s
RETRY_S = 1.0  # ours
LINE_MAX = 1 << 20  # bytes, ours: a status is some kB

log = structlog.get_logger()


class Refused(Exception):
    """The agent said no, or nothing: a code of docs/operating.md (or "silent"), and its words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Feed:
    """``said`` is the newest report; ``changed`` is called whenever it may be another."""

    def __init__(self, path: Path, now: Callable[[], BootNs], changed: Callable[[], None]) -> None:
        self.said: Report = SILENT
        self._path = path
        self._now = now
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self._stirred = asyncio.Event()
        self._outage = Cycle(log, "notice.agent_silent")

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="follow the agent")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def refresh(self) -> None:
        """Ask again soon: something was just asked of the agent."""
        self._stirred.set()

    async def ask(self, verb: str, args: Mapping[str, Any]) -> Any:
        """Ask the agent for something, on a connection of its own.

        Raises:
            Refused: it will not, or does not answer.
        """
        try:
            async with asyncio.timeout(ACT_S):
                connection = await _Connection.open(self._path)
                try:
                    return await connection.ask(verb, args)
                finally:
                    connection.close()
        except (OSError, ValueError, TimeoutError) as error:
            raise Refused("silent", str(error) or "no answer in time") from None

    async def _follow(self) -> None:
        while True:
            try:
                await self._one_connection()
            except (OSError, ValueError, TypeError, KeyError, TimeoutError, Refused) as error:
                self._outage.failed(error=str(error) or type(error).__name__)
            self._say(SILENT)
            await asyncio.sleep(RETRY_S)

    async def _one_connection(self) -> None:
        async with asyncio.timeout(ANSWER_S):
            connection = await _Connection.open(self._path, self._stirred.set)
        try:
            async with asyncio.timeout(ANSWER_S):
                await connection.ask("subscribe", {})
            while True:
                self._stirred.clear()
                async with asyncio.timeout(ANSWER_S):
                    status = await connection.ask("status", {})
                    why = await connection.ask("why", {"topic": "tether"})
                self._say(report(status, why, self._now()))
                self._outage.ended()
                await self._wait_for_news(connection)
        finally:
            connection.close()

    async def _wait_for_news(self, connection: _Connection) -> None:
        pause_s = POLL_S if self.said.until is None else POLL_SOON_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stirred.wait()
        if connection.ended:
            raise ConnectionError("the agent closed the connection")

    def _say(self, said: Report) -> None:
        self.said = said
        self._changed()


class _Connection:
    """Requests and their answers; ``event`` is called for every event, and at the end."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, event: Callable[[], None]
    ) -> None:
        self.ended = False
        self._writer = writer
        self._event = event
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._task = asyncio.create_task(self._read(reader), name="read from the agent")

    @classmethod
    async def open(cls, path: Path, event: Callable[[], None] = lambda: None) -> _Connection:
        return cls(*await asyncio.open_unix_connection(path, limit=LINE_MAX), event)

    async def ask(self, verb: str, args: Mapping[str, Any]) -> Any:
        if self.ended:
            raise ConnectionError("the agent closed the connection")
        number = next(self._ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._writer.write(json.dumps({"id": number, "verb": verb, "args": dict(args)}).encode() + b"\n")
            return await answer
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        self._task.cancel()
        self._writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        why: Exception = ConnectionError("the agent closed the connection")
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            why = ConnectionError(f"not an agent: {error}")
        finally:
            self.ended = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(why)
            self._event()

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._event()
            return
        number = message.get("id")
        if number is None:  # turned away at the door
            raise ValueError(message["error"]["message"])
        answer = self._waiting.get(number)
        if answer is None or answer.done():
            return
        if message["ok"] is True:
            answer.set_result(message["result"])
        else:
            answer.set_exception(Refused(message["error"]["code"], message["error"]["message"]))
