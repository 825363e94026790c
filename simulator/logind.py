"""A double of logind on a private bus: sessions that obey, ignore or lie, and power with its delays.

It answers what agent/login1.py asks, as systemd 252's logind does, and notes every call with its boot
time. Inhibitors are real descriptors: it waits for their other end to close, at most
InhibitDelayMaxSec, before it sleeps or shuts down.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

from dbus_fast import Message, MessageFlag, MessageType, RequestNameReply, Variant
from dbus_fast.aio import MessageBus

NAME = "org.freedesktop.login1"
ROOT = "/org/freedesktop/login1"
MANAGER = f"{NAME}.Manager"
SESSION = f"{NAME}.Session"
CALLS_KEPT = 10_000  # ours: the newest


class Obeys(enum.Enum):
    """What a session does when it is asked to lock."""

    YES = "yes"  # locks, then says so
    NO = "no"  # neither: `loginctl lock-session` returns 0 with nothing locked (systemd #4409)
    LIES = "lies"  # says so and does not lock: LockedHint is its owner's to set
    SECOND_TIME = "second_time"  # only when asked again


@dataclass
class SimSession:
    """One session; ``locked`` is what the person at the tablet meets, ``hint`` what logind says."""

    id: str
    obeys: Obeys = Obeys.YES
    after_s: float = 0.0  # how long the screen locker takes
    user: str = "officer"
    kind: str = "user"
    type: str = "wayland"
    remote: bool = False
    locked: bool = False
    hint: bool = False
    asked: int = 0
    uid: int = 1000
    active: bool = True  # in the foreground of its seat

    @property
    def path(self) -> str:
        # As sd_bus_path_encode: whatever is no letter or leading digit is escaped.
        first, rest = self.id[0], self.id[1:]
        return f"{ROOT}/session/" + (f"_{ord(first):02x}" if first.isdigit() else first) + rest


@dataclass(frozen=True, slots=True)
class Call:
    """One method call that came in, ``at`` in boot ns."""

    at: int
    member: str
    args: tuple[Any, ...]


@dataclass(eq=False)
class _Inhibitor:
    what: frozenset[str]
    read_end: int
    released: asyncio.Event = field(default_factory=asyncio.Event)


class LogindDouble:
    """logind for one rig, on the bus at ``address``.

    Args:
        on_call: told of every call as it comes, for timelines and measurements.
        on_power: told "suspend" or "power_off" when the machine would now really do it.
        inhibit_delay_max_s: InhibitDelayMaxSec; logind's default is 5 s (logind.conf(5)).
    """

    def __init__(
        self,
        address: str,
        *,
        on_call: Callable[[Call], None] = lambda _call: None,
        on_power: Callable[[str], None] = lambda _verb: None,
        inhibit_delay_max_s: float = 5.0,
    ) -> None:
        self.sessions: dict[str, SimSession] = {}
        self.calls: deque[Call] = deque(maxlen=CALLS_KEPT)
        self.refuse: dict[str, str] = {}  # member -> D-Bus error name
        self._address = address
        self.on_call = on_call
        self.on_power = on_power
        self._delay_max_s = inhibit_delay_max_s
        self._bus: MessageBus | None = None
        self._inhibitors: set[_Inhibitor] = set()
        self._preparing: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect and take logind's name.

        Raises:
            RuntimeError: the name is taken.
        """
        self._bus = await MessageBus(bus_address=self._address, negotiate_unix_fd=True).connect()
        self._bus.add_message_handler(self._handle)
        if await self._bus.request_name(NAME) is not RequestNameReply.PRIMARY_OWNER:
            raise RuntimeError(f"{NAME} is already owned on {self._address}; is this the real system bus?")

    async def stop(self) -> None:
        """Leave the bus; inhibitors end, as when logind is restarted."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for inhibitor in list(self._inhibitors):
            self._release(inhibitor)
        if self._bus is not None:
            self._bus.disconnect()
            with contextlib.suppress(EOFError, OSError):  # the bus went first
                await cast(Any, self._bus).wait_for_disconnect()
            self._bus = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- what the rig does --------------------------------------------------------------------

    def add(self, session: SimSession) -> SimSession:
        """A session begins."""
        self.sessions[session.id] = session
        self._emit(ROOT, MANAGER, "SessionNew", "so", [session.id, session.path])
        return session

    def remove(self, session: SimSession) -> None:
        """A session ends."""
        if self.sessions.pop(session.id, None):
            self._emit(ROOT, MANAGER, "SessionRemoved", "so", [session.id, session.path])

    def unlock(self, session: SimSession) -> None:
        """Somebody unlocks a session, by password or otherwise."""
        session.locked = False
        self.set_hint(session, on=False)

    def set_hint(self, session: SimSession, *, on: bool) -> None:
        """Set LockedHint without anything being locked, as a session's owner can."""
        if session.hint != on:
            session.hint = on
            changed = {"LockedHint": Variant("b", on)}
            self._emit(session.path, "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as",
                       [SESSION, changed, []])  # fmt: skip

    def prepare(self, verb: str) -> None:
        """Begin a "suspend" or "power_off" that somebody else asked for: lid, button, another program."""
        if self._preparing is None:
            self._preparing = verb
            self._spawn(self._go_down(verb))

    def resume(self) -> None:
        """The machine woke up."""
        self._preparing = None
        self._emit(ROOT, MANAGER, "PrepareForSleep", "b", [False])

    def inhibited(self, what: str) -> bool:
        """Whether somebody holds a delay inhibitor for "sleep" or "shutdown"."""
        return any(what in inhibitor.what for inhibitor in self._inhibitors)

    def times(self, member: str) -> list[int]:
        """Boot times in ns of every call of ``member``."""
        return [call.at for call in self.calls if call.member == member]

    # --- what logind does ---------------------------------------------------------------------

    def _handle(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL or not str(message.path).startswith(ROOT):
            return None
        call = Call(time.clock_gettime_ns(time.CLOCK_BOOTTIME), str(message.member), tuple(message.body))
        self.calls.append(call)
        self.on_call(call)
        if error := self.refuse.get(call.member):
            return Message.new_error(message, error, "refused by the rig")
        answer = self._properties(message) if call.member == "GetAll" else self._manager(message, call)
        if answer is None:
            return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", call.member)
        if message.flags & MessageFlag.NO_REPLY_EXPECTED:
            return True
        return answer

    def _manager(self, message: Message, call: Call) -> Message | bool | None:
        sessions = list(self.sessions.values())
        match call.member:
            case "ListSessions":
                rows = [[s.id, 1000, s.user, "seat0", s.path] for s in sessions]
                return Message.new_method_return(message, "a(susso)", [rows])
            case "LockSessions":
                for session in sessions:
                    self._ask_to_lock(session)
                return Message.new_method_return(message)
            case "LockSession" | "TerminateSession":
                known = self.sessions.get(call.args[0])
                if known is None:
                    return Message.new_error(message, f"{NAME}.NoSuchSession", f"No session {call.args[0]}")
                (self._ask_to_lock if call.member == "LockSession" else self.remove)(known)
                return Message.new_method_return(message)
            case "Inhibit":
                return self._inhibit(message, call.args[0])
            case "Suspend" | "PowerOff" | "Reboot":
                if self._preparing is not None:
                    return Message.new_error(message, f"{NAME}.OperationInProgress", "already under way")
                self.prepare({"Suspend": "suspend", "PowerOff": "power_off"}.get(call.member, "reboot"))
                return Message.new_method_return(message)
            case _:
                return None

    def _properties(self, message: Message) -> Message:
        for session in self.sessions.values():
            if session.path == message.path:
                values = {
                    "Id": Variant("s", session.id),
                    "Name": Variant("s", session.user),
                    "User": Variant("(uo)", [session.uid, f"{ROOT}/user/_{session.uid}"]),
                    "Class": Variant("s", session.kind),
                    "Type": Variant("s", session.type),
                    "Seat": Variant("(so)", ["" if session.remote else "seat0", "/"]),
                    "Remote": Variant("b", session.remote),
                    "State": Variant("s", "active"),
                    "Active": Variant("b", session.active),
                    "LockedHint": Variant("b", session.hint),
                }
                return Message.new_method_return(message, "a{sv}", [values])
        return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownObject", str(message.path))

    def _ask_to_lock(self, session: SimSession) -> None:
        session.asked += 1
        if session.obeys is Obeys.NO or (session.obeys is Obeys.SECOND_TIME and session.asked < 2):
            return

        def take() -> None:
            if session.id in self.sessions:
                session.locked = session.obeys is not Obeys.LIES
                self.set_hint(session, on=True)

        if session.after_s:
            asyncio.get_running_loop().call_later(session.after_s, take)
        else:
            asyncio.get_running_loop().call_soon(take)

    def _inhibit(self, message: Message, what: str) -> Message | bool:
        if self._preparing is not None:
            text = "The operation inhibition has been requested for is already running"
            return Message.new_error(message, f"{NAME}.OperationInProgress", text)
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        inhibitor = _Inhibitor(frozenset(what.split(":")), read_end)
        self._inhibitors.add(inhibitor)
        loop = asyncio.get_running_loop()
        loop.add_reader(read_end, self._release, inhibitor)
        reply = Message.new_method_return(message, "h", [0], unix_fds=[write_end])
        assert self._bus is not None  # noqa: S101 - narrowing: a call came by it
        self._bus.send(reply).add_done_callback(lambda _sent: os.close(write_end))
        return True

    def _release(self, inhibitor: _Inhibitor) -> None:
        if inhibitor in self._inhibitors:
            self._inhibitors.discard(inhibitor)
            asyncio.get_running_loop().remove_reader(inhibitor.read_end)
            os.close(inhibitor.read_end)
            inhibitor.released.set()

    async def _go_down(self, verb: str) -> None:
        what, signal = (
            ("sleep", "PrepareForSleep") if verb == "suspend" else ("shutdown", "PrepareForShutdown")
        )
        self._emit(ROOT, MANAGER, signal, "b", [True])
        held = [inhibitor.released.wait() for inhibitor in self._inhibitors if what in inhibitor.what]
        try:
            async with asyncio.timeout(self._delay_max_s):
                await asyncio.gather(*held)
        except TimeoutError:
            pass  # as logind: it goes ahead when the time is over
        self.on_power(verb)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _emit(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        if self._bus is not None:
            self._bus.send(Message.new_signal(path, interface, member, signature, body))
