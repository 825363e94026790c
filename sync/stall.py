"""The watch over the store's thread: whoever waits in the kernel for a disk cannot say so itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.core.types import SECOND

# Ours: no disk that works takes so long for one commit, and an officer waits no longer for a word.
STALL_S = 5


class StallWatch:
    """Tells on the loop when one piece of work has taken ``patience_s``, and how long it took in the end.

    The thread calls ``began`` and ``ended``; the rest is for the loop. ``waiting`` says whether there is
    anything to do: while there is not, no timer runs.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], int],
        waiting: Callable[[], bool],
        on_loop: Callable[[Callable[[], None]], None],
        begun: Callable[[], None],
        over: Callable[[int, int], None],
        patience_s: float = STALL_S,
    ) -> None:
        self._loop = loop
        self._now = now
        self._waiting = waiting
        self._on_loop = on_loop
        self._begun = begun
        self._over = over
        self._patience_s = patience_s
        self._patience_ns = int(patience_s * SECOND)
        self._since: int | None = None  # the thread's; read by the loop
        self._told: int | None = None  # since when, of the stall that was told
        self._timer: asyncio.TimerHandle | None = None

    # --- for the thread -----------------------------------------------------------------------------

    def began(self) -> None:
        self._since = self._now()

    def ended(self) -> None:
        since, self._since = self._since, None
        if since is not None and (lasted := self._now() - since) >= self._patience_ns:
            self._on_loop(lambda: self._ended(since, lasted))

    # --- for the loop -------------------------------------------------------------------------------

    @property
    def stalled_s(self) -> int | None:
        """For how long the disk has not answered; None while it does."""
        return None if self._told is None else (self._now() - self._told) // SECOND

    def expect(self) -> None:
        """There is something to do."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._patience_s, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        since = self._since
        if since is None:
            if self._waiting():
                self.expect()
        elif (left := since + self._patience_ns - self._now()) > 0:
            self._timer = self._loop.call_later(left / SECOND, self._look)
        elif self._told is None:
            self._told = since
            self._begun()

    def _ended(self, since: int, lasted: int) -> None:
        self._told = None
        self._over(since, lasted)
        if self._waiting():
            self.expect()
