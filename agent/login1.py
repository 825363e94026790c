"""logind (org.freedesktop.login1, systemd's logind D-Bus interface), the part of it that the agent uses.

There is no UnlockSession here: the agent ends a prohibition and never unlocks a session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jeepney import DBusAddress, Message, Properties, new_method_call

from agent.core.types import PowerVerb
from agent.dbus import Bus, CallRefused, Reply
from agent.dbus_wire import RemoteProtocolError
from agent.login1_words import (
    MANAGER,
    NAME,
    PROPERTIES,
    ROOT,
    SESSION,
    SESSIONS_MAX,
    Session,
    session_of,
)

_MANAGER = DBusAddress(ROOT, bus_name=NAME, interface=MANAGER)


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
            try:
                found.append(session_of(session_id, path, values))
            except ValueError as error:
                raise RemoteProtocolError(str(error)) from None
        return found

    async def inhibit(self, what: str, why: str) -> int:
        """Take a delay inhibitor and return its descriptor; closing that releases it."""
        message = new_method_call(_MANAGER, "Inhibit", "ssss", (what, "ivma-agent", why, "delay"))
        (descriptor,) = await self._bus.call(message)
        return int(descriptor.to_raw_fd())

    def power(self, verb: PowerVerb) -> asyncio.Future[Reply]:
        """Ask for suspend, power-off or reboot, without a dialogue for authentication (interactive False)."""
        member = _POWER[verb]
        return self._bus.call(new_method_call(_MANAGER, member, "b", (False,)))

    def _properties(self, path: str) -> asyncio.Future[Reply]:
        message: Message = Properties(DBusAddress(path, bus_name=NAME, interface=SESSION)).get_all()
        return self._bus.call(message)


_POWER = {PowerVerb.SUSPEND: "Suspend", PowerVerb.POWER_OFF: "PowerOff", PowerVerb.REBOOT: "Reboot"}
_LOCK_ALL = new_method_call(_MANAGER, "LockSessions")
