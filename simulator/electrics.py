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
# Ours: what is left in it comes through a growing resistance; twice as much at a fifth of its charge.
LOW_CHARGE_RESISTANCE = 0.25
SELF_DISCHARGE_A_MONTH = 0.04  # ours: of its capacity, typical of lead-acid at room temperature
MONTH_S = 30 * 86_400
STARTER_OHM = 0.0275  # from facts: a level I crank holds 10.5 V of 12.6, over the 5.5 mOhm below
LEAST_CRANK_MV = 7_200  # SAE J537: what a battery's cold cranking current is stated at
CHARGE_RESISTANCE = 25.0  # ours: against this multiple it takes charge (some 12 A at 80 % and 14.2 V)


@dataclass(frozen=True, slots=True)
class BatterySpec:
    capacity_mah: int = 70_000  # ours: a patrol car's
    resistance_mohm: float = 5.5  # ours: at 25 °C; about 800 A at the bottom of a level I crank
    ocv: tuple[tuple[int, int], ...] = FLOODED_OCV
    temperature_c: int = 25
    health_permille: int = 1000  # of its capacity that age has left; its resistance grows by as much (ours)


PATROL_BATTERY = BatterySpec()


class Battery:
    """Charge and terminal voltage of a starter battery."""

    def __init__(self, spec: BatterySpec, charge_permille: int) -> None:
        self.spec = spec
        cold, health = max(0, 25 - spec.temperature_c), spec.health_permille / 1000
        self.capacity_mas = spec.capacity_mah * 3600 * (1 - COLD_CAPACITY_PER_DEGREE * cold) * health
        self._full_ohm = spec.resistance_mohm / 1000 * (1 + COLD_RESISTANCE_PER_DEGREE * cold) * (2 - health)
        self.charge_mas = self.capacity_mas * charge_permille / 1000
        self.leak_ma = self.capacity_mas * SELF_DISCHARGE_A_MONTH / MONTH_S
        # A charge, with what voltage and resistance are then.
        self._state: tuple[float, float, float] | None = None

    @property
    def open_mv(self) -> float:
        return self._now()[1]

    @property
    def resistance_ohm(self) -> float:
        return self._now()[2]

    @property
    def turns_engine(self) -> bool:
        """Whether a starter keeps enough of its voltage."""
        return self.open_mv * STARTER_OHM / (STARTER_OHM + self.resistance_ohm) >= LEAST_CRANK_MV

    def _now(self) -> tuple[float, float, float]:
        state = self._state
        if state is None or state[0] != self.charge_mas:
            share = self.charge_mas / self.capacity_mas
            ohm = self._full_ohm * (1 + LOW_CHARGE_RESISTANCE * (1 / max(share, 0.05) - 1))
            state = self._state = self.charge_mas, self._open_mv(1000 * share), ohm
        return state

    def _open_mv(self, permille: float) -> float:
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
        left = self.charge_mas - (draw_ma + self.leak_ma) * seconds
        self.charge_mas = min(max(left, 0.0), self.capacity_mas)


# --- supplies and cranks ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Supply:
    """Something that holds the terminals at a voltage as long as its current suffices."""

    mv: int
    limit_ma: int


PLAIN_ALTERNATOR = Supply(14_200, 120_000)  # facts: normal charge is 13.8 to 14.4 V; current is ours
SMART_ALTERNATOR = Supply(12_500, 120_000)  # facts: smart ones regulate to about 12.5 V while running
# Ours: by its battery sensor it charges as a plain one does, from the lower share of charge to the upper.
SMART_CHARGES = (0.75, 0.85)
MAINS_CHARGER = Supply(13_600, 10_000)  # ours: a maintenance charger on a parked vehicle


DC_CONVERTER = Supply(13_800, 60_000)  # ours: what feeds an electric car's 12 V battery while it is ready
LOAD_DUMP_MV, LOAD_DUMP_NS = 35_000, 400 * MS  # facts: the longest, where it is clamped

GUARD_CUTS_MV = 11_000  # facts: Havis ChargeGuard
GUARD_DELAY_NS = 60 * SECOND  # ours, short in its range: it must not cut for a crank


class ChargeGuard:
    """Between battery and dock: cuts a low supply, and gives it back with the ignition only."""

    def __init__(self) -> None:
        self.open = False
        self._low_since: int | None = None

    def feeds(self, now: int, mv: int, *, kl15: bool) -> bool:
        """Whether the supply goes through; to be asked whenever one of these may have changed."""
        if kl15:
            self.open = False
        if mv >= GUARD_CUTS_MV or kl15:
            self._low_since = None
        elif self._low_since is None:
            self._low_since = now
        elif now - self._low_since >= GUARD_DELAY_NS:
            self.open = True
        return not self.open


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
