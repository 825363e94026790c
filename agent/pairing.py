"""Pairing a dock with this tablet: `ivmactl dock pair`, inside the daemon.

The daemon does it because it holds the serial ports. The order makes every interruption recoverable: the new
key is on disk as pending before the dock hears of it, and is good only once the dock proved it. What is found
pending, at the next start or pairing, is asked of the dock before anything else.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection

import msgspec
import structlog

from agent.config import DOCKS_MAX, Dock
from agent.control import Caller, Refusal
from agent.core.catalogue import CONFIG_REFUSED, DOCK_PAIRED
from agent.core.types import DockIdent, PairAnswer
from agent.dock_desk import Counterpart, Desk, Found, Tell, refused, teller
from agent.pairing_wish import Wish
from agent.pairings import PairingError

log = structlog.get_logger()


class Pairer:
    """Pairs, and finishes what an interruption left."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._problems: list[str] = []

    def take_up(self) -> None:
        """Before the start: put in every dock that is paired. What is wrong is told by ``recover``."""
        self._problems = self._desk.reload()

    async def pair(self, wish: Wish, caller: Caller, *, listed: bool = False) -> dict[str, object]:
        """Pair the dock that the wish means; with ``listed`` on a port of a dock only. Raises Refusal."""
        tell = teller(caller)
        with refused():
            if self._desk.lines_hold():
                raise Refusal(
                    "lines_hold",
                    "`policy.tether.hint_lines` is allow: a wire bridge would open what a key guards",
                    "set it to report or restrict, reload the agent, then pair",
                )  # fmt: skip
            async with self._desk.alone(tell):
                found = self._choose(wish, listed)
                with self._desk.port(wish.model, found[0]) as port:
                    dock, way, ident = await self._pair(wish, found, port, tell)
                self._desk.in_force(dock)
        self._desk.record(
            DOCK_PAIRED.make(
                self._desk.now(), dock=dock.name, serial=dock.serial, vehicle_id=dock.vehicle_id,
                model=ident.model, way=way, version=dock.link_version, uid=caller.peer.uid,
            )
        )  # fmt: skip
        tell("paired", f"dock {dock.serial} is paired as {dock.name}")
        return {
            "dock": dock.name,
            "serial": dock.serial,
            "vehicle_id": dock.vehicle_id,
            "model": ident.model,
            "firmware": ".".join(map(str, ident.firmware)),
            "port": found[0],
            "link_version": dock.link_version,
            "way": way,
            "proved": True,
        }

    async def _pair(
        self, wish: Wish, found: Found, port: Counterpart, tell: Tell
    ) -> tuple[Dock, str, DockIdent]:
        ident = await port.identify()
        if ident is None:
            raise Refusal(
                "silent", f"nothing on {found[0]} answers as a dock of the model {wish.model}",
                "check the cable and the dock's supply, or name another port with --port",
            )  # fmt: skip
        firmware = ".".join(map(str, ident.firmware))
        tell("found", f"dock {ident.serial}, {ident.model}, firmware {firmware}, on {found[0]}")
        resumed = await self._resume(ident, port, tell)
        if resumed is not None:
            return resumed, "resumed", ident
        dock = self._wanted(wish, found, ident)
        others = [other for other in self._desk.pairings.good()[0] if other.serial == ident.serial]
        if wish.key is not None and await self._holds(port, dock, wish.key):
            tell("provisioned", "the dock holds the given key already")
            dock = self._desk.pairings.begin(dock, wish.key)
            way = "provisioned"
        else:
            way = "new key" if wish.key is None else "given key"
            dock = await self._set_key(dock, wish.key or secrets.token_bytes(32), port, tell)
        self._desk.pairings.settle(dock.name)
        for other in others:
            if other.name != dock.name:  # the dock has no longer the key of that one
                self._desk.pairings.forget(other.name)
                self._desk.bay.take_out(other.name)
        return dock, way, ident

    async def _set_key(self, dock: Dock, key: bytes, port: Counterpart, tell: Tell) -> Dock:
        dock = self._desk.pairings.begin(dock, key)
        tell("pending", "the new key is stored on the tablet, not yet in force")
        answer = await port.pair(key, dock.vehicle_id)
        took = answer is PairAnswer.DONE
        tell(
            "proving", "the dock took the key; now it must prove it" if took else "asking the dock for proof"
        )
        # After a refusal too: a dock that took the first PAIR and could not say so refuses the second.
        proof = await port.prove(key, dock.serial, dock.vehicle_id)
        if answer is PairAnswer.REFUSED and proof not in (PairAnswer.DONE, PairAnswer.SILENT):
            self._desk.pairings.give_up(dock.name)
            raise Refusal(
                "paired_already", f"dock {dock.serial} is paired already, and its service contact is open",
                "close its service contact and pair again, or unpair it from its own tablet first",
            )  # fmt: skip
        if proof is PairAnswer.DONE:
            return dock
        if proof is PairAnswer.SILENT:
            raise Refusal(
                "unproven", f"dock {dock.serial} did not prove the new key",
                "pair again: the same key is tried first, so nothing is lost",
            )  # fmt: skip
        self._desk.pairings.give_up(dock.name)
        raise Refusal(
            "not_kept", f"dock {dock.serial} did not keep the new key ({proof.value})",
            "pair again; a dock that does so twice is to be replaced",
        )  # fmt: skip

    async def _holds(self, port: Counterpart, dock: Dock, key: bytes) -> bool:
        answer = await port.prove(key, dock.serial, dock.vehicle_id)
        if answer is PairAnswer.SILENT:
            raise Refusal("silent", f"dock {dock.serial} went silent", "check its cable, then pair again")
        return answer is PairAnswer.DONE

    async def _resume(self, ident: DockIdent, port: Counterpart, tell: Tell) -> Dock | None:
        """A pairing with this dock that was begun, made good if it has the key; None: there is none."""
        for dock in self._desk.pairings.pending()[0]:
            if dock.serial != ident.serial:
                continue
            tell("resuming", f"an earlier pairing as {dock.name} was interrupted; asking for its key")
            if await self._holds(port, dock, self._desk.pairings.key_of(dock)):
                self._desk.pairings.settle(dock.name)
                return dock
            self._desk.pairings.give_up(dock.name)
        return None

    # --- after a start, and on reload -----------------------------------------------------------------

    async def recover(self) -> None:
        """After the start: finish what an interruption left pending, if its dock answers. Raises nothing."""
        for problem in self._problems:
            log.error("pairing.refused", problem=problem)
            self._desk.record(CONFIG_REFUSED.make(self._desk.now(), problem=problem))
        pending, problems = self._desk.pairings.pending()
        for problem in problems:
            log.warning("pairing.unreadable", problem=problem)
        for dock in pending:
            try:
                async with self._desk.alone():
                    await self._recover(dock)
            except (Refusal, PairingError, LookupError) as error:
                log.warning("pairing.not_recovered", dock=dock.name, problem=str(error))

    async def _recover(self, dock: Dock) -> None:
        path = self._desk.hardware.locate(dock.port, dock.match)
        if path is None:
            return
        with self._desk.port(dock.model, path) as port:
            answer = await port.prove(self._desk.pairings.key_of(dock), dock.serial, dock.vehicle_id)
            if answer is PairAnswer.DONE:
                self._desk.pairings.settle(dock.name)
        if answer is PairAnswer.DONE:
            self._desk.in_force(dock)
        log.info(
            "pairing.recovered" if answer is PairAnswer.DONE else "pairing.still_pending", dock=dock.name
        )
        if answer is PairAnswer.DONE:
            self._desk.record(
                DOCK_PAIRED.make(
                    self._desk.now(), dock=dock.name, serial=dock.serial, vehicle_id=dock.vehicle_id,
                    model=dock.model, way="recovered", version=dock.link_version, uid=-1,
                )
            )  # fmt: skip

    # --- ports and names ------------------------------------------------------------------------------

    def _choose(self, wish: Wish, listed: bool) -> Found:
        """The port that is meant; with ``listed`` only one that the udev rules mark as a dock's."""
        if wish.port is not None and not listed:
            return self._desk.hardware.found(wish.port)
        found = [port for port in self._desk.hardware.docks() if not self._proven(port[0])]
        if wish.port is not None:
            found = [port for port in self._desk.hardware.docks() if port[0] == wish.port]
        if len(found) == 1:
            return found[0]
        ports = ", ".join(path for path, _match in found) or "none"
        raise Refusal(
            "which_port", f"expected one dock that is not paired yet; found {ports}",
            "connect one dock, or name its serial port with --port",
        )  # fmt: skip

    def _proven(self, path: str) -> bool:
        return any(self._desk.bay.berths[name].proven for name in self._desk.bay.at(path))

    def _wanted(self, wish: Wish, found: Found, ident: DockIdent) -> Dock:
        known = self._desk.known()
        if ident.serial and ident.serial in self._desk.configured.values():
            raise Refusal(
                "configured", f"dock {ident.serial} is named in the configuration, with a key of its own",
                "take its [[dock]] out of the configuration and restart the agent, then pair it",
            )  # fmt: skip
        so_far = next((name for name, serial in known.items() if serial == ident.serial), None)
        name = wish.name or so_far or _free(known)
        if name in self._desk.configured:
            raise Refusal("configured", f"the configuration names a dock {name}", "choose another --name")
        if name not in known and len(known) >= DOCKS_MAX:
            raise Refusal("too_many", f"{DOCKS_MAX} docks are paired", "unpair one that is no longer used")
        if known.get(name, ident.serial) != ident.serial and not wish.replace:
            raise Refusal(
                "name_taken", f"{name} is dock {known[name]}, and this is dock {ident.serial}",
                "choose another --name; or, if that dock is gone, say --replace",
            )  # fmt: skip
        vehicle_id = wish.vehicle_id or ident.vehicle_id
        if not vehicle_id:
            raise Refusal(
                "no_vehicle", "the dock names no vehicle", "say which vehicle it is in with --vehicle"
            )
        return msgspec.convert(
            {
                "name": name, "model": wish.model, "baud": self._desk.hardware.baud(wish.model),
                **({"match": dict(found[1])} if found[1] else {"port": found[0]}),
                "serial": ident.serial, "vehicle_id": vehicle_id, "key_file": "-",
                "link_version": self._desk.hardware.version(wish.model),
            },
            Dock,
        )  # fmt: skip


def _free(taken: Collection[str]) -> str:
    """The first name that no dock has."""
    names = ("dock" if number == 1 else f"dock-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)
