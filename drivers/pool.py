"""Paired docks that are met on one port, one at a time: a pool of vehicles, docks of one kind. Sans-IO."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.types import (
    BootNs,
    Counters,
    DockIdent,
    DockLinkLost,
    DockProof,
    DriveOutputs,
    LinkLoss,
    Observation,
)
from drivers.spec import DockSession


class PooledSession:
    """Implements ``drivers.spec.DockSession`` by the session of the dock that answers.

    Which one that is, is what the dock says of itself: a hint, and it chooses the key that is asked for, no
    more. A dock that proved itself is not left for what a frame says. One of which no serial is known is
    asked for the key of the last one, and so found out.
    """

    def __init__(self, members: Sequence[tuple[str, DockSession]]) -> None:
        if not members:
            raise ValueError("a pool has docks")
        self._members = dict(members)
        self._serial, self._active = members[0]
        self._proven = False

    @property
    def name(self) -> str:
        return self._active.name

    def link_up(self, at: BootNs) -> list[Observation]:
        self._proven = False
        return self._active.link_up(at)

    def link_lost(self, at: BootNs, reason: LinkLoss) -> list[Observation]:
        return self._active.link_lost(at, reason)

    def feed(self, data: bytes, at: BootNs) -> list[Observation]:
        return self._followed(self._active.feed(data, at), at)

    def timer(self, at: BootNs) -> list[Observation]:
        return self._followed(self._active.timer(at), at)

    def _followed(self, seen: list[Observation], at: BootNs) -> list[Observation]:
        for number, each in enumerate(seen):
            if isinstance(each, DockProof | DockLinkLost):
                self._proven = isinstance(each, DockProof)
            elif isinstance(each, DockIdent) and not self._proven and each.serial != self._serial:
                other = self._members.get(each.serial)
                if other is not None:
                    return [*seen[: number + 1], *self._change(each.serial, other, at)]
        return seen

    def _change(self, serial: str, other: DockSession, at: BootNs) -> list[Observation]:
        lost = self._active.link_lost(at, LinkLoss.CLOSED)
        self._active.outgoing()
        self._serial, self._active = serial, other
        return [*lost, *other.link_up(at)]

    def next_deadline(self) -> BootNs | None:
        return self._active.next_deadline()

    def drive(self, wanted: DriveOutputs, at: BootNs) -> None:
        self._active.drive(wanted, at)

    def cut_power(self, seconds: int | None, at: BootNs) -> None:
        self._active.cut_power(seconds, at)

    def prove(self, at: BootNs) -> None:
        self._active.prove(at)

    def outgoing(self) -> bytes:
        return self._active.outgoing()

    def counters(self) -> Counters:
        return self._active.counters()
