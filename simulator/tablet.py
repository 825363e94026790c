"""A tablet's own supplies: what it draws, its battery, and the kernel's power_supply tree that shows them.

``Tablet`` is physics without I/O and takes its time from its caller; ``PowerSupplyTree`` writes what it
shows as files, laid out as /sys/class/power_supply is, in the kernel's units: µV, µA, µAh, 0.1 °C.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from agent.core.types import SECOND, BootNs


class Power(enum.Enum):
    ON = "on"
    SUSPENDED = "suspended"
    OFF = "off"


# Draw of a 10 inch rugged tablet, mW; ours.
DRAW_MW = {Power.ON: 9_000, Power.SUSPENDED: 250, Power.OFF: 15}


@dataclass(frozen=True, slots=True)
class TabletSpec:
    capacity_mwh: int = 36_000  # ours: a two-cell battery
    full_mv: int = 8_400  # two lithium cells, full
    empty_mv: int = 6_600  # two lithium cells, at the cut-off
    charge_mw: int = 18_000  # ours: the charger's limit
    efficiency_percent: int = 88  # ours: of the dock's converter and the charger together
    charge_permille: int = 800


class Tablet:
    """One tablet. Read it after ``advance``; times only go forward."""

    def __init__(self, start: BootNs, spec: TabletSpec | None = None) -> None:
        self.spec = spec or TabletSpec()
        self.at = start
        self.power = Power.OFF
        self.supply_mv = 0  # what the dock gives; 0 is none
        self.temperature_dc = 285
        self._held_mws = self._full_mws * self.spec.charge_permille / 1000

    @property
    def _full_mws(self) -> float:
        return self.spec.capacity_mwh * 3600.0

    @property
    def percent(self) -> int:
        return round(100 * self._held_mws / self._full_mws)

    @property
    def battery_mv(self) -> int:
        share = self._held_mws / self._full_mws
        return round(self.spec.empty_mv + (self.spec.full_mv - self.spec.empty_mv) * share)

    @property
    def battery_mw(self) -> int:
        """Into the battery; negative: out of it."""
        if not self.supply_mv:
            return -DRAW_MW[self.power] if self._held_mws > 0 else 0
        return self.spec.charge_mw if self._held_mws < self._full_mws else 0

    @property
    def supply_ma(self) -> int:
        """Current out of the dock."""
        if not self.supply_mv:
            return 0
        watts = DRAW_MW[self.power] + self.battery_mw
        return round(watts * 100_000 / self.spec.efficiency_percent / self.supply_mv)

    def advance(self, to: BootNs) -> None:
        """Move to ``to``; a tablet whose battery runs empty without a supply goes off."""
        seconds = max(0, to - self.at) / SECOND
        self._held_mws = min(max(self._held_mws + self.battery_mw * seconds, 0.0), self._full_mws)
        self.at = BootNs(max(self.at, to))
        if not self.supply_mv and self._held_mws == 0:
            self.power = Power.OFF


class PowerSupplyTree:
    """Mains and battery as files in ``root``; an attribute is rewritten only when it changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._written: dict[str, str] = {}

    def write(self, tablet: Tablet) -> bool:
        """Show the tablet's supplies; True if anything changed, as a udev change event would say."""
        into = tablet.battery_mw
        status = "Discharging" if into < 0 else "Charging" if into > 0 else "Full"
        full = tablet.spec.capacity_mwh * 1_000_000 // tablet.spec.full_mv
        attributes = {
            "AC/type": "Mains",
            "AC/online": str(int(tablet.supply_mv > 0)),
            "BAT0/type": "Battery",
            "BAT0/scope": "System",
            "BAT0/present": "1",
            "BAT0/status": status,
            "BAT0/capacity": str(tablet.percent),
            "BAT0/voltage_now": str(tablet.battery_mv // 10 * 10_000),
            "BAT0/current_now": str(into * 1_000_000 // tablet.battery_mv // 1000 * 1000),
            "BAT0/charge_full": str(full),
            "BAT0/temp": str(tablet.temperature_dc),
        }
        changed = {name: value for name, value in attributes.items() if self._written.get(name) != value}
        for name, value in changed.items():
            path = self._root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # A reader must never see an empty attribute, as it never does in sysfs.
            part = self._root.with_suffix(".part")
            part.write_text(value + "\n")
            part.replace(path)
        self._written.update(changed)
        return bool(changed)
