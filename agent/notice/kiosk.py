"""Runs the site's browser while there is something to show, and ends it when there is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

import structlog

from agent.logs import Cycle

RETRY_FIRST_S, RETRY_MAX_S = 1.0, 30.0  # ours: a browser that does not start
LASTED_S = 10.0  # ours: one that ran for so long had started
END_S = 3.0  # ours: to end by itself, before it is killed

log = structlog.get_logger()


class Kiosk:
    """One process group: ``argv`` with "{page}" replaced by the address of the start page."""

    def __init__(self, argv: Sequence[str], page: str) -> None:
        self._argv = [word.replace("{page}", page) for word in argv]
        self._wanted = asyncio.Event()
        self._unwanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._trouble = Cycle(log, "notice.browser_failed")

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name="browser")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def show(self, on: bool) -> None:
        if on:
            self._unwanted.clear()
            self._wanted.set()
        else:
            self._wanted.clear()
            self._unwanted.set()

    async def _keep(self) -> None:
        pause_s, loop = RETRY_FIRST_S, asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            begun = loop.time()
            why = await self._run_once()
            if why:
                self._trouble.failed(error=why, command=self._argv[0])
                pause_s = RETRY_FIRST_S if loop.time() - begun > LASTED_S else min(2 * pause_s, RETRY_MAX_S)
                await asyncio.sleep(pause_s)
            else:
                self._trouble.ended()

    async def _run_once(self) -> str:
        """Run it until it ends, which is a failure that is told, or is not wanted any more."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            return str(error)
        ended = asyncio.ensure_future(process.wait())
        unwanted = asyncio.ensure_future(self._unwanted.wait())
        try:
            await asyncio.wait({ended, unwanted}, return_when=asyncio.FIRST_COMPLETED)
            return f"ended with {ended.result()}" if ended.done() else ""
        finally:
            unwanted.cancel()
            if not ended.done():
                await self._end(process, ended)

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Future[int]) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ended), END_S)
                return
