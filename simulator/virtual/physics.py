"""Vehicle, docks and tablet as one electrical whole, brought up to date only when something can change.

The vehicle's supply and ignition reach the dock, the dock's supply reaches the tablet, the tablet's draw
reaches the vehicle. ``Wiring`` conforms to ``simulator.faults.knobs.WiringKnobs``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from agent.core.types import MINUTE, MS, SECOND, BootNs
from simulator.docks.reference import ReferenceDock
from simulator.tablet import Power, Tablet
from simulator.vehicle import Engine, Vehicle
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.dockwire import DockWire
from simulator.virtual.events import Events, Held, Supply

DOCK_MV = 12_000  # ours: what a dock's converter gives
BROWN_OUT_MV = 5_000  # ours: below this at its input the dock's microcontroller stops
CRANK_STEP_NS = 10 * MS  # a starter's ripple has 2 Hz; its corners are met exactly
STEP_NS = SECOND  # with the tablet on; voltages move slowly without a starter
QUIET_STEP_NS = 10 * MINUTE  # parked, and nothing looks


class Place(enum.Enum):
    """Where the tablet is."""

    SEATED = "seated"
    OUT = "out"  # of its seat, with its contacts still mated
    AWAY = "away"
    FOREIGN = "foreign"  # in a dock that is not the paired one


# By their own names: to look a member up in its class is slow, and this is asked all the time.
SEATED, IN_OWN = Place.SEATED, (Place.SEATED, Place.OUT)
CRANKING, ON = Engine.CRANKING, Power.ON


class Wiring:
    """Between the vehicle and the dock."""

    def __init__(self) -> None:
        self.sag_mv = 0
        self.kl15: bool | None = None


class Physics:
    """Call ``sync`` after whatever is done to the vehicle.

    ``on_change`` follows every sync: the bus may have woken up, a supply come or gone.
    """

    def __init__(
        self,
        agenda: Agenda,
        vehicle: Vehicle,
        dock: ReferenceDock,
        foreign_dock: ReferenceDock,
        tablet: Tablet,
        wire: DockWire,
        wiring: Wiring,
        events: Events,
        on_change: Callable[[], None],
    ) -> None:
        self.place = Place.SEATED
        self.battery_connected = True
        self.supplied = False  # the tablet gets power from a dock
        self.ignition = False  # the dock it is in sees ignition on
        self._agenda = agenda
        self._vehicle = vehicle
        self._dock = dock
        self._foreign = foreign_dock
        self._tablet = tablet
        self._wire = wire
        self._wiring = wiring
        self._events = events
        self._on_change = on_change
        self._held = (False, False)
        self._entry: Entry | None = None
        self._outputs = dock.actuators.bits
        wire.own.fed = self._dock_was_told
        wire.plugged = self._look_whether_held
        self._foreign.set_inputs(agenda.now, seated=False)
        dock.set_inputs(agenda.now, temperature_dc=10 * vehicle.spec.battery.temperature_c)

    def _dock_was_told(self) -> None:
        """The dock took bytes: a command may have switched the tablet's supply."""
        if self._dock.actuators.bits != self._outputs:
            self._agenda.after(0, self.sync)

    def put(self, place: Place) -> None:
        """Take the tablet somewhere."""
        self.place = place
        wire, now = self._wire, self._agenda.now
        self._dock.set_inputs(now, seated=place is Place.SEATED, mated=place in (Place.SEATED, Place.OUT))
        self._foreign.set_inputs(now, seated=place is Place.FOREIGN, mated=place is Place.FOREIGN)
        wire.foreign.kick()
        if place is Place.AWAY:
            wire.dock(None)
        else:
            wire.dock(wire.foreign if place is Place.FOREIGN else wire.own)
        self.sync()

    def bus_awake(self) -> bool:
        return self.battery_connected and self._vehicle.bus_awake

    def advance(self) -> None:
        """Only the vehicle's own time: what its control units say of themselves."""
        self._vehicle.advance(self._agenda.now)

    def sync(self) -> None:
        """Bring everything to the present, and come back when it may have changed by itself."""
        now, vehicle, tablet, dock = self._agenda.now, self._vehicle, self._tablet, self._dock
        vehicle.advance(now)
        tablet.advance(now)
        fed_mv = vehicle.fed_mv(self._wiring.sag_mv) if self.battery_connected else 0
        kl15 = vehicle.kl15 if self._wiring.kl15 is None else self._wiring.kl15
        kl15 = kl15 and self.battery_connected
        self._brown_out(fed_mv < BROWN_OUT_MV, now)
        dark = self._wire.own.dark
        if not dark:
            dock.set_inputs(now, kl15=kl15, vehicle_mv=fed_mv, tablet_ma=tablet.supply_ma)
        in_own = self.place in IN_OWN
        if in_own:
            self.supplied = not dark and dock.actuators.powered(dock.inputs)
        else:
            foreign = self._foreign
            self.supplied = self.place is Place.FOREIGN and foreign.actuators.powered(foreign.inputs)
        self.ignition = self.supplied and in_own and kl15
        tablet.supply_mv = DOCK_MV if self.supplied else 0
        vehicle.tablet_ma = tablet.supply_ma if in_own else 0
        if not dark:
            self._wire.own.kick()
        self._outputs = dock.actuators.bits
        self._look_whether_held()
        if self._events.wanted(Supply):
            self._events.emit(Supply(now, vehicle.vehicle_mv, vehicle.tablet_ma))
        self._come_back(now)
        self._on_change()

    def _look_whether_held(self) -> None:
        own = self._wire.own
        linked = not own.dark and self._wire.behind is own
        held = self.place is SEATED and linked
        if (held, linked) != self._held:
            self._held = held, linked
            self._events.emit(Held(self._agenda.now, held, linked))

    def _brown_out(self, too_low: bool, now: BootNs) -> None:
        own = self._wire.own
        if too_low == own.dark:
            return
        own.dark = too_low
        if not too_low:
            self._dock.brown_out(now)

    def _come_back(self, now: BootNs) -> None:
        vehicle = self._vehicle
        if vehicle.engine is CRANKING:
            step = CRANK_STEP_NS
        else:
            step = STEP_NS if self._tablet.power is ON else QUIET_STEP_NS
        change = vehicle.next_change()
        times = [now + step]
        if change is not None:
            times.append(max(change, now + 1))
        actuation = None if self._wire.own.dark else self._dock.next_actuation()
        if actuation is not None:
            times.append(max(actuation, now + 1))
        at = BootNs(min(times))
        if self._entry is not None:
            self._entry.cancel()
        self._entry = self._agenda.at(at, self.sync)
