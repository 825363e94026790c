"""A vehicle supply that tells its voltages: hints of ignition and battery, none of the seat. Sans-IO."""

from __future__ import annotations

from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    Counters,
    DockHint,
    DockLinkLost,
    DockLinkUp,
    DriveOutputs,
    HintKind,
    LinkLoss,
    Observation,
)
from drivers.docks.dcdc_usb.codec import ASK, Decoder, Values
from drivers.spec import DockSettings, Entropy

TRIES = 5  # questions without an answer until the link counts as lost; ours, as on the reference link
SILENT_NS = 1 * SECOND  # between two questions then; ours
HYSTERESIS_MV = 1000  # of the ignition input; ours, six counts
POLL_MS, ON_MV = 200, 6000  # where the configuration says nothing


class DcdcUsbSession:
    """Implements ``drivers.spec.DockSession``. It asks and never commands."""

    def __init__(self, settings: DockSettings, _entropy: Entropy) -> None:
        options = settings.options
        self._name = settings.name
        self._has_ignition: bool = options.get("ignition", True)
        self._on_mv: int = options.get("ignition_on_mv", ON_MV)
        self._poll_ns: int = options.get("poll_ms", POLL_MS) * MS
        self._decoder = Decoder()
        self._up = False
        self._silent = False
        self._unanswered = 0
        self._kl15: bool | None = None
        self._ask_at = BootNs(0)
        self._out = b""

    @property
    def name(self) -> str:
        return self._name

    def link_up(self, at: BootNs) -> list[Observation]:
        self._up, self._silent, self._unanswered, self._kl15 = True, False, 0, None
        self._decoder = Decoder()
        self._ask(at)
        return [DockLinkUp(at, self._name)]

    def link_lost(self, at: BootNs, reason: LinkLoss) -> list[Observation]:
        self._up, self._out = False, b""
        return [DockLinkLost(at, self._name, reason)]

    def feed(self, data: bytes, at: BootNs) -> list[Observation]:
        found: list[Observation] = []
        if not self._up:
            return found
        for values in self._decoder.feed(data):
            if self._silent:
                found.append(DockLinkUp(at, self._name))
            self._silent, self._unanswered = False, 0
            found.append(self._hint(values, at))
        return found

    def timer(self, at: BootNs) -> list[Observation]:
        if not self._up or at < self._ask_at:
            return []
        found: list[Observation] = []
        if self._unanswered >= TRIES and not self._silent:
            self._silent = True
            found.append(DockLinkLost(at, self._name, LinkLoss.UNANSWERED))
        self._ask(at)
        return found

    def next_deadline(self) -> BootNs | None:
        return self._ask_at if self._up else None

    def outgoing(self) -> bytes:
        data, self._out = self._out, b""
        return data

    def counters(self) -> Counters:
        return Counters(dict(self._decoder.dropped))

    def drive(self, wanted: DriveOutputs, at: BootNs) -> None:
        """It has outputs of its own, and they are its own."""

    def cut_power(self, seconds: int | None, at: BootNs) -> None:
        """It cuts by its own timers."""

    def prove(self, at: BootNs) -> None:
        """There is nothing that it could prove by."""

    def _ask(self, at: BootNs) -> None:
        self._out = ASK
        self._unanswered += 1
        self._ask_at = BootNs(at + (SILENT_NS if self._silent else self._poll_ns))

    def _hint(self, values: Values, at: BootNs) -> DockHint:
        if self._has_ignition:
            if values.ignition_mv >= self._on_mv:
                self._kl15 = True
            elif values.ignition_mv < self._on_mv - HYSTERESIS_MV:
                self._kl15 = False
        major, minor = values.version
        return DockHint(
            at, self._name, HintKind.SUPPLY, kl15=self._kl15, supply_ok=values.output_on,
            vehicle_mv=values.input_mv, dock_mv=values.output_mv,
            detail=f"mode {values.mode}, firmware {major}.{minor}",
        )  # fmt: skip
