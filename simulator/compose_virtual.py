"""The deterministic world: everything around a tablet, and the production agent on it, in virtual time.

Composition root. One seed makes one history: ``World(seed).history.digest()`` after the same acts is the
same on every machine. Nothing here reads a clock, sleeps, or has a descriptor or a thread of its own.

    world = World(seed=7)
    world.after(5 * SECOND, world.turn_key_on)
    world.events.subscribe(lambda event: ..., LockState, Usable)
    world.run_until(BootNs(10 * HOUR))
    world.close()
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.policy import Policy
from agent.core.types import BootNs
from simulator.docks.reference import Identity, ReferenceDock
from simulator.tablet import TabletSpec
from simulator.vehicle import Vehicle, VehicleSpec
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.clock import Clock
from simulator.virtual.events import Events

DOCK, VEHICLE_ID = "DK-000007", "WV1ZZZ7HZNH000007"
FOREIGN_DOCK, FOREIGN_VEHICLE_ID = "DK-999999", "WV1ZZZ7HZNH999999"


@dataclass(frozen=True, slots=True)
class Options:
    """How a world is built. ``folder`` is where the tablet's disk is; None makes one and removes it."""

    policy: Policy = field(default_factory=Policy)
    profile: str = "vw-mqb"
    vehicle: VehicleSpec = field(default_factory=VehicleSpec)
    tablet: TabletSpec = field(default_factory=TabletSpec)
    fleet: bool = True  # False: no broker is configured, records stay on the tablet
    folder: Path | None = None


class World:
    """One vehicle, its dock, one tablet and its fleet. Times are the world's, from 0 on.

    Conforms to ``simulator.faults.knobs.FaultyWorld``: its parts are ``dockwire``, ``canwire``, ``wiring``,
    ``tablet`` (the machine), ``clock``, ``session`` (its lock screen), ``disk``, ``network``, ``broker`` and
    ``depot``; beside them ``vehicle``, ``dock``, ``foreign_dock``, ``events``, ``history`` and ``stats``.

    What people do, each at the present time: ``turn_key(KeyPosition)``, ``pull_key(run_lock=)``,
    ``crank(profile)``, ``stop_start(stopped=)``, ``drive(dkmh)``, ``blue_lights(ma)``, ``charger(Supply|None)``,
    ``undock()``, ``seat()``, ``press_button()``, ``log_in()`` (an officer unlocks the session).
    """

    def __init__(self, seed: int, options: Options | None = None) -> None:
        self.seed = seed
        self.options = options or Options()
        self.agenda = Agenda()
        self.clock = Clock(self.agenda)
        self.events = Events()
        pairing = self.rng("pairing").randbytes(32)
        self.vehicle = Vehicle(self.now, self.options.vehicle, seed)
        self.dock = ReferenceDock(
            Identity.of(DOCK, VEHICLE_ID, pairing), self.rng("dock").randbytes, self.now
        )
        self.foreign_dock = ReferenceDock(
            Identity.of(FOREIGN_DOCK, FOREIGN_VEHICLE_ID, bytes(32)), self.rng("foreign").randbytes, self.now
        )

    # --- time -----------------------------------------------------------------------------------------

    @property
    def now(self) -> BootNs:
        return self.agenda.now

    def run_until(self, at: BootNs) -> None:
        """Let everything happen that is due up to and at ``at``."""
        self.agenda.run_until(at)

    def at(self, at: BootNs, call: Callable[[], None]) -> Entry:
        return self.agenda.at(at, call)

    def after(self, delay_ns: int, call: Callable[[], None]) -> Entry:
        return self.agenda.after(delay_ns, call)

    def rng(self, name: str) -> random.Random:
        """A generator of its own for each name: what one part draws changes nothing for another."""
        return random.Random(f"{self.seed}/{name}")
