"""Follows the agent through its officer's socket, as the user that the notice runs as.

The agent answers as soon as something changed, else every two seconds; that answer is also the sign that it
lives. One that does not answer in time counts as silent, however open its socket is.
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

ANSWER_S = 4.0  # ours: twice as long as the agent holds an answer back
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
        self._outage = Cycle(log, "notice.agent_silent")

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="follow the agent")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

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
            connection = await _Connection.open(self._path)
        try:
            seen: dict[str, Any] = {}
            while True:
                async with asyncio.timeout(ANSWER_S):
                    told = await connection.ask("notice", seen)
                self._say(report(told, self._now()))
                self._outage.ended()
                seen = {"seen": told["revision"]}
        finally:
            connection.close()

    def _say(self, said: Report) -> None:
        self.said = said
        self._changed()


class _Connection:
    """One request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)

    @classmethod
    async def open(cls, path: Path) -> _Connection:
        return cls(*await asyncio.open_unix_connection(path, limit=LINE_MAX))

    async def ask(self, verb: str, args: Mapping[str, Any]) -> Any:
        """Raises ConnectionError or ValueError: this is no agent; Refused: it will not."""
        number = next(self._ids)
        self._writer.write(json.dumps({"id": number, "verb": verb, "args": dict(args)}).encode() + b"\n")
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the agent closed the connection")
        answer = json.loads(line)
        try:
            if answer["ok"] is not True:
                raise Refused(str(answer["error"]["code"]), str(answer["error"]["message"]))
            if answer["id"] != number:
                raise ValueError(f"an answer to {answer['id']!r}, asked was {number}")
            return answer["result"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an answer: {line[:80]!r}") from error

    def close(self) -> None:
        self._writer.close()
