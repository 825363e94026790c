"""What the control room sends: verified, bound to this tablet and, commands, to this run; each taken once.

Pure: times and payloads come in, orders go out. A command names the boot and the nonce that this run of the
agent published at its birth, so that neither a reboot nor a restart can let one be done twice; within a run
its number must be greater than all before. Desired configurations and fleet keys do not expire and are
ordered by their generation, which whoever keeps them looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.core.orders import Command, NewFleetKey, Order, OrderRefused, Wanted
from agent.core.types import MS, SECOND, BootNs
from sync import documents
from sync.errors import RemoteProtocolError
from sync.keys import Verifier
from sync.signed import D, unseal

COMMAND, DESIRED, FLEET_KEY = "command", "desired", "fleet-key"
AHEAD_NS = 3600 * SECOND  # ours: a command that could wait for longer is a mistake, or a theft in the making
REMEMBERED = 64  # ours: ids by which a redelivery is told from an old number


@dataclass(frozen=True, slots=True)
class OrderKeys:
    """Whose word counts, by purpose; no key: nothing of that kind is taken."""

    commands: Sequence[Verifier] = ()
    desired: Sequence[Verifier] = ()
    fleet_key: Sequence[Verifier] = ()


@dataclass
class Orders:
    """Reads what comes for one tablet. ``boot_id`` and ``nonce`` are 16 bytes."""

    fleet: str
    device: str
    boot_id: bytes
    nonce: bytes
    keys: OrderKeys
    now: Callable[[], BootNs]
    repeated: int = 0  # commands that came again
    _highest: int = 0
    _ids: list[str] = field(default_factory=list)

    def read(self, what: str, payload: bytes) -> Order | None:
        """The order in a message of the topic ``what``; None for a command that was taken already."""
        at = self.now()
        try:
            text = payload.decode("ascii")
            match what:
                case "command":
                    return self._command(self._opened(text, documents.Command, self.keys.commands), at)
                case "desired":
                    wanted = self._opened(text, documents.Desired, self.keys.desired)
                    return Wanted(at, wanted.number, wanted.trial_s, wanted.toml)
                case _:
                    key = self._opened(text, documents.FleetKey, self.keys.fleet_key)
                    return NewFleetKey(at, key.generation, bytes.fromhex(key.key))
        except UnicodeDecodeError as error:
            return OrderRefused(at, what, "armour", f"no text: {error.reason}")
        except RemoteProtocolError as error:
            return OrderRefused(at, what, error.reason, str(error))

    def _opened(self, text: str, kind: type[D], keys: Sequence[Verifier]) -> D:
        paper = unseal(text, (kind,), keys)
        if isinstance(paper, documents.TabletPaper) and (paper.fleet, paper.device) != (
            self.fleet,
            self.device,
        ):
            raise RemoteProtocolError(
                "other_tablet",
                f"it is for tablet {paper.device} of fleet {paper.fleet}; "
                f"this is {self.device} of {self.fleet}",
            )
        return paper

    def _command(self, told: documents.Command, at: BootNs) -> Command | None:
        """A command that is to be done now.

        Raises:
            RemoteProtocolError: ``boot``, ``birth``, ``late``, ``far``, ``order``: the first that applies.
        """
        if told.id in self._ids:
            self.repeated += 1
            return None
        if told.boot_id != self.boot_id.hex():
            raise RemoteProtocolError("boot", "it is for another boot of this tablet, and void")
        if told.nonce != self.nonce.hex():
            raise RemoteProtocolError("birth", "it is for an earlier run of the agent: sign it anew")
        latest = told.latest_ms * MS
        if at > latest:
            raise RemoteProtocolError("late", f"it came {(at - latest) // SECOND} s after its latest time")
        if latest > at + AHEAD_NS:
            raise RemoteProtocolError(
                "far", f"it could wait for {(latest - at) // SECOND} s; expected {AHEAD_NS // SECOND} at most"
            )
        if told.number <= self._highest:
            raise RemoteProtocolError("order", f"number {told.number} comes after {self._highest}")
        self._highest = told.number
        self._ids = [*self._ids[1 - REMEMBERED :], told.id]
        return Command(at, told.id, told.number, told.verb, told.level, told.paper)
