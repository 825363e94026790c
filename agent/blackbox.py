"""The black box as the daemon has it: recorder, ring, and the verb that lets `ivmactl` read them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from agent.clock import boot_now
from agent.control import Verb
from agent.core.policy import Policy
from agent.trace import Recorder
from agent.trace_ring import Ring, RingThread

log = structlog.get_logger()

FOLDER = "trace"  # in the state folder


class BlackBox:
    """One run's trace in ``folder``, with ``size`` bytes at most. Nothing here raises on what a disk does."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._ring = RingThread(Ring(folder, size))
        self._recorder = Recorder(self._ring, boot_now, time.time_ns)
        self.watch = self._recorder.watch
        self.tap = self._recorder.tap

    def start(self, identity: Mapping[str, str], policy: Callable[[], Policy]) -> None:
        self._recorder.begin(identity, policy)
        self._ring.start()

    def close(self, timeout_s: float) -> None:
        """Write what is held; give up when the disk does not take it in time."""
        self._recorder.flush()
        if not self._ring.close(timeout_s):
            log.warning("trace.not_closed", folder=str(self._folder), waited_s=timeout_s)

    def status(self) -> dict[str, object]:
        return {**self._ring.status(), **self._recorder.status()}

    def verbs(self) -> dict[str, Verb]:
        # Only for those who may read the folder anyway; and each use is recorded.
        return {"trace": Verb(self._trace, changes=True, consults=True)}

    async def _trace(self, _args: Mapping[str, Any]) -> dict[str, object]:
        """Write what is held, then say where it is."""
        self._recorder.flush()
        await self._ring.written()
        return {"folder": str(self._folder), **self.status()}
