"""The notice as a process, and an officer's socket whose answers a test sets."""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.clock import boot_now
from agent.control import Refusal, Verb
from agent.notice.feed import Feed
from agent.notice_desk import HOLD_S
from tests.control_rig import served

ROOT = Path(__file__).parents[1]
WAIT_S = 90.0
RULES = {
    "tethered": "tether.proven", "uncertain": "tether.evidence_lost", "restricted": "tether.unseated",
    "foreign": "tether.foreign", "unknown": "tether.no_evidence",
}  # fmt: skip
NO_GRANTS: dict[str, Any] = {
    "state": "none", "permit": None, "override_s_left": 0, "overrides_left": 2, "challenge": None,
    "wrong_answers": 0, "code_wait_s": 0, "void": False,
}  # fmt: skip


class Agent:
    """What the officer's socket answers; ``asked`` is what was asked of the grants."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._asking = threading.Condition()
        self.refuse: dict[str, Refusal] = {}
        self.hangs = False
        self.answers = 0
        self._revision = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._told: dict[str, Any] = {}
        self._ends: float | None = None
        self.becomes("restricted")

    def becomes(
        self, state: str, *, usable: bool = False, left_ms: int | None = None, rule: str = "",
        because: str = "in the agent's words", grants: Mapping[str, Any] | None = NO_GRANTS,
    ) -> None:  # fmt: skip
        """Take another state, and tell whoever waits for one."""
        self._told = {
            "device": "tablet-7", "tether": {"state": state, "usable": usable},
            "rule": rule or RULES[state], "because": because,
        }  # fmt: skip
        if grants is not None:
            self._told["grants"] = {**NO_GRANTS, **grants}
        self._ends = None if left_ms is None else time.monotonic() + left_ms / 1000
        self._revision += 1
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    @contextlib.contextmanager
    def serving(self, path: Path) -> Iterator[None]:
        with served(path, **self.verbs()) as (_, self._loop):
            yield
        self._loop = None

    def verbs(self) -> dict[str, Verb]:
        names = ("override", "permit.challenge", "permit.answer")
        verbs = {name: Verb(lambda args, name=name: self._ask(name, args)) for name in names}
        return {"notice": Verb(self._notice), **verbs}

    async def _notice(self, args: Mapping[str, Any]) -> object:
        if args.get("seen") == self._revision:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD_S):
                    await self._changed.wait()
        while self.hangs:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.05)
        self.answers += 1
        left_ms = None if self._ends is None else max(0, round(1000 * (self._ends - time.monotonic())))
        tether = {**self._told["tether"], "ride_through_ms_left": left_ms}
        return {**self._told, "revision": self._revision, "tether": tether}

    def await_asked(self, number: int) -> list[tuple[str, dict[str, Any]]]:
        """What was asked, once it is so many."""
        with self._asking:
            self._asking.wait_for(lambda: len(self.asked) >= number, WAIT_S)
            return list(self.asked)

    def _ask(self, verb: str, args: Mapping[str, Any]) -> object:
        with self._asking:
            self.asked.append((verb, dict(args)))
            self._asking.notify_all()
        if verb in self.refuse:
            raise self.refuse[verb]
        return {}


class Notice:
    """`ivma-notice` as a process."""

    def __init__(self, socket: Path, folder: Path, *options: str) -> None:
        self.folder = folder
        given = ("--socket", str(socket), "--folder", str(folder), *options)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent.notice", *given],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], WAIT_S)
        said = self.process.stdout.readline().decode().strip() if ready else ""
        assert said, "it did not start"
        self.start_page = Path(said)
        found = re.search(r"url=(http://127\.0\.0\.1:(\d+)/([\w-]+)/)", self.start_page.read_text())
        assert found is not None
        self.url, self.port, self.token = found[1], int(found[2]), found[3]

    def stop(self) -> str:
        """SIGTERM, unless a test killed it; what it logged."""
        killed = self.process.poll() is not None
        self.process.terminate()
        _, log = self.process.communicate(timeout=WAIT_S)
        assert killed or self.process.returncode == 0, log.decode()
        return log.decode()


@contextlib.contextmanager
def notice(agent: Agent, folder: Path, *options: str) -> Iterator[Notice]:
    options = options or ("--notify", "never")
    with agent.serving(folder / "officer.sock"):
        made = Notice(folder / "officer.sock", folder / "notice", *options)
        try:
            yield made
        finally:
            made.stop()


@contextlib.asynccontextmanager
async def following(path: Path) -> AsyncIterator[tuple[Feed, Callable[[str], Awaitable[None]]]]:
    """The notice's own feed, and a way to wait until it says so."""
    changed = asyncio.Event()
    feed = Feed(path, boot_now, changed.set)
    feed.start()

    async def until(kind: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while feed.said.kind != kind:
                changed.clear()
                await changed.wait()

    try:
        yield feed, until
    finally:
        await feed.close()
