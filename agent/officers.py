"""Who is at the tablet: an active session on its own seat, as logind knows it."""

from __future__ import annotations

from typing import Protocol

from agent.login1 import Login1


class Officers(Protocol):
    async def at_the_tablet(self, uid: int) -> bool:
        """Whether this user is logged in at the tablet and has the screen.

        Raises:
            BusError: logind cannot be asked.
        """


class LogindOfficers:
    """Asks logind, each time anew."""

    def __init__(self, login1: Login1) -> None:
        self._login1 = login1

    async def at_the_tablet(self, uid: int) -> bool:
        return any(
            session.on_the_tablet and session.active and session.seat and session.uid == uid
            for session in await self._login1.sessions()
        )


class ConsoleOfficers:
    """For development, without logind: every local user counts as being at the tablet."""

    async def at_the_tablet(self, uid: int) -> bool:
        return uid >= 0
