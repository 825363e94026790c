"""What every port of a dock does: find it, open it, drive its session, and open it again when it was lost.

Every wake-up is timestamped once, where it comes in. What is opened, and how, says the port's own class.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable

import structlog

from agent.core.types import SECOND, BootNs, Counters, DriveOutputs, LinkLoss, Observation
from drivers.spec import DockSession

log = structlog.get_logger()

FIRST_RETRY_S, LAST_RETRY_S = 0.05, 1.0  # between tries to open the port; ours


class Link(ABC):
    """One dock behind one device node.

    ``locate`` says where it is: a path, or None when it is known to be absent, in which case nothing is tried
    before ``poke``. ``observe`` gets every observation, on the loop.
    """

    def __init__(
        self,
        session: DockSession,
        locate: Callable[[], str | None],
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
    ) -> None:
        self._session = session
        self._locate = locate
        self._observe = observe
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._path = ""
        self._counts: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: BootNs | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._retry_s = FIRST_RETRY_S
        self._warned = False
        self._closed = False

    # --- what a port's class says ---

    @property
    @abstractmethod
    def is_open(self) -> bool: ...

    @abstractmethod
    def _attach(self, path: str) -> None:
        """Open the device for ourselves and listen to it. Raises OSError."""

    @abstractmethod
    def _detach(self) -> None:
        """Listen no more and close it. Called only while it is open."""

    @abstractmethod
    def _put(self, data: bytes) -> None:
        """Write what the session has to say; there may be nothing."""

    # --- what the agent calls ---

    def start(self) -> None:
        """Open the port, now or as soon as it is there."""
        self._open()

    def close(self) -> None:
        """Close for good."""
        self._closed = True
        self._drop(LinkLoss.CLOSED)
        for timer in (self._timer, self._retry):
            if timer is not None:
                timer.cancel()

    def poke(self, gone: str | None = None) -> None:
        """Look again: udev saw a device come, or the one at the path ``gone`` go.

        Our own device that went is dropped at once: a list of devices may still name it.
        """
        if self._closed:
            return
        if not self.is_open:
            self._retry_s = FIRST_RETRY_S
            self._open()
        elif gone == self._path or self._locate() is None:
            self._drop(LinkLoss.UNPLUGGED)

    def drive(self, outputs: DriveOutputs) -> None:
        self._session.drive(outputs, self._now())
        self._settle(())

    def cut_power(self, seconds: int | None) -> None:
        self._session.cut_power(seconds, self._now())
        self._settle(())

    def prove(self) -> None:
        self._session.prove(self._now())
        self._settle(())

    def nudge(self) -> None:
        """The session was called past the port: see what it has to say, and when it wants its timer."""
        self._settle(())

    def counters(self) -> Counters:
        """What the session and the port dropped, by reason."""
        return Counters({**self._session.counters().values, **self._counts})

    @property
    def path(self) -> str | None:
        """The port that it holds; None: it has none open."""
        return self._path if self.is_open else None

    # --- opening and losing ---

    def _open(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        path = self._locate()
        if path is None:
            return
        try:
            self._attach(path)
        except OSError as error:
            self._counts["open_failed"] += 1
            self._warn("dock.open_failed", path, error.strerror or str(error))
            self._retry_later()
            return
        self._path = path
        self._counts["opened"] += 1
        log.info("dock.opened", dock=self._session.name, port=path)
        self._settle(self._session.link_up(self._now()))

    def _drop(self, reason: LinkLoss) -> None:
        """Close the device, then say so."""
        if self.is_open:
            self._detach()
            self._settle(self._session.link_lost(self._now(), reason))

    def _lost(self, problem: str) -> None:
        self._counts["lost"] += 1
        self._warn("dock.lost", self._path, problem)
        self._drop(LinkLoss.UNPLUGGED)
        self._retry_later()

    def _retry_later(self) -> None:
        if not self._closed:
            self._retry = self._loop.call_later(self._retry_s, self._open)
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    def _warn(self, event: str, path: str, problem: str) -> None:
        """WARNING at the first failure of a cycle, DEBUG until something is heard again."""
        write = log.debug if self._warned else log.warning
        self._warned = True
        write(event, dock=self._session.name, port=path, problem=problem, next_try_s=self._retry_s)

    # --- bytes and time ---

    def _take(self, data: bytes, at: BootNs) -> None:
        """Something was heard, for the session."""
        self._warned = False
        self._retry_s = FIRST_RETRY_S
        self._settle(self._session.feed(data, at))

    def _due(self) -> None:
        self._timer = self._deadline = None
        self._settle(self._session.timer(self._now()))

    def _settle(self, observations: Iterable[Observation]) -> None:
        """After every call of the session: write what it has to say, arm its timer, pass on what it saw."""
        self._put(self._session.outgoing())
        self._arm()
        for observation in observations:
            self._observe(observation)

    def _arm(self) -> None:
        deadline = None if self._closed else self._session.next_deadline()
        if deadline == self._deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._deadline = deadline
        if deadline is not None:
            delay_s = max(0, deadline - self._now()) / SECOND
            self._timer = self._loop.call_later(delay_s, self._due)
