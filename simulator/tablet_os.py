"""The operating system of a rig's tablet, as far as the agent meets it: sessions to lock, and power.

``LogindSystem`` is a logind double on a private D-Bus. ``ConsoleSystem`` is for machines without
dbus-daemon: the agent's `console` actions print what they would do, and that is believed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from simulator.logind import Call, LogindDouble, SimSession
from simulator.private_bus import PrivateBus

SESSION = "1"
INHIBIT_DELAY_MAX_S = 5.0  # logind.conf(5): the default of InhibitDelayMaxSec


class TabletSystem(Protocol):
    """What a rig asks of its tablet's operating system."""

    title: str
    environment: Mapping[str, str]  # of the agent
    enforcement: Mapping[str, Any]  # the agent's [enforcement] table
    lock_times: list[int]  # boot ns of each request to lock, as it arrived

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def line(self, text: str) -> None:
        """A line of the agent's standard output."""

    async def boot(self) -> None:
        """The system has just started: it forgets what was under way, and a session begins."""

    def log_out(self) -> None:
        """All sessions end, as at a shutdown."""

    def unlock(self) -> None:
        """The session's owner authenticates."""

    def resumed(self) -> None:
        """Woken from suspend."""

    @property
    def session(self) -> str:
        """ "locked", "unlocked", or "none"."""


class LogindSystem:
    """logind, by a double on a bus of its own. ``on_power`` is told when the machine would go down."""

    title = "logind double on a private D-Bus"

    def __init__(self, folder: Path, on_change: Callable[[], None], on_power: Callable[[str], None]) -> None:
        self._bus = PrivateBus(folder)
        self._on_change = on_change
        self._on_power = on_power
        self.double: LogindDouble | None = None
        self.environment: Mapping[str, str] = {"DBUS_SYSTEM_BUS_ADDRESS": self._bus.address}
        self.enforcement: Mapping[str, Any] = {"actions": ["logind"], "power": "logind"}
        self.lock_times: list[int] = []

    async def start(self) -> None:
        await self._bus.start()

    async def stop(self) -> None:
        if self.double is not None:
            await self.double.stop()
        await self._bus.stop()

    def line(self, text: str) -> None:
        pass

    async def boot(self) -> None:
        if self.double is not None:
            await self.double.stop()
        self.double = self._make()
        await self.double.start()
        self.double.add(SimSession(SESSION))

    async def restart_bus(self) -> None:
        """dbus-daemon ends and starts anew: everybody is cut off, and logind comes back with its sessions."""
        sessions = self._running.sessions
        await self._running.stop()
        await self._bus.stop()
        await self._bus.start()
        self.double = self._make()
        self.double.sessions = sessions
        await self.double.start()

    def _make(self) -> LogindDouble:
        return LogindDouble(
            self._bus.address,
            on_call=self._called,
            on_power=self._on_power,
            inhibit_delay_max_s=INHIBIT_DELAY_MAX_S,
        )

    def log_out(self) -> None:
        for session in self._sessions:
            self._running.remove(session)

    def unlock(self) -> None:
        for session in self._sessions:
            self._running.unlock(session)
        self._on_change()

    def resumed(self) -> None:
        self._running.resume()

    @property
    def session(self) -> str:
        states = ["locked" if session.locked else "unlocked" for session in self._sessions]
        return states[0] if states else "none"

    @property
    def _running(self) -> LogindDouble:
        if self.double is None:
            raise RuntimeError("the tablet has not booted yet")
        return self.double

    @property
    def _sessions(self) -> list[SimSession]:
        return [] if self.double is None else list(self.double.sessions.values())

    def _called(self, call: Call) -> None:
        if call.member in ("LockSession", "LockSessions"):
            self.lock_times.append(call.at)
        self._on_change()


class ConsoleSystem:
    """No D-Bus: reads what the agent prints. Locked is what it printed last."""

    title = "the agent's console actions (no D-Bus)"
    environment: Mapping[str, str] = {}
    enforcement: Mapping[str, Any] = {"actions": ["console"], "power": "console"}

    def __init__(self, on_change: Callable[[], None], on_power: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._on_power = on_power
        self.lock_times: list[int] = []
        self.session = "none"

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def line(self, text: str) -> None:
        if not text.startswith(('{"enforcement": ', '{"power": ')):
            return  # a line of the log
        said = json.loads(text)
        if said.get("enforcement") == "lock":
            self.lock_times.append(said["boot_ns"])
            self.session = "locked"
        elif "power" in said:
            self._on_power(said["power"])
        self._on_change()

    async def boot(self) -> None:
        self.session = "unlocked"

    def log_out(self) -> None:
        self.session = "none"

    def unlock(self) -> None:
        self.session = "unlocked"

    def resumed(self) -> None:
        pass  # SIGCONT, which the rig sends, is the resume
