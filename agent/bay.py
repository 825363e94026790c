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
    ident: DockIdent | None = None
    proof_at: BootNs | None = None
    foreign_at: BootNs | None = None
    status: DockStatus | None = None  # the last authenticated one

    def note(self, seen: Observation) -> None:
        match seen:
            case DockLinkUp():
                self.up = True
            case DockLinkLost():
                self.up = False
            case DockIdent():
                self.ident = seen
            case DockProof():
                self.proof_at, self.foreign_at = seen.at, None
            case DockForeign():
                self.foreign_at = seen.at
            case DockStatus(authenticated=True):
                self.status = seen


@dataclass(frozen=True, slots=True)
class Look:
    """A test of one dock: it sees what the dock shows, and is told when the core wants other outputs."""

    dock: str
    seen: Callable[[DockStatus | DockCommandDone], None]
    overtaken: Callable[[], None]


class DockBay:
    """``make`` builds a dock's link, which observes through ``observed``; ``observe`` is the core's."""

    def __init__(self, make: Callable[[Dock], Link], observe: Callable[[Observation], None]) -> None:
        self._make = make
        self._observe = observe
        self._started = False
        self.berths: dict[str, Berth] = {}
        self.wanted = DriveOutputs()  # what the core last asked for
        self.test: Look | None = None

    def put_in(self, dock: Dock) -> None:
        """A dock that this tablet may sit in, from now on. Raises what ``make`` raises."""
        berth = self.berths[dock.name] = Berth(dock, self._make(dock))
        if self._started:
            berth.link.start()

    def take_out(self, name: str) -> Dock | None:
        """Close a dock's wire; it is no longer one of ours."""
        berth = self.berths.get(name)
        if berth is None:
            return None
        berth.link.close()  # observes the loss, while it is still ours
        del self.berths[name]
        return berth.dock

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
        for berth in list(self.berths.values()):
            berth.link.poke(gone)

    def counters(self) -> dict[str, dict[str, int]]:
        return {name: berth.link.counters().values for name, berth in self.berths.items()}

    # --- one DockLink ---

    def start(self) -> None:
        self._started = True
        for berth in list(self.berths.values()):
            berth.link.start()

    def close(self) -> None:
        self._started = False
        for berth in list(self.berths.values()):
            berth.link.close()

    def drive(self, outputs: DriveOutputs) -> None:
        again = outputs == self.wanted  # each proof repeats them
        self.wanted = outputs
        test = self.test
        if test is not None and not again:
            test.overtaken()
        for berth in list(self.berths.values()):
            if test is None or not again or berth.dock.name != test.dock:
                berth.link.drive(outputs)

    def cut_power(self, seconds: int | None) -> None:
        for berth in list(self.berths.values()):
            berth.link.cut_power(seconds)

    def prove(self) -> None:
        for berth in list(self.berths.values()):
            berth.link.prove()
