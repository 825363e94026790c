"""The guard in the virtual world: the production decisions on the world's time and session. Composition root.

What the agent says goes through the bytes of the real wire. The posture file is a value, gone after a boot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from agent.core.types import MS, BootNs, GuardLocked, GuardState, Lease, Observation
from agent.guard import wire
from agent.guard.guardian import Act, Guardian, LockAll, LockSessions, Look, Publish, Tell
from agent.guard.posture import Posture
from agent.guard_link import Word
from agent.life import Greeting
from simulator.virtual import events as ev
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.clock import Clock
from simulator.virtual.history import History
from simulator.virtual.logind import ROUND_TRIP_NS, SESSION_ID, Session
from simulator.virtual.loop import VirtualLoop

START_NS = 100 * MS  # ours: from the start of its process to its first line
RESTART_NS = 250 * MS  # systemd/ivma-guard.service: RestartSec
AGAIN_S = 0.25  # ours: how often an agent looks for a guard that is gone


class VirtualGuard:
    """The guard's process on the tablet, over all its runs."""

    def __init__(
        self,
        agenda: Agenda,
        clock: Clock,
        events: ev.Events,
        history: History,
        session: Session,
        boot_id: Callable[[], str],
    ) -> None:
        self._agenda = agenda
        self._clock = clock
        self._events = events
        self._history = history
        self._session = session
        self._guardian: Guardian | None = None
        self._posture: Posture | None = None
        self._link: VirtualLink | None = None
        self._wake: Entry | None = None
        self._starting: Entry | None = None
        self._asleep = self._down = False
        self._boots = boot_id
        tell = session.on_change

        def changed(what: str) -> None:
            tell(what)
            self._agenda.after(ROUND_TRIP_NS, self._stirred)

        session.on_change = changed

    @property
    def runs(self) -> bool:
        return self._guardian is not None and not self._asleep

    # --- the machine ------------------------------------------------------------------------------------

    def boot(self, ready_ns: int) -> None:
        """The machine starts; the service manager is there after ``ready_ns``."""
        self._end("cut")
        self._posture, self._asleep = None, False
        self._starting = self._agenda.after(ready_ns + START_NS, self._start)

    def power_gone(self) -> None:
        self._end("cut")

    def _end(self, how: str) -> None:
        for entry in (self._starting, self._wake):
            if entry is not None:
                entry.cancel()
        self._starting = self._wake = None
        if self._guardian is not None:
            self._guardian = None
            self._events.emit(ev.Guard(self._agenda.now, how))
        if self._link is not None:
            link, self._link = self._link, None
            link.lost()

    def hold(self, *, down: bool) -> None:
        """Killed, and not started again before it is let go."""
        self._down = down
        if down and self._guardian is not None:
            self._end("killed")
            self._starting = self._agenda.after(RESTART_NS + START_NS, self._start)

    def sleep(self, *, asleep: bool) -> None:
        """The tablet sleeps, or wakes: what ran out meanwhile is seen before anything else."""
        was, self._asleep = self._asleep, asleep
        if was and not asleep:
            self._on_time()

    def _start(self) -> None:
        self._starting = None
        if self._asleep or self._down:
            self._starting = self._agenda.after(START_NS, self._start)
            return
        self._guardian = Guardian(self._clock.boot(), self._boots(), self._posture)
        self._events.emit(ev.Guard(self._agenda.now, "started"))
        self._do(self._guardian.begin())

    # --- the agent --------------------------------------------------------------------------------------

    def connect(self, link: VirtualLink) -> bool:
        if self._guardian is None or self._asleep:
            return False
        self._link = link
        self._do(self._guardian.connected(self._clock.boot()))
        return True

    def hear(self, link: VirtualLink, message: wire.Message) -> None:
        if self._guardian is not None and link is self._link:
            self._do(self._guardian.heard(self._clock.boot(), wire.decode(wire.encode(message))))

    def hang_up(self, link: VirtualLink) -> None:
        if link is self._link:
            self._link = None
            if self._guardian is not None:
                self._do(self._guardian.gone(self._clock.boot()))

    # --- what it does -----------------------------------------------------------------------------------

    def _stirred(self) -> None:
        if self.runs and self._guardian is not None:
            self._do(self._guardian.stirred(self._clock.boot()))

    def _on_time(self) -> None:
        self._wake = None
        if self.runs and self._guardian is not None:
            self._do(self._guardian.time(self._clock.boot()))

    def _do(self, acts: Sequence[Act]) -> None:
        for act in acts:
            match act:
                case LockAll() | LockSessions():
                    self._history.note("guard", self._agenda.now, type(act).__name__)
                    self._agenda.after(ROUND_TRIP_NS, self._session.ask_lock)
                case Look():
                    self._agenda.after(ROUND_TRIP_NS, self._looked)
                case Publish(posture=posture):
                    self._posture = posture
                case Tell(message=message):
                    if self._link is not None:
                        self._link.told(wire.decode(wire.encode(message)))
        self._arm()

    def _looked(self) -> None:
        if self.runs and self._guardian is not None:
            unlocked = [SESSION_ID] if self._session.open else []
            self._do(self._guardian.looked(self._clock.boot(), unlocked))

    def _arm(self) -> None:
        deadline = None if self._guardian is None else self._guardian.deadline
        if deadline is None:
            return
        at = self._clock.to_world(deadline)
        if self._wake is not None:
            if self._wake.call is not None and self._wake.at <= at:
                return  # it comes too early, finds nothing due and is put off: cheaper than a new one
            self._wake.cancel()
        self._wake = self._agenda.at(BootNs(max(at, self._agenda.now)), self._due)

    def _due(self) -> None:
        self._on_time()
        if self._wake is None and self.runs:
            self._arm()


