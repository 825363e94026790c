"""logind in memory: the session with its lock screen, inhibitors, suspend and power-off.

The agent's own D-Bus clients speak to it unmodified through ``MemoryBus``, which has the interface of
``agent.dbus.Bus``. An inhibitor is a real pipe: the agent gives it up by closing its end, as on a tablet.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
from collections.abc import Callable
from typing import Any

from jeepney import HeaderFields, Message

from agent.core.types import MS, SECOND
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.events import Events, LockState
from simulator.virtual.loop import VirtualLoop

NAME, ROOT = "org.freedesktop.login1", "/org/freedesktop/login1"
SESSION_ID, SESSION_PATH = "1", f"{ROOT}/session/_31"
ROUND_TRIP_NS = MS  # ours: a call on the system bus
LOCKER_NS = (20 * MS, 150 * MS)  # ours: a screen locker comes up within this
DELAY_MAX_NS = 5 * SECOND  # logind.conf(5): the default of InhibitDelayMaxSec
LOOK_NS = 5 * MS  # how soon logind notices that an inhibitor was closed; ours

OnSignal = Callable[[str, Any], None]


class Session:
    """The officer's session. Conforms to ``simulator.faults.knobs.SessionKnobs``."""

    def __init__(self, agenda: Agenda, rng: random.Random, events: Events) -> None:
        self.ignores_lock = False
        self.there = False  # somebody has logged in since the boot
        self.locked = True
        self.on_change: Callable[[str], None] = lambda what: None  # "new", "removed", "locked", "unlocked"
        self._agenda = agenda
        self._rng = rng
        self._events = events
        self._coming: Entry | None = None

    @property
    def open(self) -> bool:
        """A person could use it."""
        return self.there and not self.locked

    def log_in(self) -> None:
        """The officer gives the password: at the greeter, or at the lock screen."""
        if self._coming is not None:
            self._coming.cancel()
            self._coming = None
        first, self.there = not self.there, True
        if first or self.locked:
            self.locked = False
            self._tell("new" if first else "unlocked")

    def ask_lock(self) -> None:
        """The screen locker comes up in a moment, if it listens."""
        if self.ignores_lock or not self.open or self._coming is not None:
            return
        self._coming = self._agenda.after(self._rng.randrange(*LOCKER_NS), self._lock)

    def end(self) -> None:
        """It ends: a shutdown, or logind ended it."""
        if self.there:
            was_open, self.there, self.locked = self.open, False, True
            self.on_change("removed")
            if was_open:
                self._events.emit(LockState(self._agenda.now, True))

    def _lock(self) -> None:
        self._coming = None
        if self.open:
            self.locked = True
            self._tell("locked")

    def _tell(self, what: str) -> None:
        self._events.emit(LockState(self._agenda.now, not self.open))
        self.on_change(what)


