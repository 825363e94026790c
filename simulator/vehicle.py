"""A vehicle: key, starter, engine, loads, and when its bus sleeps. Physics without I/O.

``advance(to)`` moves the vehicle to a time; what is done to it (``turn_key``, ``crank``, ...) happens at the
time that it has reached. There is no clock and no thread inside, so the same vehicle runs in real time
beside a daemon and on a virtual clock. It gives the same voltages however the way to a time was split,
but for the charge, which is integrated in pieces of at most a minute.

Voltages are in mV at the battery's terminals, currents in mA, charge in mAs.
"""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass

from agent.core.types import MINUTE, MS, SECOND, BootNs, KeyPosition
from simulator.electrics import (
    CRANKS,
    DC_CONVERTER,
    LOAD_DUMP_MV,
    LOAD_DUMP_NS,
    PATROL_BATTERY,
    PLAIN_ALTERNATOR,
    SMART_ALTERNATOR,
    SMART_CHARGES,
    Battery,
    BatterySpec,
    ChargeGuard,
    Crank,
    Supply,
)

STARTER_RPM = 220  # ours: a warm engine turned by its starter
CATCH_RPM = 1_050  # ours: the flare just after it caught
CATCH_NS = 600 * MS  # ours: from the flare down to idle


class Engine(enum.Enum):
    OFF = "off"
    CRANKING = "cranking"
    RUNNING = "running"
    STOPPED = "stopped"  # stop-start: stands still with the ignition on


# By their own names: to look a member up in its class is slow, and this is asked all the time.
RUNNING, CRANKING = Engine.RUNNING, Engine.CRANKING
ACCESSORY, ON, START = KeyPosition.ACCESSORY, KeyPosition.ON, KeyPosition.START


@dataclass(frozen=True, slots=True)
class VehicleSpec:
    battery: BatterySpec = PATROL_BATTERY
    alternator: Supply = PLAIN_ALTERNATOR
    charge_permille: int = 900
    idle_rpm: int = 800  # ours
    parasitic_ma: int = 50  # facts: traditional budget of a whole sleeping vehicle
    awake_ma: int = 6_000  # ours: ignition on, body electronics, radio, no lights
    bus_tail_ns: int = 40 * SECOND  # facts: modules sleep about 40 s after the door closes
    electric: bool = False  # RUNNING is "ready": no starter, a converter in place of the alternator
    charge_guard: bool = False  # between its battery and the dock


HELPED = 0.8  # ours: the charge that a recovery service leaves behind
INTEGRATION_NS = MINUTE  # charge moves slowly: an hour at 6 A is a twelfth of the battery


