"""Reports of the Mini-Box DCDC-USB (04d8:d003), for either end. Sans-IO. docs/docks.md.

The question is two bytes, 0x81 0x00; the answer a report of 24 bytes that begins with 0x82: mode, state,
input voltage, ignition voltage, output voltage, status flags, and what is not read here. Only this question
is ever asked: the supply's commands can switch its output off, or write its memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

ASK = b"\x81\x00"
ANSWER = 0x82
REPORT_SIZE = 24  # bytes; the maker's library reads so many
INPUT_UV, OUTPUT_UV = 155_800, 117_000  # a count, 0.1558 V and 0.1170 V; the maker's library
OUTPUT_ENABLED = 0x08  # status flag; the maker's library
_MODES = ("dumb", "automotive", "script", "ups")  # the low two bits of the mode


@dataclass(frozen=True, slots=True)
class Values:
    """One answer. Voltages are 8-bit readings: 0.16 V of resolution."""

    mode: str
    input_mv: int
    ignition_mv: int
    output_mv: int
    output_on: bool
    version: tuple[int, int]

    def encode(self) -> bytes:
        report = bytearray(REPORT_SIZE)
        report[0], report[1] = ANSWER, _MODES.index(self.mode)
        report[3] = min(255, self.input_mv * 1000 // INPUT_UV)
        report[4] = min(255, self.ignition_mv * 1000 // INPUT_UV)
        report[5] = min(255, self.output_mv * 1000 // OUTPUT_UV)
        report[6] = OUTPUT_ENABLED if self.output_on else 0
        report[23] = self.version[0] << 5 | self.version[1]
        return bytes(report)


class Decoder:
    """Bytes to answers. A read gives whole reports, so one that begins with another id is dropped whole."""

    def __init__(self) -> None:
        self._begun = b""
        self.dropped: Counter[str] = Counter()

    def feed(self, data: bytes) -> Iterator[Values]:
        data = self._begun + data
        while data:
            if data[0] != ANSWER:
                self.dropped["other_report"] += 1
                data = b""
                break
            if len(data) < REPORT_SIZE:
                break
            report, data = data[:REPORT_SIZE], data[REPORT_SIZE:]
            yield Values(
                _MODES[report[1] & 0x03],
                report[3] * INPUT_UV // 1000,
                report[4] * INPUT_UV // 1000,
                report[5] * OUTPUT_UV // 1000,
                bool(report[6] & OUTPUT_ENABLED),
                (report[23] >> 5, report[23] & 0x1F),
            )
        self._begun = data
