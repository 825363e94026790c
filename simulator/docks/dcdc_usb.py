"""The Mini-Box DCDC-USB as its maker's library sees it: answers one question with a report of 24 bytes."""

from __future__ import annotations

from agent.core.types import SECOND, BootNs
from drivers.docks.dcdc_usb.codec import ASK, Values


class DcdcUsb:
    """The supply; set its voltages as attributes. With ``feed`` and ``outgoing`` it runs on a descriptor."""

    def __init__(self, at: BootNs = BootNs(0)) -> None:  # noqa: B008  # a number
        self.input_mv, self.ignition_mv, self.output_mv = 12_600, 0, 12_000
        self.deaf = False  # it does not answer
        self.asked = 0
        self.refused = 0  # anything but the question: a real one would obey it
        self._at = at
        self._out = b""

    def feed(self, data: bytes, at: BootNs) -> None:
        self._at = at
        for n in range(0, len(data), len(ASK)):
            if data[n : n + len(ASK)] != ASK:
                self.refused += 1
                continue
            self.asked += 1
            if not self.deaf:
                self._out += self.report()

    def report(self) -> bytes:
        on = self.input_mv > 6000
        return Values(
            "automotive", self.input_mv, self.ignition_mv, self.output_mv if on else 0, on, (1, 7)
        ).encode()

    def timer(self, at: BootNs) -> None:
        """It does nothing by itself."""
        self._at = at

    def next_deadline(self) -> BootNs:
        return BootNs(self._at + 3600 * SECOND)

    def outgoing(self) -> bytes:
        data, self._out = self._out, b""
        return data