class Vehicle:
    """One vehicle. Read its properties after ``advance``; times only go forward."""

    def __init__(self, start: BootNs, spec: VehicleSpec | None = None, seed: int = 1) -> None:
        self.spec = spec or VehicleSpec()
        self.battery = Battery(self.spec.battery, self.spec.charge_permille)
        self.at = start
        self.key = KeyPosition.OFF
        self.key_in = False  # KL_S: the key is in its place, whatever its position
        self.engine = Engine.OFF
        self.charger: Supply | None = None
        self.blue_lights_ma = 0
        self.tablet_ma = 0  # what the dock takes for itself and the tablet
        self.alternator_works = True
        self.guard = ChargeGuard() if self.spec.charge_guard else None
        self.failed_starts = 0  # for want of charge
        self._catches = True  # the last crank ended, or is to end, with a running engine
        self._dump_until = start
        self._smart_charges = False
        self.speed_dkmh = 0
        self._crank: Crank | None = None
        self._engine_since = start
        # When the last reason to keep the bus awake went: it was parked long ago.
        self._quiet_since: BootNs | None = BootNs(start - self.spec.bus_tail_ns)
        self._phase = random.Random(seed).uniform(0, 2 * math.pi)

    # what can be done to it

    def turn_key(self, position: KeyPosition) -> None:
        """Turn the key; OFF also stops the engine. START is ``crank``."""
        if position is KeyPosition.START:
            self.crank()
            return
        self.key, self.key_in = position, True
        if position is not KeyPosition.ON:
            self._set_engine(Engine.OFF)
        self._note_bus()

    def pull_key(self, *, run_lock: bool = False) -> None:
        """Take the key out. With ``run_lock`` the engine, and KL15 with it, go on without a key."""
        self.key_in = False
        if not (run_lock and self.engine is Engine.RUNNING):
            self.key = KeyPosition.OFF
            self._set_engine(Engine.OFF)
        self._note_bus()

    def crank(self, profile: str = "iso-1") -> None:
        """Start the engine; after the profile's length it runs and the key springs back to ON."""
        if self.engine in (Engine.CRANKING, Engine.RUNNING):
            return
        if self.spec.electric:
            self.key, self.key_in = ON, True
            self._set_engine(RUNNING)
            self._note_bus()
            return
        if not self._catches:  # whoever stood there was helped: the battery was charged elsewhere
            self.battery.charge_mas = max(self.battery.charge_mas, HELPED * self.battery.capacity_mas)
        self._catches = self.battery.turns_engine
        self.key, self.key_in, self._crank = KeyPosition.START, True, CRANKS[profile]
        self._set_engine(Engine.CRANKING)
        self._note_bus()

    def stop_start(self, *, stopped: bool) -> None:
        """Stop-start: the engine stands at a light with KL15 on, or goes on (a belt start, no crank)."""
        if self.key is KeyPosition.ON and self.engine in (Engine.RUNNING, Engine.STOPPED):
            self._set_engine(Engine.STOPPED if stopped else Engine.RUNNING)

    def load_dump(self) -> None:
        """The battery's clamp comes off while the alternator charges it, for a moment."""
        if self.engine is RUNNING and not self.spec.electric:
            self._dump_until = BootNs(self.at + LOAD_DUMP_NS)

    def drive(self, speed_dkmh: int) -> None:
        self.speed_dkmh = speed_dkmh if self.engine is Engine.RUNNING else 0

    # what shows

    @property
    def kl15(self) -> bool:
        """Ignition feed: on, and kept up through the crank."""
        return self.key in (ON, START)

    @property
    def kl50(self) -> bool:
        return self.key is START

    @property
    def accessory(self) -> bool:
        """Accessory feed: drops during the crank."""
        return self.key in (ACCESSORY, ON)

    @property
    def bus_awake(self) -> bool:
        return self._quiet_since is None or self.at - self._quiet_since < self.spec.bus_tail_ns

    @property
    def rpm(self) -> int:
        return self.rpm_at(self.at)

    def rpm_at(self, at: BootNs) -> int:
        """Engine speed a little later, if nothing happens until then."""
        if self.engine is RUNNING:
            since = at - self._engine_since
            ripple = 8 * math.sin(2 * math.pi * at / (1.3 * SECOND) + self._phase)
            flare = (1 - since / CATCH_NS) * (CATCH_RPM - self.spec.idle_rpm) if since < CATCH_NS else 0.0
            # ours: a gear that gives 30 rpm per km/h above walking pace
            return round(self.spec.idle_rpm + ripple + flare + 3 * max(0, self.speed_dkmh - 50))
        return STARTER_RPM if self.engine is CRANKING else 0

    @property
    def load_ma(self) -> int:
        """Everything but the starter that draws current now."""
        body = self.spec.awake_ma if self.kl15 else self.spec.parasitic_ma
        return body + self.blue_lights_ma + self.tablet_ma

    @property
    def vehicle_mv(self) -> int:
        if self._crank is not None:
            return round(self._crank.mv(self.at - self._engine_since, self.battery.open_mv))
        if self.at < self._dump_until:
            return LOAD_DUMP_MV
        return round(self._steady()[0])

    @property
    def alternator_mv(self) -> int:
        supply = self._charging()
        return supply.mv if supply is not None else 0

    def fed_mv(self, sag_mv: int = 0) -> int:
        """What of its voltage reaches a dock."""
        mv = max(0, self.vehicle_mv - sag_mv)
        through = self.guard is None or self.guard.feeds(self.at, mv, kl15=self.kl15)
        return mv if through else 0

    def _charging(self) -> Supply | None:
        """What the running vehicle charges its battery with."""
        if self.engine is not RUNNING:
            return None
        if self.spec.electric:
            return DC_CONVERTER
        if not self.alternator_works:
            return None
        if self.spec.alternator is SMART_ALTERNATOR:
            share = self.battery.charge_mas / self.battery.capacity_mas
            self._smart_charges = share < SMART_CHARGES[1 if self._smart_charges else 0]
            return PLAIN_ALTERNATOR if self._smart_charges else SMART_ALTERNATOR
        return self.spec.alternator

    def next_change(self) -> BootNs | None:
        """When something changes by itself next: a corner of the crank, or the bus falling asleep."""
        if self._crank is not None:
            since = self.at - self._engine_since
            return BootNs(self._engine_since + self._crank.corner_after(since))
        if self.at < self._dump_until:
            return self._dump_until
        if self._quiet_since is not None and self.bus_awake:
            return BootNs(self._quiet_since + self.spec.bus_tail_ns)
        return None

    # time

    def advance(self, to: BootNs) -> None:
        """Move to ``to``; a time that was passed already changes nothing."""
        while self.at < to:
            end = BootNs(min(to, self.at + INTEGRATION_NS))
            if self._crank is not None:
                end = BootNs(min(end, self.next_change() or end))
            self._draw(end)
            self.at = end
            if self._crank is not None and end - self._engine_since >= self._crank.length_ns:
                self._crank = None
                self.key = ON
                self.failed_starts += not self._catches
                self._set_engine(RUNNING if self._catches else Engine.OFF)

    def _draw(self, end: BootNs) -> None:
        seconds = (end - self.at) / SECOND
        if self._crank is None:
            self.battery.take(self._steady()[1], seconds)
            return
        began = self.at - self._engine_since
        middle = self._crank.mv((began + end - self._engine_since) // 2, self.battery.open_mv)
        # The starter's current is what makes the terminals fall by that much.
        self.battery.take((self.battery.open_mv - middle) / self.battery.resistance_ohm, seconds)

    def _steady(self) -> tuple[float, float]:
        """Terminal voltage, and current out of the battery, without the starter."""
        supply = self.charger if self.engine is not RUNNING else self._charging()
        load = self.load_ma
        if supply is None or self.battery.loaded_mv(load) >= supply.mv:
            return self.battery.loaded_mv(load), load
        takes = self.battery.accepts_ma(supply.mv)
        if load + takes <= supply.limit_ma:
            return supply.mv, -takes
        short = load - supply.limit_ma  # the supply is at its limit; the battery gives or takes the rest
        return self.battery.loaded_mv(short), short

    def _set_engine(self, engine: Engine) -> None:
        if engine is not self.engine:
            self.engine, self._engine_since = engine, self.at
        if engine is not Engine.RUNNING:
            self.speed_dkmh = 0
        if engine is not Engine.CRANKING:
            self._crank = None

    def _note_bus(self) -> None:
        if self.kl15 or self.accessory or self.engine is not Engine.OFF:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = self.at
