"""logind's words: names on the bus, and a session as it describes one. Without I/O, for agent and guard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAME = "org.freedesktop.login1"
MANAGER = "org.freedesktop.login1.Manager"
SESSION = "org.freedesktop.login1.Session"
PROPERTIES = "org.freedesktop.DBus.Properties"
ROOT = "/org/freedesktop/login1"
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
    uid: int = -1  # not known
    active: bool = False  # in the foreground of its seat

    @property
    def on_the_tablet(self) -> bool:
        """Whether a person at the tablet can use it: a user's own session, not over the network."""
        return self.kind.startswith("user") and not self.remote and not self.closing


def session_of(session_id: str, path: str, values: Mapping[str, tuple[str, Any]]) -> Session:
    """A session from its properties. Raises ValueError for what logind would not say."""
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
            uid=int(values["User"][1][0]) if "User" in values else -1,
            active="Active" in values and bool(values["Active"][1]),
        )
    except (KeyError, IndexError, TypeError) as missing:
        raise ValueError(f"session {session_id}: logind gave no usable {missing}") from missing
