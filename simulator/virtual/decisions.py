"""Decision-level fidelity: the same lives, with observations straight into the core. No wires, no store.

The vehicle's physics are the ones of the world with wires. A fault does what is left of it at this level: of
bytes that are lost, frames that are. What has no meaning here (disk, fleet, wall clock) turns nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from agent.core.types import MS, SECOND, BootNs, KeyPosition
from simulator.electrics import Supply
from simulator.faults.knobs import Behind
from simulator.tablet import Power, Tablet
from simulator.vehicle import Engine, Vehicle, VehicleSpec
from simulator.virtual import events as ev
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.decider import Core, Decider
from simulator.virtual.history import History
from simulator.virtual.reports import FIELD, BusReports, DockReports, Pace, SupplyReports

QUIET_STEP_NS = 600 * SECOND  # the same, with the tablet off or asleep
CRANK_STEP_NS = 50 * MS  # ours: a starter's dip lasts longer
# By their own names: to look a member up in its class is slow, and this is asked all the time.
ON, OFF, CRANKING = Power.ON, Power.OFF, Engine.CRANKING
SHOWN_MV = 500  # ours: a voltage that changes by more is told at once
DOCK_MV, BROWN_OUT_MV = 12_000, 5_000  # as simulator.virtual.physics


class DecisionWorld:
    """Conforms to ``simulator.faults.knobs.FaultyWorld`` and ``simulator.virtual.acts.Lived``."""

    def __init__(
        self,
        seed: int,
        core: Core,
        vehicle: VehicleSpec,
        history: History | None = None,
        pace: Pace = FIELD,
    ) -> None:
        self.seed = seed
        self._step_ns = pace.physics_ns
        self.agenda = Agenda()
        self.events = ev.Events()
        self.history = history or History()
        self.vehicle = Vehicle(self.now, vehicle, seed)
        self.tablet = Decider(
            self.agenda, self.events, self.history, self.rng("tablet"), core, Tablet(self.now)
        )
        self.dockwire = DockReports(self.agenda, self.rng("dock"), self.tablet, self.sync, pace.status_ns)
        self.dockwire.inputs.temperature_dc = 10 * vehicle.battery.temperature_c
        self.canwire = BusReports(self.agenda, self.tablet, self.vehicle, self._bus_awake, pace.signal_ns)
        self.wiring: Any = SimpleNamespace(sag_mv=0, kl15=None)
        # Knobs that turn nothing here.
        self.disk, self.network, self.broker, self.depot, self.clock = (_Inert() for _ in range(5))
        self._supply = SupplyReports(self.agenda, self.tablet)
        self._battery = self._seated = True
        self._supplied = self._ignition = False
        self._held = (False, False)
        self._shown: tuple[object, ...] = ()
        self._entry: Entry | None = None
        self.dockwire.plugged = self._look_whether_held
        self.tablet.attach(self.dockwire, on_power=self.sync, on_run=self._run_changed)
        self.agenda.at(self.now, self.sync)

    @property
    def now(self) -> BootNs:
        return self.agenda.now

    @property
    def session(self) -> Any:
        return self.tablet.session

    def run_until(self, at: BootNs) -> None:
        self.agenda.run_until(at)

    def at(self, at: BootNs, call: Callable[[], None]) -> Entry:
        return self.agenda.at(at, call)

    def rng(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{name}")

    def close(self) -> None:
        """Nothing is held."""

    # --- what people do -------------------------------------------------------------------------------

    def turn_key(self, position: KeyPosition) -> None:
        self._do(f"key {position.value}", lambda: self.vehicle.turn_key(position))

    def pull_key(self, *, run_lock: bool = False) -> None:
        self._do("pull key", lambda: self.vehicle.pull_key(run_lock=run_lock))

    def crank(self, profile: str = "iso-1") -> None:
        self._do(f"crank {profile}", lambda: self.vehicle.crank(profile))

    def stop_start(self, *, stopped: bool) -> None:
        self._do("stop engine" if stopped else "go on", lambda: self.vehicle.stop_start(stopped=stopped))

    def drive(self, speed_dkmh: int) -> None:
        self._do(f"drive {speed_dkmh}", lambda: self.vehicle.drive(speed_dkmh))

    def blue_lights(self, ma: int) -> None:
        self._do(f"blue lights {ma} mA", lambda: setattr(self.vehicle, "blue_lights_ma", ma))

    def charger(self, supply: Supply | None) -> None:
        self._do("charger", lambda: setattr(self.vehicle, "charger", supply))

    def alternator(self, *, works: bool) -> None:
        self._do(f"alternator {works}", lambda: setattr(self.vehicle, "alternator_works", works))

    def load_dump(self) -> None:
        self._do("load dump", self.vehicle.load_dump)

    def connect_battery(self, *, connected: bool) -> None:
        self._do(f"battery {connected}", lambda: setattr(self, "_battery", connected))

    def undock(self) -> None:
        self._put("out", None, seated=False)

    def carry_away(self) -> None:
        self._put("away", Behind.NOTHING, seated=False)

    def seat(self) -> None:
        self._put("seated", None, seated=True)

    def seat_foreign(self) -> None:
        self._put("foreign", Behind.FOREIGN, seated=False)

    def press_button(self) -> None:
        self._note("button")
        self.tablet.switch_on()

    def log_in(self) -> None:
        self._note("log in")
        self.tablet.log_in()

    def coverage(self, *, there: bool) -> None:
        self._note("coverage" if there else "no coverage")

    def _put(self, what: str, behind: Behind | None, *, seated: bool) -> None:
        self._note(what)
        self._seated = self.dockwire.inputs.seated = seated
        self.dockwire.dock(behind)
        self.sync()

    def _do(self, what: str, how: Callable[[], None]) -> None:
        self._note(what)
        self.vehicle.advance(self.now)
        how()
        self.sync()

    def _note(self, what: str) -> None:
        self.events.emit(ev.Act(self.now, what))

    # --- physics --------------------------------------------------------------------------------------

    def sync(self) -> None:
        """As ``simulator.virtual.physics.Physics.sync``."""
        now, vehicle, body, dock = self.now, self.vehicle, self.tablet.body, self.dockwire
        vehicle.advance(now)
        was_on = body.power is not OFF
        body.advance(now)
        fed_mv = vehicle.fed_mv(self.wiring.sag_mv) if self._battery else 0
        key = vehicle.kl15 if self.wiring.kl15 is None else bool(self.wiring.kl15)
        inputs = dock.inputs
        inputs.kl15, inputs.vehicle_mv = key and self._battery, fed_mv
        dark = fed_mv < BROWN_OUT_MV
        dock.brown_out(dark)
        if not dark:
            dock.actuators.advance(now, inputs)
        mated = dock.life is None
        powered = not dark and mated and dock.actuators.powered(inputs)
        body.supply_mv = DOCK_MV if powered or dock.life is Behind.FOREIGN else 0
        vehicle.tablet_ma = inputs.tablet_ma = body.supply_ma if mated else 0
        if self.events.wanted(ev.Supply):
            self.events.emit(ev.Supply(now, vehicle.vehicle_mv, vehicle.tablet_ma))
        self._look_whether_held()
        self._come_back(now, dark=dark)
        self.canwire.kick()
        if was_on and body.power is OFF:
            self.tablet.ran_empty()
        self._switch(powered=body.supply_mv > 0, ignition=powered and bool(inputs.kl15))
        shown = (inputs.seated, inputs.kl15, fed_mv // SHOWN_MV)
        if shown != self._shown:
            self._shown = shown
            dock.kick()

    def _switch(self, *, powered: bool, ignition: bool) -> None:
        """What the tablet does of itself when power or the ignition comes."""
        came, woke = powered and not self._supplied, ignition and not self._ignition
        changed = powered is not self._supplied
        self._supplied, self._ignition = powered, ignition
        if changed:
            self._supply.changed()
        if (came and self.tablet.power is Power.OFF) or (woke and self.tablet.power is Power.SUSPENDED):
            self.tablet.come_on()

    def _look_whether_held(self) -> None:
        linked = self.dockwire.linked
        held = (self._seated and linked, linked)
        if held != self._held:
            self._held = held
            self.events.emit(ev.Held(self.now, *held))

    def _bus_awake(self) -> bool:
        return self._battery and self.vehicle.bus_awake

    def _run_changed(self, up: bool) -> None:
        """The agent begins to hear, or its process is gone."""
        if not up:
            self.dockwire.ended()
            return
        self._supply.begin()
        self.canwire.begin()
        self.dockwire.begin()

    def _come_back(self, now: BootNs, *, dark: bool) -> None:
        on = self.tablet.power is ON
        cranks = self.vehicle.engine is CRANKING
        times = [now + (CRANK_STEP_NS if cranks else self._step_ns if on else QUIET_STEP_NS)]
        dock = self.dockwire
        actuation = None if dark else dock.actuators.next_deadline(dock.inputs)  # in the dark nothing acts
        changes = (self.vehicle.next_change(), actuation)
        times += [max(change, now + 1) for change in changes if change is not None]
        if self._entry is not None:
            self._entry.cancel()
        self._entry = self.agenda.at(BootNs(min(times)), self.sync)


class _Inert:
    """Every knob and method of it does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: None