class VirtualLink:
    """The agent's way to it, in place of ``agent.guard_link.GuardLink``'s socket."""

    def __init__(
        self,
        loop: VirtualLoop,
        guard: VirtualGuard,
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
    ) -> None:
        self._loop = loop
        self._guard = guard
        self._observe = observe
        self._now = now
        self._word = Word()
        self._hello: wire.Hello | None = None
        self._present = False
        self._again: asyncio.TimerHandle | None = None

    async def start(self) -> Greeting:
        self._present = self._guard.connect(self)
        hello = self._hello
        if hello is None:
            self._retry()
            return Greeting(absent="there is no guard")
        locked = None if hello.locked is None else (hello.locked.decision, hello.locked.rule)
        return Greeting(hello.lease, locked)

    async def close(self) -> None:
        self.gone()

    def gone(self) -> None:
        """The agent's end is closed, however the agent ended."""
        if self._again is not None:
            self._again.cancel()
        self._present = False
        self._guard.hang_up(self)

    def begin(self, lease: Lease) -> None:
        self._guard.hear(self, self._word.begin(lease))

    def renew(self, lease: Lease) -> None:
        if (message := self._word.renew(lease)) is not None:
            self._guard.hear(self, message)

    def end(self, decision: int, because: str) -> None:
        self._guard.hear(self, self._word.end(decision, because))

    def status(self) -> object:
        return None

    # --- what the guard does ----------------------------------------------------------------------------

    def told(self, message: wire.Message) -> None:
        match message:
            case wire.Hello():
                self._hello = message
            case wire.Locked():
                self._loop.enter(self._took, message)
            case _:
                pass

    def lost(self) -> None:
        self._loop.enter(self._lost)

    def _lost(self) -> None:
        if self._present:
            self._present = False
            self._observe(GuardState(self._now(), False, "the connection ended"))
            self._retry()

    def _retry(self) -> None:
        self._again = self._loop.call_later(AGAIN_S, self._try)

    def _try(self) -> None:
        self._hello = None
        self._present = self._guard.connect(self)
        hello: wire.Hello | None = self._hello
        if hello is None:
            self._retry()
            return
        self._observe(GuardState(self._now(), True, "connected"))
        if hello.locked is not None:
            self._took(hello.locked)
        if self._word.said is not None:
            self._guard.hear(self, self._word.said)

    def _took(self, locked: wire.Locked) -> None:
        self._observe(GuardLocked(self._now(), locked.decision, locked.rule))
