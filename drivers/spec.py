"""What a dock model offers the agent: its spec, which the registry loads, and the session that it builds."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.core.types import (
    BootNs,
    Counters,
    DockIdent,
    DriveOutputs,
    LinkLoss,
    Observation,
    PairAnswer,
)

Entropy = Callable[[int], bytes]  # so many unpredictable bytes; os.urandom in production


class DockSession(Protocol):
    """The tablet's side of a dock link, sans-IO: bytes and times in, observations and bytes out.

    The port calls ``feed`` with what it read and ``timer`` when ``next_deadline`` has come; after every call
    it writes ``outgoing`` and arms its timer anew. No method raises on anything that a peer sent.
    """

    @property
    def name(self) -> str:
        """The configured name of the dock, as it stands in observations."""

    def link_up(self, at: BootNs) -> list[Observation]:
        """The wire to the dock is open."""

    def link_lost(self, at: BootNs, reason: LinkLoss) -> list[Observation]:
        """The wire is gone; every command that was under way is lost."""

    def feed(self, data: bytes, at: BootNs) -> list[Observation]: ...

    def timer(self, at: BootNs) -> list[Observation]: ...

    def next_deadline(self) -> BootNs | None: ...

    def drive(self, wanted: DriveOutputs, at: BootNs) -> None:
        """Ask for outputs; ``DockCommandDone`` says what came of it."""

    def cut_power(self, seconds: int | None, at: BootNs) -> None:
        """Ask to cut the supply after ``seconds``, or with None take that back; answered likewise."""

    def prove(self, at: BootNs) -> None:
        """Ask for fresh proof as soon as the link's pace allows."""

    def outgoing(self) -> bytes:
        """Take what is to be written: whole frames."""

    def counters(self) -> Counters: ...


class PairingSession(DockSession, Protocol):
    """A link that sets or clears a dock's key: one question at a time, sent at the next ``timer``.

    It observes nothing: the function that it was built with gets one answer to each question.
    """

    def ask_ident(self, at: BootNs) -> None:
        """Who is it? Answered by ``DockIdent``, a hint."""

    def ask_proof(self, key: bytes, serial: str, vehicle_id: str, at: BootNs) -> None:
        """Does it know the key, as that dock in that vehicle?"""

    def ask_pair(self, key: bytes, vehicle_id: str, at: BootNs) -> None:
        """Take the key and the vehicle id. The answer proves nothing: ask for proof after it."""

    def ask_unpair(self, at: BootNs) -> None:
        """Forget the key; under the session that the last proof opened."""


# The answer to the question that is open.
Told = Callable[["PairAnswer | DockIdent"], None]

# One direction of a wire, chunk by chunk, as it may be kept: of the same length, with keys blanked.
Scrub = Callable[[bytes], bytes]


def keep_all() -> Scrub:
    """The scrub of a wire on which nothing is secret."""
    return lambda data: data


class PortKind(enum.Enum):
    """What a model is reached through."""

    SERIAL = "serial"  # bytes on a serial port
    LINES = "lines"  # the control lines of a serial port
    USB = "usb"  # udev's list of USB devices
    SWITCH = "switch"  # a switch of the input subsystem
    HIDRAW = "hidraw"  # reports of a HID device

    @property
    def sends(self) -> bool:
        """Whether the tablet sends anything on it."""
        return self not in (PortKind.USB, PortKind.SWITCH)


class Capability(enum.Enum):
    """What a dock model can do; what it cannot is not asked of it."""

    PROOF = "proof"  # authenticates itself by a key
    LATCH = "latch"
    POWER_CUT = "power_cut"
    KL15 = "kl15"
    VEHICLE_VOLTAGE = "vehicle_voltage"


@dataclass(frozen=True, slots=True)
class DockSettings:
    """What the configuration says of one dock. A model without a key has only a name and options."""

    name: str
    serial: str = ""
    vehicle_id: str = ""
    key: bytes = field(default=b"", repr=False)
    version: int = 1  # of the link, agreed at pairing: nothing lower is spoken ever after
    options: Mapping[str, Any] = field(default_factory=dict)  # the table of its model


@dataclass(frozen=True, slots=True)
class DockSpec:
    """A dock model as an entry point of the group ``ivma.docks`` offers it.

    ``build`` raises ``ValueError`` with a message for the operator when the settings do not fit the model.
    """

    model: str
    build: Callable[[DockSettings, Entropy], DockSession]
    baud: int  # 0: no line has a speed
    capabilities: frozenset[Capability]
    scrub: Callable[[], Scrub] | None = (
        None  # None: nobody says what is secret on this wire, none of it is kept
    )
    pairing: Callable[[Entropy, Told], PairingSession] | None = None  # None: it has no key to be given
    version: int = 1  # of the link, the highest that the model speaks
    port: PortKind = PortKind.SERIAL
