"""The docks of this tablet as one part of a run: links come and go while it runs, and each is remembered.

It decides nothing. What the core asks for goes to every dock; what the docks observe goes to the core, and is
noted for `ivmactl dock`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent.config import Dock
from agent.core.types import (
    BootNs,
    Counters,
    DockCommandDone,
    DockForeign,
    DockIdent,
    DockLinkLost,
    DockLinkUp,
    DockProof,
    DockStatus,
    DriveOutputs,
    Observation,
)
from agent.life import DockLink


class Link(DockLink, Protocol):
    """One dock's wire."""

    @property
    def path(self) -> str | None:
        """The port that it holds."""

    def poke(self, gone: str | None = None) -> None: ...
    def counters(self) -> Counters: ...


@dataclass(slots=True)
class Berth:
    """A dock with its link, and what was last seen of it in this run."""

    dock: Dock
    link: Link
    up: bool = False
    proven: bool = False  # on the wire as it is now
    ident: DockIdent | None = None
    proof_at: BootNs | None = None
    foreign_at: BootNs | None = None
    status: DockStatus | None = None  # the last authenticated one

    def note(self, seen: Observation) -> None:
        match seen:
            case DockLinkUp():
                self.up = True
            case DockLinkLost():
                self.up = self.proven = False
            case DockIdent():
                self.ident = seen
            case DockProof():
                self.proven, self.proof_at, self.foreign_at = True, seen.at, None
            case DockForeign():
                self.proven, self.foreign_at = False, seen.at
            case DockStatus(authenticated=True):
                self.status = seen


@dataclass(frozen=True, slots=True)
class Look:
    """A test of one dock: it sees what the dock shows, and is told when the core wants other outputs."""

    dock: str
    seen: Callable[[DockStatus | DockCommandDone], None]
    overtaken: Callable[[], None]


class DockBay:
    """``make`` builds a link, which observes through ``observed``; ``observe`` is the core's.

    Docks that are found in the same way cannot be told apart before they speak: they share a link, which is
    that of whichever answers. So a pool of vehicles with docks of one kind needs nothing to tell them apart.
    """

    def __init__(self, make: Callable[[list[Dock]], Link], observe: Callable[[Observation], None]) -> None:
        self._make = make
        self._observe = observe
        self._started = False
        self._links: dict[str, Link] = {}  # by where their docks are found
        self.berths: dict[str, Berth] = {}
        self.wanted = DriveOutputs()  # what the core last asked for
        self.test: Look | None = None

    def put_in(self, dock: Dock) -> None:
        """A dock that this tablet may sit in, from now on. Raises what ``make`` raises, changing nothing."""
        place = _place(dock)
        neighbours = [berth for berth in self.berths.values() if _place(berth.dock) == place]
        docks = [*(berth.dock for berth in neighbours), dock]
        made = self._make(docks)
        if place in self._links:
            self._links[place].close()
        self.berths[dock.name] = Berth(dock, made)
        self._connect(place, made, neighbours)

    def take_out(self, name: str) -> Dock | None:
        """Close a dock's wire; it is no longer one of ours."""
        berth = self.berths.get(name)
        if berth is None:
            return None
        place = _place(berth.dock)
        self._links.pop(place).close()  # observes the loss, while it is still ours
        del self.berths[name]
        neighbours = [each for each in self.berths.values() if _place(each.dock) == place]
        if neighbours:
            self._connect(place, self._make([each.dock for each in neighbours]), neighbours)
        return berth.dock

    def _connect(self, place: str, link: Link, berths: list[Berth]) -> None:
        self._links[place] = link
        for berth in berths:
            berth.link = link
        if self._started:
            link.start()

    def at(self, path: str) -> list[str]:
        """The docks that hold a port open."""
        return [name for name, berth in self.berths.items() if berth.link.path == path]

    def observed(self, seen: Observation) -> None:
        """What every link calls."""
        name = getattr(seen, "dock", "")
        berth = self.berths.get(name)
        if berth is not None:
            berth.note(seen)
        test = self.test
        if test is not None and test.dock == name and isinstance(seen, DockStatus | DockCommandDone):
            test.seen(seen)
        self._observe(seen)

    def poke(self, gone: str | None = None) -> None:
        for link in list(self._links.values()):
            link.poke(gone)

    def counters(self) -> dict[str, dict[str, int]]:
        """Of each link; a shared one counts for the dock that answers."""
        shared = [berth.link for berth in self.berths.values()]
        return {
            name: berth.link.counters().values
            for name, berth in self.berths.items()
            if berth.up or shared.count(berth.link) == 1
        }

    # --- one DockLink ---

    def start(self) -> None:
        self._started = True
        for link in list(self._links.values()):
            link.start()

    def close(self) -> None:
        self._started = False
        for link in list(self._links.values()):
            link.close()

    def drive(self, outputs: DriveOutputs) -> None:
        again = outputs == self.wanted  # each proof repeats them
        self.wanted = outputs
        test = self.test
        if test is not None and not again:
            test.overtaken()
        tested = self.berths[test.dock].link if test is not None and again else None
        for link in list(self._links.values()):
            if link is not tested:
                link.drive(outputs)

    def cut_power(self, seconds: int | None) -> None:
        for link in list(self._links.values()):
            link.cut_power(seconds)

    def prove(self) -> None:
        for link in list(self._links.values()):
            link.prove()


def _place(dock: Dock) -> str:
    """By what a dock is found: docks with the same are met one at a time, on the same port."""
    where = dock.port or "&".join(f"{name}={dock.match[name]}" for name in sorted(dock.match))
    # What has no serial to be told apart by shares with nobody.
    return f"{dock.model} {where}" if dock.serial and where else f"{dock.model} {dock.name} {where}"
