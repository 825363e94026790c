"""Locks the tablet's sessions through logind, and believes only what it reads back.

`loginctl lock-session` can return 0 with nothing locked (systemd #4409, #6978), so LockedHint is read
back, a session that did not lock is asked again, and at last ended if the configuration says so.
LockedHint is the session owner's to set: a screen locker that lies is beyond what logind can show.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence

from agent.core.types import SECOND, BootNs, Lock, LockOutcome, Release, UsedWhileLocked
from agent.dbus import BusDown
from agent.dbus_wire import BusError
from agent.enforcement.base import EnforcementAction, Outcome, SettingsError, Surroundings
from agent.login1 import Login1
from agent.login1_words import Session

ATTEMPTS = 3  # ours: the screen lockers that lose a request lose the first one, at start
READ_SPACING_S = 0.02  # ours: a session that flaps its hint must not keep us reading
INSIST_S = 5.0  # ours: how often a session that did not lock is asked again for good
DEFIED_SPACING = 1 * SECOND  # ours: a session that flaps must not flood the alarm stream

SETTINGS = frozenset({"verify_ms", "terminate", "terminate_after", "exempt"})


class LogindAction(EnforcementAction):
    """Asks every session to lock, verifies, insists, and watches until released.

    Settings: ``verify_ms`` [700] how long a screen locker may take before it is asked again; ``terminate``
    [false] end a session that does not lock; ``terminate_after`` [0: never] end one that came unlocked so
    many times under one decision; ``exempt`` [] users whose sessions are left alone (maintenance). Sessions
    over the network, of the greeter and in the background do not count.
    """

    name = "logind"

    def __init__(self, settings: Mapping[str, object], around: Surroundings) -> None:
        self._verify_s = _verify_ms(settings.get("verify_ms", 700)) / 1000
        self._terminate = _flag("terminate", settings.get("terminate", False))
        self._terminate_after = _times(settings.get("terminate_after", 0))
        self._exempt = _users(settings.get("exempt", []))
        if unknown := settings.keys() - SETTINGS:
            raise SettingsError(
                f"enforcement.logind: unknown {sorted(unknown)}; known are {sorted(SETTINGS)}"
            )
        self._around = around
        self._login1 = Login1(around.bus())
        self._login1.on_sessions(self._new, self._removed, self._hint)
        self._login1.on_presence(self._disturb, lambda: None)
        self._hints: dict[str, bool] = {}  # object path -> LockedHint as last seen; bounded by SESSIONS_MAX
        self._sessions: dict[str, Session] = {}  # by object path, as last read
        self._unlocked: Counter[str] = Counter()  # by object path, under the decision in force
        self._stirred = asyncio.Event()  # something about the sessions changed: read them again
        self._disturbed = asyncio.Event()  # a lock may no longer hold: begin again
        self._decision: int | None = None  # of the lock in force
        self._keeper: asyncio.Task[None] | None = None
        self._last: Outcome | None = None
        self._asked_ns: int | None = None
        self._defied = 0
        self._defied_told: int | None = None

    def lock(self, order: Lock) -> Awaitable[Outcome]:
        begun = self._around.now()
        asked = [self._login1.lock_all()]
        if order.decision != self._decision:  # else the session was used again: that decision is old
            self._unlocked.clear()
            self._asked_ns = self._around.now() - order.cause.at
        self._stop()
        self._decision = order.decision
        first: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(
            self._keep(order.decision, begun, asked, first), name="keep locked"
        )
        return first

    def release(self, order: Release) -> None:
        self._stop()
        self._decision = None

    async def close(self) -> None:
        keeper = self._keeper
        self._stop()
        if keeper is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    def status(self) -> dict[str, object]:
        """``asked_us``: from the decision to the request; ``verified_us``: from there to the read-back."""
        last = self._last
        return {
            "keeps_locked": self._decision is not None,
            "ok": None if last is None else last.ok,
            "detail": "" if last is None else last.detail,
            "asked_us": None if self._asked_ns is None else self._asked_ns // 1000,
            "verified_us": None if last is None else last.took_ns // 1000,
            "sessions": len(self._hints),
            "defied": self._defied,
        }

    # --- keeping locked -----------------------------------------------------------------------

    def _stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None

    async def _keep(
        self,
        decision: int,
        begun: BootNs,
        asked: Sequence[Awaitable[object]],
        first: asyncio.Future[Outcome],
    ) -> None:
        try:
            outcome = await self._bring(begun, asked)
        except asyncio.CancelledError:
            first.cancel()
            raise
        self._last = outcome
        if not first.done():
            first.set_result(outcome)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if outcome.ok else INSIST_S):
                    await self._disturbed.wait()
            before, begun = outcome, self._around.now()
            outcome = await self._bring(begun, [self._login1.lock_all()])
            self._last = outcome
            if outcome.ok != before.ok:
                self._around.observe(
                    LockOutcome(
                        self._around.now(), decision, self.name, outcome.ok, outcome.took_ns, outcome.detail
                    )
                )

    async def _bring(self, begun: BootNs, asked: Sequence[Awaitable[object]]) -> Outcome:
        """Bring every session to be locked, by asking, asking again, and ending."""
        self._disturbed.clear()
        open_: list[Session] = []
        trouble = ""
        for attempt in range(1, ATTEMPTS + 1):
            patience_s, trouble = self._verify_s, ""
            try:
                for request in asked:
                    await request
            except BusError as error:  # one refused must not hide that all are locked
                trouble = str(error)
                if isinstance(error, BusDown):
                    patience_s = 0.0  # nobody heard it: no screen locker is at work
            try:
                open_ = await self._open_after(patience_s)
            except BusError as error:
                trouble = str(error)
                await self._stir(asyncio.get_running_loop().time() + self._verify_s)
            else:
                if not open_:
                    return self._outcome(begun, ok=True, detail=self._read_back(attempt))
            asked = [self._login1.lock(session) for session in open_] or [self._login1.lock_all()]
        names = ", ".join(session.id for session in open_)
        if not open_:
            return self._outcome(begun, ok=False, detail=f"cannot ask logind: {trouble}")
        if not self._terminate:
            return self._outcome(
                begun,
                ok=False,
                detail=f"still unlocked after asking {ATTEMPTS}x: session {names} {trouble}".strip(),
            )
        return await self._end(begun, open_, names)

    def _read_back(self, attempt: int) -> str:
        n = len(self._hints)
        if not n:
            return "there is no session to lock; one that begins will be locked"
        return f"LockedHint of {n} session{'s' if n > 1 else ''} read back, asked {attempt}x"

    async def _end(self, begun: BootNs, sessions: Sequence[Session], names: str) -> Outcome:
        try:
            for request in [self._login1.terminate(session) for session in sessions]:
                await request
            left = await self._open_after(self._verify_s)
        except BusError as error:
            return self._outcome(begun, ok=False, detail=f"cannot end session {names}: {error}")
        if left:
            still = ", ".join(session.id for session in left)
            return self._outcome(begun, ok=False, detail=f"session {still} neither locks nor ends")
        return self._outcome(begun, ok=True, detail=f"ended session {names}, which did not lock")

    async def _open_after(self, within_s: float) -> list[Session]:
        """The sessions still unlocked: as soon as there are none, else when the time is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while True:
            sessions = await self._login1.sessions()
            counted = [s for s in sessions if s.on_the_tablet and s.user not in self._exempt]
            self._hints = {session.path: session.locked for session in counted}
            self._sessions = {session.path: session for session in counted}
            open_ = [session for session in counted if not session.locked]
            if not open_ or loop.time() >= until:
                return open_
            await self._stir(until)

    async def _stir(self, until: float) -> None:
        """Wait until something about the sessions changed, or the loop's time ``until``."""
        self._stirred.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._stirred.wait()
                await asyncio.sleep(READ_SPACING_S)

    def _outcome(self, begun: BootNs, *, ok: bool, detail: str) -> Outcome:
        return Outcome(ok, self._around.now() - begun, detail)

    # --- watching -----------------------------------------------------------------------------

    def _disturb(self) -> None:
        self._stirred.set()
        self._disturbed.set()

    def _new(self, _path: str) -> None:
        self._disturb()

    def _removed(self, path: str) -> None:
        self._hints.pop(path, None)
        self._sessions.pop(path, None)
        self._unlocked.pop(path, None)
        self._stirred.set()

    def _hint(self, path: str, locked: bool) -> None:
        was = self._hints.get(path)
        if path in self._hints:
            self._hints[path] = locked
        self._stirred.set()
        if self._decision is not None and was and not locked:
            self._disturb()
            self._unlocked[path] += 1
            ends = 0 < self._terminate_after <= self._unlocked[path] and path in self._sessions
            if ends:
                self._login1.terminate(self._sessions[path])
            self._tell_defied(path, ends=ends)

    def _tell_defied(self, path: str, *, ends: bool) -> None:
        now = self._around.now()
        self._defied += 1
        if ends or self._defied_told is None or now - self._defied_told >= DEFIED_SPACING:
            self._defied_told = now
            what = f"session object {path.rsplit('/', 1)[-1]} came unlocked"
            times = f", {self._unlocked[path]} times under this decision: it is ended" if ends else ""
            self._around.observe(UsedWhileLocked(now, what + times))


def _verify_ms(value: object) -> int:
    if type(value) is not int or not 50 <= value <= 10_000:
        raise SettingsError(f"enforcement.logind.verify_ms: expected 50 to 10000 ms, not {value!r}")
    return value


def _times(value: object) -> int:
    if type(value) is not int or not 0 <= value <= 100:
        raise SettingsError(f"enforcement.logind.terminate_after: expected 0 to 100 times, not {value!r}")
    return value


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"enforcement.logind.{key}: expected true or false, not {value!r}")
    return value


def _users(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise SettingsError(f"enforcement.logind.exempt: expected a list of user names, not {value!r}")
    return frozenset(value)
