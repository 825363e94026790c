"""A dock that is known by a USB device only: whether it is there is a hint. Sans-IO.

Descriptors can be faked with any gadget board, the port path with any hub; so can all of it together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.core.types import (
    BootNs,
    Counters,
    DockHint,
    DockLinkLost,
    DockLinkUp,
    HintKind,
    LinkLoss,
    Observation,
)
from drivers.docks.usb_presence.codec import BEGIN, END, Decoder, Gone, Mark, There
from drivers.listening import ListeningSession
from drivers.spec import DockSettings, Entropy

DEVICES_MAX = 16  # of the wanted kind at once; ours


class UsbPresenceSession(ListeningSession):
    """Implements ``drivers.spec.DockSession``; its bytes are those of ``codec``. It has no outputs."""

    def __init__(self, settings: DockSettings, _entropy: Entropy) -> None:
        options: Mapping[str, Any] = settings.options
        for name in ("vendor", "product"):
            if not options.get(name):
                raise ValueError(f"`{name}` is missing in `[dock.usb]`")
        super().__init__(settings.name)
        self._kind = (options["vendor"], options["product"])
        self._serial: str | None = options.get("serial")
        self._path: str | None = options.get("port_path")
        self._means: str = options.get("means", "mated")
        self._decoder = Decoder()
        self._there: dict[str, There] = {}
        self._listing = False
        self._overfull = 0

    def link_up(self, at: BootNs) -> list[Observation]:
        self._there.clear()
        self._decoder, self._listing = Decoder(), False
        return [DockLinkUp(at, self._name)]

    def link_lost(self, at: BootNs, reason: LinkLoss) -> list[Observation]:
        self._there.clear()
        return [DockLinkLost(at, self._name, reason)]

    def feed(self, data: bytes, at: BootNs) -> list[Observation]:
        told = False
        for said in self._decoder.feed(data):
            match said:
                case There() if (said.vendor, said.product) != self._kind:
                    continue
                case There() if len(self._there) >= DEVICES_MAX and said.path not in self._there:
                    self._overfull += 1
                case There():
                    self._there[said.path] = said
                case Gone():
                    self._there.pop(said.path, None)
                case Mark() if said == BEGIN:
                    self._there.clear()
                    self._listing = True
                case Mark() if said == END:
                    self._listing = False
                case _:
                    continue
            told = True
        return [self._hint(at)] if told and not self._listing else []

    def _hint(self, at: BootNs) -> DockHint:
        fits = [each for each in self._there.values() if self._fits(each)]
        others = [each.path for each in self._there.values() if not self._fits(each)]
        detail = f"another of its kind at {', '.join(sorted(others))}" if others else ""
        present = bool(fits)
        return DockHint(
            at, self._name, HintKind.USB, detail=detail,
            seated=present if self._means == "seated" else None,
            mated=present if self._means == "mated" else None,
        )  # fmt: skip

    def _fits(self, device: There) -> bool:
        serial_fits = self._serial is None or device.serial == self._serial
        return serial_fits and (self._path is None or device.path == self._path)

    def counters(self) -> Counters:
        return Counters({**self._decoder.dropped, "overfull": self._overfull})
