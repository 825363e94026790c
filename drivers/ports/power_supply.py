"""The tablet's own supplies, from the kernel's power_supply tree.

Read when udev reports a change (``changed``) and every 30 s in case it does not. A battery behind a slow
bus may take tens of milliseconds an attribute, so the loop turns between any two. Reported on change only.

Units: the kernel gives uV, uA, uW, 0.1 degrees Celsius (Documentation/power/power_supply_class).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agent.core.types import BootNs, Observation, TabletPower

POLL_S = 30.0  # ours
LEAST_INTERVAL_S = 0.5  # ours: some drivers send a burst of uevents for one change
# Ours: no charge moves so far between two looks; a gauge that lost its place, or is being read anew, says so.
JUMP_PERCENT = 20
MAX_SUPPLIES = 16  # ours: a tablet has two to five
MAX_ATTRIBUTE_BYTES = 4096  # sysfs: one page

BATTERY = (
    "present", "status", "capacity", "energy_full", "charge_full",
    "current_now", "power_now", "voltage_now", "temp",
)  # fmt: skip
SOURCE = ("online",)
Supply = Mapping[str, str]  # attribute: text; what the driver lacks is not there


class PowerSupply:
    """Watches the supplies under ``root`` on the running loop."""

    def __init__(
        self,
        root: Path,
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
        *,
        poll_s: float = POLL_S,
    ) -> None:
        self._root = root
        self._observe = observe
        self._now = now
        self._poll_s = poll_s
        self._last: TabletPower | None = None
        self._reading: Iterator[None] | None = None
        self._again = False
        self._doubted = False  # the last reading jumped, and is looked at once more before it counts
        self._read_at: float | None = None  # loop time
        self._handle: asyncio.Handle | None = None

    def start(self) -> None:
        """Read now, and from now on."""
        self._begin()

    def close(self) -> None:
        self._reading = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def changed(self) -> None:
        """Something about a supply changed: read at once, or after the least interval."""
        if self._reading is not None:
            self._again = True
        elif self._handle is not None and self._read_at is not None:
            wait_s = self._read_at + LEAST_INTERVAL_S - asyncio.get_running_loop().time()
            self._after(max(0.0, wait_s))

    def _after(self, delay_s: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = asyncio.get_running_loop().call_later(delay_s, self._begin)

    def _begin(self) -> None:
        self._again = False
        self._reading = self._read()
        self._step()

    def _step(self) -> None:
        if self._reading is None:
            return
        loop = asyncio.get_running_loop()
        try:
            next(self._reading)
        except StopIteration:
            self._reading = None
            self._read_at = loop.time()
            self._after(LEAST_INTERVAL_S if self._again else self._poll_s)
        else:
            self._handle = loop.call_soon(self._step)

    def _read(self) -> Iterator[None]:
        supplies: list[Supply] = []
        for folder in _folders(self._root):
            kind = _text(folder / "type")
            yield
            if kind is None or _text(folder / "scope") == "Device":  # the battery of a mouse or a pen
                continue
            supply = {"type": kind}
            for name in BATTERY if kind == "Battery" else SOURCE:
                value = _text(folder / name)
                if value is not None:
                    supply[name] = value
                yield
            supplies.append(supply)
        seen = self._believed(summarise(supplies, self._now()))
        if self._last is None or replace(self._last, at=seen.at) != seen:
            self._last = seen
            self._observe(seen)

    def _believed(self, seen: TabletPower) -> TabletPower:
        """A percentage that jumps counts when the next reading says it too: a floor must not rest on one."""
        before = None if self._last is None else self._last.percent
        jumps = before is not None and seen.percent is not None and abs(seen.percent - before) > JUMP_PERCENT
        self._doubted = jumps and not self._doubted
        if not self._doubted:
            return seen
        self._again = True
        return replace(seen, percent=before)


def summarise(supplies: Sequence[Supply], at: BootNs) -> TabletPower:
    """One observation of all supplies together.

    External is any source on-line; without a source that says, a battery that charges. Currents add up;
    percent is weighted by size where all batteries give one; voltage is the lowest, temperature the highest.
    """
    batteries = [each for each in supplies if each["type"] == "Battery" and each.get("present") != "0"]
    online = [
        value
        for each in supplies
        if each["type"] != "Battery" and (value := _number(each, "online")) is not None
    ]
    statuses = {each.get("status") for each in batteries}
    external: bool | None = any(online) if online else None
    if external is None and statuses & {"Charging", "Discharging"}:
        external = "Charging" in statuses
    currents = [ma for each in batteries if (ma := _current_ma(each)) is not None]
    volts = [uv for each in batteries if (uv := _number(each, "voltage_now")) is not None]
    temperatures = [dc for each in batteries if (dc := _number(each, "temp")) is not None]
    return TabletPower(
        at,
        external=external,
        percent=_percent(batteries),
        battery_ma=sum(currents) if currents else None,
        battery_mv=round(min(volts) / 1000) if volts else None,
        temperature_dc=max(temperatures) if temperatures else None,
    )


def _percent(batteries: Sequence[Supply]) -> int | None:
    known = [
        (min(100, max(0, value)), each)
        for each in batteries
        if (value := _number(each, "capacity")) is not None
    ]
    if not known:
        return None
    for size in ("energy_full", "charge_full"):  # the one or the other, by driver; never mixed
        weights = [_number(each, size) or 0 for _, each in known]
        if all(weight > 0 for weight in weights):
            break
    else:
        weights = [1] * len(known)
    return round(
        sum(value * weight for (value, _), weight in zip(known, weights, strict=True)) / sum(weights)
    )


def _current_ma(battery: Supply) -> int | None:
    current_ua = _number(battery, "current_now")
    if current_ua is None:
        power_uw, voltage_uv = _number(battery, "power_now"), _number(battery, "voltage_now")
        if power_uw is None or not voltage_uv:
            return None
        current_ua = power_uw * 1_000_000 // voltage_uv
    # Drivers differ in sign (some give the magnitude only): the status decides where it says.
    status = battery.get("status")
    if status == "Discharging":
        current_ua = -abs(current_ua)
    elif status == "Charging":
        current_ua = abs(current_ua)
    return round(current_ua / 1000)


def _number(supply: Supply, name: str) -> int | None:
    try:
        return int(supply[name])
    except (KeyError, ValueError):
        return None


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(root.iterdir())[:MAX_SUPPLIES]
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_ATTRIBUTE_BYTES).decode("ascii", "replace").strip()
    except OSError:  # the driver lacks it, or the supply went while we read (ENODEV)
        return None
