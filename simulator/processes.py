"""Processes of a rig: each with a log of its own, ended by its own id."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals

STOP_S = 10.0  # ours: an orderly end of the agent drains its queue for a while
LINE_LIMIT = 1 << 20  # bytes of one line of output


class Child:
    """One process. All that it says goes to its log, and line by line to ``on_line``."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.name = name
        self._argv = list(argv)
        self._log = log
        self._env = {**os.environ, **(env or {})}
        self._on_line = on_line
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Raises RuntimeError before the first start."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    async def start(self) -> None:
        """Raises RuntimeError while it runs: a second one would be nobody's to end."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already, as process {self.pid}")
        # A session of its own: Ctrl-C reaches the rig, and the rig ends its processes in order.
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._env,
            start_new_session=True,
            limit=LINE_LIMIT,
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def stop(self) -> int | None:
        """SIGTERM, after ``STOP_S`` SIGKILL; the exit status, or None if it never ran."""
        return await self._end(SIGTERM)

    async def kill(self) -> int | None:
        return await self._end(SIGKILL)

    def signal(self, number: Signals) -> None:
        """Send a signal, if it runs."""
        if self.running and self._process is not None:
            self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end by itself; the exit status."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        status = await self._process.wait()
        if self._reading is not None:
            await self._reading
        return status

    async def _end(self, how: Signals) -> int | None:
        if self._process is None:
            return None
        if self.running:
            self._process.send_signal(how)
            try:
                await asyncio.wait_for(self._process.wait(), STOP_S)
            except TimeoutError:
                self._process.kill()
        return await self.ended()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - narrowing: start() asked for a pipe
        with self._log.open("ab", buffering=0) as log:
            while line := await process.stdout.readline():
                log.write(line)
                self._on_line(line.decode(errors="replace").rstrip())
