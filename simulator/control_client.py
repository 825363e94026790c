"""A client of the agent's control socket, as other software on the tablet would be one.

Connects again by itself: the agent comes and goes. What it last said is ``status``, None while it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RETRY_S = 0.05  # ours: how often to look for the agent
LINE_LIMIT = 1 << 20  # bytes


class ControlClient:
    """Subscribes. ``on_event`` gets each event, and {"event": "here"} or "gone" as the agent does."""

    def __init__(self, path: Path, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._path = path
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._writer is not None

    def start(self) -> None:
        self._task = asyncio.create_task(self._stay())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def ask(self, verb: str, **arguments: object) -> Any:
        """The result of a request.

        Raises:
            ConnectionError: the agent is not there, went away, or refused; the message says which.
        """
        if self._writer is None:
            raise ConnectionError(f"{verb}: no agent listens on {self._path}")
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(json.dumps({"id": number, "verb": verb, "args": arguments}).encode() + b"\n")
            return await self._waiting[number]
        finally:
            del self._waiting[number]

    async def _stay(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, self._writer = await asyncio.open_unix_connection(self._path, limit=LINE_LIMIT)
                self._on_event({"event": "here"})
                try:
                    await self._listen(reader)
                finally:
                    self._writer.transport.abort()
                    self._writer = None
                    for waiting in self._waiting.values():
                        if not waiting.done():
                            waiting.set_exception(ConnectionError("the agent went away"))
                    self._on_event({"event": "gone"})
            await asyncio.sleep(RETRY_S)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        assert self._writer is not None  # noqa: S101 - narrowing: the caller has just connected
        self._writer.write(b'{"id": 0, "verb": "subscribe"}\n')
        while (line := await reader.readline()).endswith(b"\n"):  # what a kill cut off is no line
            said = json.loads(line)
            if "event" in said:
                self._on_event(said)
                continue
            waiting = self._waiting.get(said["id"])
            if waiting is None or waiting.done() or "progress" in said:
                continue
            if said["ok"]:
                waiting.set_result(said["result"])
            else:
                waiting.set_exception(ConnectionError(said["error"]["message"]))
