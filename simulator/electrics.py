"""Electrics of a vehicle: starter battery, alternator, charger, and the voltage over a start.

Voltages are in mV at the battery's terminals, currents in mA, charge in mAs.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from agent.core.types import MS, SECOND

# --- battery ----------------------------------------------------------------------------------------

# Open-circuit voltage over state of charge, flooded lead-acid, mV at per mille. Facts: 12.6 to 12.8 V full,
# 12.4 V at 75 %, 12.2 V half, 12.0 V or less discharged (forum figures); the end at zero is ours.
FLOODED_OCV = ((0, 11_700), (250, 12_000), (500, 12_200), (750, 12_400), (1000, 12_700))
# AGM: 12.7/12.3/12.1/11.8 V at 100/70/50/30 % (forum figures); the end at zero is ours.
AGM_OCV = ((0, 11_400), (300, 11_800), (500, 12_100), (700, 12_300), (1000, 12_700))

COLD_CAPACITY_PER_DEGREE = 0.006  # ours: capacity lost per degree below 25 °C, typical of lead-acid
COLD_RESISTANCE_PER_DEGREE = 0.015  # ours: resistance gained per degree below 25 °C
CHARGE_RESISTANCE = 25.0  # ours: against this multiple it takes charge (some 12 A at 80 % and 14.2 V)


@dataclass(frozen=True, slots=True)
class BatterySpec:
    capacity_mah: int = 70_000  # ours: a patrol car's
    resistance_mohm: float = 5.5  # ours: at 25 °C; about 800 A at the bottom of a level I crank
    ocv: tuple[tuple[int, int], ...] = FLOODED_OCV
    temperature_c: int = 25


PATROL_BATTERY = BatterySpec()


class Battery:
    """Charge and terminal voltage of a starter battery."""

    def __init__(self, spec: BatterySpec, charge_permille: int) -> None:
        self.spec = spec
        cold = max(0, 25 - spec.temperature_c)
        self.capacity_mas = spec.capacity_mah * 3600 * (1 - COLD_CAPACITY_PER_DEGREE * cold)
        self.resistance_ohm = spec.resistance_mohm / 1000 * (1 + COLD_RESISTANCE_PER_DEGREE * cold)
        self.charge_mas = self.capacity_mas * charge_permille / 1000
        self._open: tuple[float, float] | None = None  # a charge, and what ``open_mv`` is with it

    @property
    def open_mv(self) -> float:
        if self._open is None or self._open[0] != self.charge_mas:
            self._open = self.charge_mas, self._open_mv()
        return self._open[1]

    def _open_mv(self) -> float:
        permille = 1000 * self.charge_mas / self.capacity_mas
        points = self.spec.ocv
        at = min(max(bisect_right(points, permille, key=lambda point: point[0]), 1), len(points) - 1)
        (x0, y0), (x1, y1) = points[at - 1], points[at]
        return y0 + (y1 - y0) * (permille - x0) / (x1 - x0)

    def loaded_mv(self, draw_ma: float) -> float:
        """Terminal voltage while ``draw_ma`` is taken; a negative draw charges."""
        ohm = self.resistance_ohm * (1 if draw_ma >= 0 else CHARGE_RESISTANCE)
        return self.open_mv - draw_ma * ohm

    def accepts_ma(self, supply_mv: float) -> float:
        """Current that it takes from a supply of that voltage; negative: it gives."""
        over = supply_mv - self.open_mv
        if over <= 0:
            return over / self.resistance_ohm
        full = self.charge_mas >= self.capacity_mas
        return 0.0 if full else over / (self.resistance_ohm * CHARGE_RESISTANCE)

    def take(self, draw_ma: float, seconds: float) -> None:
        self.charge_mas = min(max(self.charge_mas - draw_ma * seconds, 0.0), self.capacity_mas)


# --- supplies and cranks ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Supply:
    """Something that holds the terminals at a voltage as long as its current suffices."""

    mv: int
    limit_ma: int


PLAIN_ALTERNATOR = Supply(14_200, 120_000)  # facts: normal charge is 13.8 to 14.4 V; current is ours
SMART_ALTERNATOR = Supply(12_500, 120_000)  # facts: smart ones regulate to about 12.5 V while running
MAINS_CHARGER = Supply(13_600, 10_000)  # ours: a maintenance charger on a parked vehicle


@dataclass(frozen=True, slots=True)
class Stage:
    """A piece of a crank: ``ms`` long, from the voltage before it to ``to_mv``, with 2 Hz ripple."""

    ms: int
    to_mv: int
    ripple_mv: int = 0


@dataclass(frozen=True, slots=True)
class Crank:
    """The voltage over a start, for a battery whose open-circuit voltage is ``for_mv``."""

    name: str
    for_mv: int
    stages: tuple[Stage, ...]

    @property
    def length_ns(self) -> int:
        return sum(stage.ms for stage in self.stages) * MS

    def corner_after(self, since_ns: int) -> int:
        """End of the stage that runs ``since_ns`` into the start, counted from its beginning."""
        corner = 0
        for stage in self.stages:
            corner += stage.ms * MS
            if corner > since_ns:
                break
        return corner

    def mv(self, since_ns: int, open_mv: float) -> float:
        """Voltage ``since_ns`` into the start; a weak battery starts lower and stays lower."""
        before = float(self.for_mv)
        shift = open_mv - self.for_mv
        for stage in self.stages:
            length = stage.ms * MS
            if since_ns < length:
                ripple = stage.ripple_mv * math.sin(2 * math.pi * 2 * since_ns / SECOND) / 2
                return max(0.0, before + (stage.to_mv - before) * since_ns / length + ripple + shift)
            since_ns -= length
            before = stage.to_mv
        return before + shift


CRANKS = {
    crank.name: crank
    for crank in (
        # ISO 16750-2:2003 level I, 12 V (secondary report): 8 V in 5 ms, 15 ms there, 50 ms up to 10.5 V
        # for 1 s with 2 Hz ripple, 40 ms recovery. The ripple's height is ours.
        Crank(
            "iso-1",
            12_600,
            (
                Stage(5, 8_000),
                Stage(15, 8_000),
                Stage(50, 10_500),
                Stage(1000, 10_500, 400),
                Stage(40, 12_000),
            ),
        ),
        # BMW GS 95003-2 (secondary report): 4.5 V in 1 ms, 19 ms there, plateau of 7.5 V. The plateau's
        # length and its end are ours; the report goes on at 11 V for 25 s.
        Crank(
            "bmw",
            12_600,
            (Stage(1, 4_500), Stage(19, 4_500), Stage(50, 7_500), Stage(800, 7_500, 300), Stage(60, 11_500)),
        ),
        # Worst cold crank (MPS primer): under 3 V for 15 to 50 ms, then about 6 V. The other
        # lengths are ours.
        Crank(
            "cold",
            12_600,
            (Stage(2, 2_900), Stage(30, 2_900), Stage(60, 6_000), Stage(2000, 6_000, 500), Stage(80, 11_000)),
        ),
    )
}
