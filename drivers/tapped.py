"""A dock session that notes every call, for the black box; and the way back, from a note to the call."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from agent.core.types import BootNs, Counters, DriveOutputs, LinkLoss, Observation
from drivers.spec import DockSession, Scrub

# act, time, what it was about: bytes for "in" and "out", a LinkLoss's value, DriveOutputs, seconds, or None.
Note = Callable[[str, BootNs, object], None]


class TappedSession:
    """Implements ``drivers.spec.DockSession`` by another session; what goes by is scrubbed, then noted."""

    def __init__(self, session: DockSession, note: Note, scrub: Callable[[], Scrub]) -> None:
        self._session = session
        self._note = note
        self._scrub_in, self._scrub_out = scrub(), scrub()
        self._at = BootNs(0)

    @property
    def name(self) -> str:
        return self._session.name

    def link_up(self, at: BootNs) -> list[Observation]:
        self._called("up", at, None)
        return self._session.link_up(at)

    def link_lost(self, at: BootNs, reason: LinkLoss) -> list[Observation]:
        self._called("lost", at, reason.value)
        return self._session.link_lost(at, reason)

    def feed(self, data: bytes, at: BootNs) -> list[Observation]:
        self._called("in", at, self._scrub_in(data))
        return self._session.feed(data, at)

    def timer(self, at: BootNs) -> list[Observation]:
        self._called("timer", at, None)
        return self._session.timer(at)

    def drive(self, wanted: DriveOutputs, at: BootNs) -> None:
        self._called("drive", at, wanted)
        self._session.drive(wanted, at)

    def cut_power(self, seconds: int | None, at: BootNs) -> None:
        self._called("cut", at, seconds)
        self._session.cut_power(seconds, at)

    def prove(self, at: BootNs) -> None:
        self._called("prove", at, None)
        self._session.prove(at)

    def outgoing(self) -> bytes:
        data = self._session.outgoing()
        if data:
            self._note("out", self._at, self._scrub_out(data))
        return data

    def next_deadline(self) -> BootNs | None:
        return self._session.next_deadline()

    def counters(self) -> Counters:
        return self._session.counters()

    def _called(self, act: str, at: BootNs, what: object) -> None:
        self._at = at
        self._note(act, at, what)


def call(session: DockSession, act: str, at: BootNs, what: object) -> list[Observation]:
    """Make a noted call; ``what`` may come from a file, outputs as a mapping. Returns what the session saw.

    Raises:
        ValueError: no such call, or not with this.
    """
    match act, what:
        case "up", None:
            return session.link_up(at)
        case "lost", str():
            return session.link_lost(at, LinkLoss(what))
        case "in", bytes():
            return session.feed(what, at)
        case "timer", None:
            return session.timer(at)
        case "drive", dict():
            session.drive(msgspec.convert(what, DriveOutputs), at)
        case "cut", int() | None:
            session.cut_power(what, at)
        case "prove", None:
            session.prove(at)
        case _:
            raise ValueError(f"a session has no call {act!r} with {what!r:.80}")
    return []