class Logind:
    """``go_down`` is called with "suspend" or "power_off" when every inhibitor was given up, or late."""

    def __init__(self, agenda: Agenda, session: Session, go_down: Callable[[str], None]) -> None:
        self.session = session
        self._agenda = agenda
        self._go_down = go_down
        self._bus: MemoryBus | None = None
        self._inhibitors: list[tuple[int, int]] = []  # our end and theirs
        self._pending: str | None = None
        self._late_at = 0
        session.on_change = self._session_changed

    # --- the machine ------------------------------------------------------------------------------------

    def connect(self, bus: MemoryBus | None) -> None:
        """The agent's connection; None: it is gone, with what it held."""
        self._bus = bus
        if bus is None:
            for ours, theirs in self._inhibitors:
                if not _closed(ours):
                    os.close(theirs)
                os.close(ours)
            self._inhibitors.clear()

    def prepare(self, verb: str) -> bool:
        """Begin a suspend or a power-off; False when one is under way already."""
        if self._pending is not None:
            return False
        self._pending = verb
        self._late_at = self._agenda.now + DELAY_MAX_NS
        self._prepare_signal(True)
        self._agenda.after(LOOK_NS, self._look)
        return True

    def resumed(self) -> None:
        self._pending = "suspend"
        self._prepare_signal(False)
        self._pending = None

    def rebooted(self) -> None:
        self._pending = None
        self.session.there, self.session.locked = False, True

    def _look(self) -> None:
        if self._pending is None:
            return
        for pair in [pair for pair in self._inhibitors if _closed(pair[0])]:
            os.close(pair[0])
            self._inhibitors.remove(pair)
        if self._inhibitors and self._agenda.now < self._late_at:
            self._agenda.after(LOOK_NS, self._look)
            return
        verb = self._pending
        if verb == "suspend":
            self._pending = None
        self._go_down(verb)

    def _prepare_signal(self, starting: bool) -> None:
        member = "PrepareForSleep" if self._pending == "suspend" else "PrepareForShutdown"
        self._signal(member, ROOT, (starting,))

    def _session_changed(self, what: str) -> None:
        if what == "new":
            self._signal("SessionNew", ROOT, (SESSION_ID, SESSION_PATH))
        elif what == "removed":
            self._signal("SessionRemoved", ROOT, (SESSION_ID, SESSION_PATH))
        else:
            changed = {"LockedHint": ("b", self.session.locked)}
            self._signal("PropertiesChanged", SESSION_PATH, (f"{NAME}.Session", changed, []))

    def _signal(self, member: str, path: str, body: tuple[Any, ...]) -> None:
        if self._bus is not None:
            self._bus.deliver(member, path, body)

    # --- calls ------------------------------------------------------------------------------------------

    def answer(self, member: str, path: str, body: tuple[Any, ...]) -> tuple[Any, ...] | str:
        """What a method call gives, or why it is refused."""
        match member:
            case "LockSessions" | "LockSession":
                self.session.ask_lock()
                return ()
            case "TerminateSession":
                self.session.end()
                return ()
            case "ListSessions":
                row = (SESSION_ID, 1000, "officer", "seat0", SESSION_PATH)
                return ([row] if self.session.there else [],)
            case "GetAll":
                return (self._properties(),) if self.session.there else f"no object {path}"
            case "Inhibit":
                if self._pending is not None:
                    return "The operation inhibition has been requested for is already running"
                ours, theirs = os.pipe()
                self._inhibitors.append((ours, theirs))
                return (_Descriptor(theirs),)
            case "Suspend" | "PowerOff":
                verb = "suspend" if member == "Suspend" else "power_off"
                return (
                    () if self.prepare(verb) else "There's already a shutdown or sleep operation in progress"
                )
            case _:
                return (
                    f"logind of the simulator has no method {member}; add it in simulator/virtual/logind.py"
                )

    def _properties(self) -> dict[str, tuple[str, Any]]:
        return {
            "Name": ("s", "officer"),
            "User": ("(uo)", (1000, f"{ROOT}/user/_1000")),
            "Active": ("b", True),
            "Class": ("s", "user"),
            "Seat": ("(so)", ("seat0", f"{ROOT}/seat/seat0")),
            "Remote": ("b", False),
            "State": ("s", "active"),
            "LockedHint": ("b", self.session.locked),
        }


class MemoryBus:
    """A process's connection to the system bus, with the interface of ``agent.dbus.Bus``."""

    def __init__(
        self, agenda: Agenda, loop: VirtualLoop, logind: Logind, refusal: Callable[[str], Exception]
    ) -> None:
        self._agenda = agenda
        self._loop = loop
        self._logind = logind
        self._refusal = refusal
        self._handlers: list[tuple[str, OnSignal]] = []
        self._appeared: list[Callable[[], None]] = []

    def subscribe(self, sender: str, interface: str, member: str, namespace: str, callback: OnSignal) -> None:
        self._handlers.append((member, callback))

    def watch(self, name: str, appeared: Callable[[], None], vanished: Callable[[], None]) -> None:
        self._appeared.append(appeared)

    def start(self) -> None:
        self._logind.connect(self)
        for appeared in self._appeared:
            self._loop.call_later(ROUND_TRIP_NS / SECOND, appeared)

    async def close(self) -> None:
        self._logind.connect(None)

    def call(self, message: Message) -> asyncio.Future[tuple[Any, ...]]:
        future: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        fields = message.header.fields
        member, path = str(fields[HeaderFields.member]), str(fields[HeaderFields.path])
        self._agenda.after(ROUND_TRIP_NS, lambda: self._reply(future, member, path, message.body))
        return future

    def deliver(self, member: str, path: str, body: tuple[Any, ...]) -> None:
        """A signal, to whoever subscribed."""
        for wanted, callback in self._handlers:
            if wanted == member:
                self._loop.enter(callback, path, body)

    def _reply(
        self, future: asyncio.Future[tuple[Any, ...]], member: str, path: str, body: tuple[Any, ...]
    ) -> None:
        if self._loop.dead:
            return
        answer = self._logind.answer(member, path, body)

        def settle() -> None:
            if future.done():
                return
            if isinstance(answer, str):
                future.set_exception(self._refusal(answer))
            else:
                future.set_result(answer)

        self._loop.enter(settle)


class _Descriptor:
    """A descriptor as jeepney hands it over."""

    def __init__(self, number: int) -> None:
        self._number = number

    def to_raw_fd(self) -> int:
        return self._number


def _closed(ours: int) -> bool:
    """Whether the other end of a pipe was closed."""
    poll = select.poll()
    poll.register(ours, select.POLLHUP)
    return bool(poll.poll(0))
