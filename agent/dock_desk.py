"""What pairing, its end and tests of docks share: bay, pairings on disk, ports; one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import structlog

from agent.bay import DockBay
from agent.config import Dock
from agent.control import Caller, Refusal
from agent.core.records import Record
from agent.core.types import BootNs, DockIdent, PairAnswer
from agent.pairings import PairingError, Pairings

log = structlog.get_logger()

BUSY_S = 15.0  # ours: what finishing an interrupted pairing after a start takes at most

Tell = Callable[[str, str], None]  # a step's stable name, and words


class Counterpart(Protocol):
    """A dock's port while its key is set or cleared."""

    @property
    def path(self) -> str | None: ...

    async def identify(self) -> DockIdent | None: ...
    async def prove(self, key: bytes, serial: str, vehicle_id: str) -> PairAnswer: ...
    async def pair(self, key: bytes, vehicle_id: str) -> PairAnswer: ...
    async def unpair(self) -> PairAnswer: ...
    def close(self) -> None: ...


# A serial port that a dock may be behind, and the properties by which it is found again, if any are known.
Found = tuple[str, Mapping[str, str]]


class Hardware(Protocol):
    """What the composition root offers; the names of docks and ports mean something there only."""

    def open(self, model: str, path: str) -> Counterpart:
        """Raises LookupError, with words for the operator: no such model, or it holds no key."""

    def version(self, model: str) -> int:
        """Of the link, that the model agrees on."""

    def baud(self, model: str) -> int: ...
    def docks(self) -> list[Found]:
        """The ports that the udev rules mark as a dock's."""

    def found(self, path: str) -> Found:
        """A port by its path."""

    def locate(self, port: str | None, match: Mapping[str, str]) -> str | None: ...


@dataclass(slots=True)
class Desk:
    """``record`` commits a record; ``configured`` are the docks of the configuration, name to serial."""

    bay: DockBay
    pairings: Pairings
    hardware: Hardware
    configured: Mapping[str, str]
    record: Callable[[Record], None]
    now: Callable[[], BootNs]
    lines_hold: Callable[[], bool] = lambda: False  # control lines may stand for proof
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    def reload(self) -> list[str]:
        """Take up what changed in the folder of pairings; returns what is wrong there. The rest stays."""
        docks, problems = self.pairings.good()
        for dock in docks:
            berth = self.bay.berths.get(dock.name)
            if dock.name not in self.configured and (berth is None or berth.dock != dock):
                problems += self.put_in(dock)
        named = {dock.name for dock in docks}
        if not problems:
            for name in set(self.bay.berths) - named - self.configured.keys():
                self.bay.take_out(name)
        return problems

    def known(self) -> dict[str, str]:
        """Every dock of this tablet, name to serial, also while it is out of the bay."""
        return {dock.name: dock.serial for dock in self.pairings.good()[0]} | dict(self.configured)

    def in_force(self, dock: Dock) -> None:
        """A pairing is good: its dock is one of ours, in place of whatever had its name."""
        berth = self.bay.berths.get(dock.name)
        if berth is None or berth.dock != dock:
            for problem in self.put_in(dock):
                log.error("pairing.not_in_force", problem=problem)

    def put_in(self, dock: Dock) -> list[str]:
        try:
            self.bay.take_out(dock.name)
            self.bay.put_in(dock)
        except (PairingError, ValueError, LookupError) as error:
            return [f"dock {dock.name}: {error}"]
        return []

    @contextmanager
    def port(self, model: str, path: str) -> Iterator[Counterpart]:
        """A dock's port, taken from whoever of ours holds it and given back afterwards."""
        held = [dock for name in self.bay.at(path) if (dock := self.bay.take_out(name)) is not None]
        try:
            port = self.hardware.open(model, path)
            try:
                yield port
            finally:
                port.close()
        finally:
            still = {dock.name: dock for dock in self.pairings.good()[0]}
            for dock in held:
                if dock.name in self.configured or dock.name in still:
                    for problem in self.put_in(still.get(dock.name, dock)):
                        log.error("pairing.not_in_force", problem=problem)

    @asynccontextmanager
    async def alone(self, tell: Tell = lambda _step, _text: None) -> AsyncIterator[None]:
        """Pairings and tests wait for each other, but not for long. Raises Refusal."""
        if self._busy.locked():
            tell("waiting", "another pairing or test is under way")
        try:
            async with asyncio.timeout(BUSY_S):
                await self._busy.acquire()
        except TimeoutError:
            raise Refusal("busy", "another pairing or test is under way", "wait for its end") from None
        try:
            yield
        finally:
            self._busy.release()


def teller(caller: Caller) -> Tell:
    """Tells a caller each step."""
    return lambda step, text: caller.tell({"step": step, "text": text})


@contextmanager
def refused() -> Iterator[None]:
    """What goes wrong on the way, as an answer. The words of these errors hold no key."""
    try:
        yield
    except PairingError as error:
        raise Refusal("store", str(error), "the dock keeps what it has; mend this, then pair again") from None
    except LookupError as error:
        raise Refusal("no_pairing", str(error).strip("'"), "see docs/adding-a-dock.md") from None
    except (msgspec.ValidationError, ValueError) as error:
        raise Refusal("bad_request", str(error), "see `ivmactl dock pair --help`") from None
