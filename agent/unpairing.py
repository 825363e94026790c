"""Ending a pairing: `ivmactl dock unpair`, inside the daemon. First the dock forgets, then the tablet."""

from __future__ import annotations

from agent.config import Dock
from agent.control import Caller, Refusal
from agent.core.catalogue import DOCK_UNPAIRED
from agent.core.types import PairAnswer
from agent.dock_desk import Desk, Tell, refused, teller


class Unpairer:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def unpair(self, name: str, forget: bool, caller: Caller) -> dict[str, object]:
        """End a pairing on both sides, or with ``forget`` on this one. Raises Refusal."""
        tell = teller(caller)
        with refused():
            async with self._desk.alone(tell):
                dock = self._known(name)
                if forget:
                    self._forget(name)
                else:
                    await self._clear_key(dock, tell)
        self._desk.record(
            DOCK_UNPAIRED.make(
                self._desk.now(), dock=name, serial=dock.serial, vehicle_id=dock.vehicle_id,
                way="forgotten" if forget else "dock", uid=caller.peer.uid,
            )
        )  # fmt: skip
        tell("unpaired", f"{name} is forgotten on this tablet")
        return {"dock": name, "serial": dock.serial, "dock_cleared": not forget}

    async def _clear_key(self, dock: Dock, tell: Tell) -> None:
        gone = "bring the dock, or forget it on this tablet only with --forget"
        path = self._desk.hardware.locate(dock.port, dock.match)
        if path is None:
            raise Refusal("absent", f"dock {dock.name} is not connected", gone)
        with self._desk.port(dock.model, path) as port:
            key = self._desk.pairings.key_of(dock)
            asked = False
            while True:
                proof = await port.prove(key, dock.serial, dock.vehicle_id)
                if asked and proof is PairAnswer.UNPAIRED:
                    break  # our UNPAIR arrived, its answer did not
                if proof is not PairAnswer.DONE:
                    raise Refusal("unproven", f"dock {dock.name} does not prove itself ({proof.value})", gone)
                tell("proven", f"dock {dock.serial} proved itself; telling it to forget its key")
                answer = await port.unpair()
                if answer is PairAnswer.DONE:
                    break
                if answer is PairAnswer.REFUSED or asked:
                    raise Refusal("refused", f"dock {dock.name} does not forget its key", gone)
                asked = True
            self._forget(dock.name)

    def _forget(self, name: str) -> None:
        self._desk.pairings.forget(name)
        self._desk.pairings.give_up(name)
        self._desk.bay.take_out(name)

    def _known(self, name: str) -> Dock:
        paired = {
            dock.name: dock for dock in [*self._desk.pairings.pending()[0], *self._desk.pairings.good()[0]]
        }
        if name in paired:
            return paired[name]
        if name in self._desk.configured:
            raise Refusal(
                "configured", f"dock {name} is named in the configuration, not paired by this agent",
                "take its [[dock]] out of the configuration; pair it with the agent to be able to unpair it",
            )  # fmt: skip
        raise Refusal("unknown_dock", f"no dock {name!r} is paired", f"paired: {', '.join(paired) or 'none'}")
