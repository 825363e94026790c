"""logind (org.freedesktop.login1, systemd's logind D-Bus interface), the part of it that the agent uses.

There is no UnlockSession here: the agent ends a prohibition and never unlocks a session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jeepney import DBusAddress, Message, Properties, new_method_call

from agent.core.types import PowerVerb
from agent.dbus import Bus, CallRefused, Reply
from agent.dbus_wire import RemoteProtocolError

NAME = "org.freedesktop.login1"
MANAGER = "org.freedesktop.login1.Manager"
SESSION = "org.freedesktop.login1.Session"
PROPERTIES = "org.freedesktop.DBus.Properties"
ROOT = "/org/freedesktop/login1"
_MANAGER = DBusAddress(ROOT, bus_name=NAME, interface=MANAGER)
SESSIONS_MAX = 64  # ours; logind itself stops at 8192 (SessionsMax)


@dataclass(frozen=True, slots=True)
class Session:
    """One session as logind describes it; ``locked`` is LockedHint, a hint that its owner can set."""

    id: str
    path: str
    user: str
    kind: str  # logind's Class: user, greeter, lock-screen, background, manager, ...
    seat: str
    remote: bool
    closing: bool
    locked: bool

    @property
    def on_the_tablet(self) -> bool:
        """Whether a person at the tablet can use it: a user's own session, not over the network."""
        return self.kind.startswith("user") and not self.remote and not self.closing


class Login1:
    """Typed calls and signals of logind over ``bus``. Subscribe before the bus is started."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def on_sessions(
        self,
        new: Callable[[str], None],
        removed: Callable[[str], None],
        locked_hint: Callable[[str, bool], None],
    ) -> None:
        """Follow sessions, each named by its object path."""
        self._bus.subscribe(NAME, MANAGER, "SessionNew", ROOT, lambda _path, body: new(str(body[1])))
        self._bus.subscribe(NAME, MANAGER, "SessionRemoved", ROOT, lambda _path, body: removed(str(body[1])))

        def changed(path: str, body: Reply) -> None:
            interface, values = body[0], body[1]
            if interface == SESSION and "LockedHint" in values:
                locked_hint(path, bool(values["LockedHint"][1]))

        self._bus.subscribe(NAME, PROPERTIES, "PropertiesChanged", f"{ROOT}/session", changed)

    def on_prepare(self, sleep: Callable[[bool], None], shutdown: Callable[[bool], None]) -> None:
        """Follow PrepareForSleep and PrepareForShutdown: True before it, False after it or when cancelled."""
        self._bus.subscribe(NAME, MANAGER, "PrepareForSleep", ROOT, lambda _path, body: sleep(bool(body[0])))
        self._bus.subscribe(
            NAME, MANAGER, "PrepareForShutdown", ROOT, lambda _path, body: shutdown(bool(body[0]))
        )

    def on_presence(self, appeared: Callable[[], None], vanished: Callable[[], None]) -> None:
        """Tell when logind comes and goes: what it held for us is then gone."""
        self._bus.watch(NAME, appeared, vanished)

    def lock_all(self) -> asyncio.Future[Reply]:
        """Ask every session to lock; the request is on the socket before this returns."""
        return self._bus.call(_LOCK_ALL)

    def lock(self, session: Session) -> asyncio.Future[Reply]:
        return self._bus.call(new_method_call(_MANAGER, "LockSession", "s", (session.id,)))

    def terminate(self, session: Session) -> asyncio.Future[Reply]:
        return self._bus.call(new_method_call(_MANAGER, "TerminateSession", "s", (session.id,)))

    async def sessions(self) -> list[Session]:
        """Read every session afresh; one that ends meanwhile is left out."""
        (rows,) = await self._bus.call(new_method_call(_MANAGER, "ListSessions"))
        calls = [(row[0], row[4], self._properties(row[4])) for row in rows[:SESSIONS_MAX]]
        found = []
        for session_id, path, call in calls:
            try:
                (values,) = await call
            except CallRefused:
                continue
            found.append(_session(session_id, path, values))
        return found

    async def inhibit(self, what: str, why: str) -> int:
        """Take a delay inhibitor and return its descriptor; closing that releases it."""
        message = new_method_call(_MANAGER, "Inhibit", "ssss", (what, "ivma-agent", why, "delay"))
        (descriptor,) = await self._bus.call(message)
        return int(descriptor.to_raw_fd())

    def power(self, verb: PowerVerb) -> asyncio.Future[Reply]:
        """Ask for suspend or power-off, without a dialogue for authentication (interactive False)."""
        member = {PowerVerb.SUSPEND: "Suspend", PowerVerb.POWER_OFF: "PowerOff"}[verb]
        return self._bus.call(new_method_call(_MANAGER, member, "b", (False,)))

    def _properties(self, path: str) -> asyncio.Future[Reply]:
        message: Message = Properties(DBusAddress(path, bus_name=NAME, interface=SESSION)).get_all()
        return self._bus.call(message)


_LOCK_ALL = new_method_call(_MANAGER, "LockSessions")


def _session(session_id: str, path: str, values: dict[str, tuple[str, Any]]) -> Session:
    try:
        return Session(
            id=session_id,
            path=path,
            user=str(values["Name"][1]),
            kind=str(values["Class"][1]),
            seat=str(values["Seat"][1][0]),
            remote=bool(values["Remote"][1]),
            closing=values["State"][1] == "closing",
            locked=bool(values["LockedHint"][1]),
        )
    except (KeyError, IndexError, TypeError) as missing:
        raise RemoteProtocolError(f"session {session_id}: logind gave no usable {missing}") from missing
