"""The deterministic world: everything around a tablet, and the production agent on it, in virtual time.

Composition root. One seed makes one history: ``World(seed).history.digest()`` after the same acts is the
same on every machine. Nothing here reads a clock, sleeps or has a thread; real are only the files of the
disk, and the pipes of logind's inhibitors.

    world = World(seed=7)
    world.after(5 * SECOND, lambda: world.turn_key(KeyPosition.ON))
    world.events.subscribe(lambda event: ..., LockState, Usable)
    world.run_until(BootNs(10 * HOUR))
    world.close()
"""

from __future__ import annotations

import atexit
import contextlib
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.core.policy import Policy
from agent.core.types import BootNs, Effect, KeyPosition
from drivers import registry
from drivers.docks.reference.spec import SPEC
from drivers.spec import DockSettings
from drivers.vehicles.codec import CAN_FRAME, EXTENDED, Profile
from simulator.compose_fleet import Delivery, DepotKeys, memory_depot
from simulator.compose_guard import VirtualGuard
from simulator.compose_tablet import BUS, DOCK_NAME, AgentRun, Pairing, Surround
from simulator.docks.reference import Identity, ReferenceDock
from simulator.electrics import Supply
from simulator.faults.knobs import Behind, Step
from simulator.frames import FrameSender
from simulator.tablet import Power, Tablet, TabletSpec
from simulator.vehicle import Vehicle, VehicleSpec
from simulator.virtual import events as ev
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.broker import MemoryBroker
from simulator.virtual.canwire import BATCH_NS, CanWire
from simulator.virtual.clock import Clock
from simulator.virtual.disk import Disk, Operation
from simulator.virtual.dockwire import Device, DockWire
from simulator.virtual.history import History
from simulator.virtual.impostors import Forger
from simulator.virtual.logind import Session
from simulator.virtual.loop import VirtualLoop
from simulator.virtual.machine import BOOT_NS, Machine
from simulator.virtual.network import Network
from simulator.virtual.physics import Physics, Place, Wiring
from simulator.virtual.vfs import attached
from sync.keys import Signer, Verifier
from sync.sealing import Opener

EFFECTS, WRITE = Step.EFFECTS, Operation.WRITE  # by their own names: asked at every effect and write
SERIAL, VEHICLE_ID = "DK-000007", "WV1ZZZ7HZNH000007"
FOREIGN_SERIAL, FOREIGN_VEHICLE_ID = "DK-999999", "WV1ZZZ7HZNH999999"
FLEET, DEVICE = "virtual", "tablet-1"
# tmpfs where there is one: the disk's faults are simulated, its speed is not wanted. A folder is made in it.
MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108


@dataclass(frozen=True, slots=True)
class Options:
    """How a world is built. ``folder`` is where the tablet's disk is; None makes one and removes it."""

    policy: Policy = field(default_factory=Policy)
    profile: str = "vw-mqb"
    vehicle: VehicleSpec = field(default_factory=VehicleSpec)
    tablet: TabletSpec = field(default_factory=TabletSpec)
    guard: bool = True
    commands: Verifier | None = None  # whose commands the tablet obeys
    fleet: bool = True  # False: no broker is configured, records stay on the tablet
    folder: Path | None = None


class World:
    """One vehicle, its dock, one tablet and its fleet. Times are the world's, from 0 on.

    Conforms to ``simulator.faults.knobs.FaultyWorld`` and ``simulator.virtual.acts.Lived``. It begins parked,
    the tablet in its seat; as the dock gives power, it boots at once.
    """

    def __init__(self, seed: int, options: Options | None = None, history: History | None = None) -> None:
        self.seed = seed
        self.options = options = options or Options()
        self._exit = contextlib.ExitStack()
        atexit.register(self.close)  # SQLite must not outlive the disk that is simulated under it
        self._folder = self._make_folder(options.folder)
        self._profile = _coarse(_profile(options.profile))
        self.agenda = Agenda()
        self.clock = Clock(self.agenda)
        self.events = ev.Events()
        self.history = history or History()
        self._make_vehicle(self.rng("pairing").randbytes(32))
        self._make_tablet()
        self._make_fleet()
        self.agenda.at(self.now, self.physics.sync)  # with the first step: watchers come before

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

    @property
    def stats(self) -> Mapping[str, int]:
        """How much has happened."""
        to_dock, to_tablet = self.dockwire.carried
        return {
            "entries": self.agenda.ran,
            "bytes_to_dock": to_dock,
            "bytes_to_tablet": to_tablet,
            "can_frames": self.canwire.carried,
            "runs": self.tablet.runs,
        }

    def close(self) -> None:
        """End everything, and remove the disk's folder if it was made here."""
        atexit.unregister(self.close)
        self._exit.close()

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
        def switch() -> None:
            self.vehicle.blue_lights_ma = ma

        self._do(f"blue lights {ma} mA", switch)

    def alternator(self, *, works: bool) -> None:
        self._do(f"alternator {works}", lambda: setattr(self.vehicle, "alternator_works", works))

    def load_dump(self) -> None:
        self._do("load dump", self.vehicle.load_dump)

    def charger(self, supply: Supply | None) -> None:
        def connect() -> None:
            self.vehicle.charger = supply

        self._do("charger" if supply else "charger off", connect)

    def connect_battery(self, *, connected: bool) -> None:
        def connect() -> None:
            self.physics.battery_connected = connected

        self._do("battery on" if connected else "battery off", connect)

    def undock(self) -> None:
        self._put(Place.OUT)

    def carry_away(self) -> None:
        self._put(Place.AWAY)

    def seat(self) -> None:
        self._put(Place.SEATED)

    def seat_foreign(self) -> None:
        self._put(Place.FOREIGN)

    def press_button(self) -> None:
        self._note("button")
        self.tablet.switch_on()

    def log_in(self) -> None:
        """The officer opens the session, if the tablet is on and has booted."""
        self._note("log in")
        if self.tablet.power is Power.ON and self.now >= self.clock.booted_at + BOOT_NS:
            self.session.log_in()

    def coverage(self, *, there: bool) -> None:
        self._note("coverage" if there else "no coverage")
        self.network.covered = there

    def _put(self, place: Place) -> None:
        self._note(place.value)
        self.physics.put(place)

    def _do(self, what: str, how: Callable[[], None]) -> None:
        self._note(what)
        self.physics.advance()
        how()
        self.physics.sync()

    def _note(self, what: str) -> None:
        self.events.emit(ev.Act(self.now, what))

    # --- making it ------------------------------------------------------------------------------------

    def _make_folder(self, given: Path | None) -> Path:
        if given is not None:
            return given
        parent = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
        folder = Path(tempfile.mkdtemp(prefix="ivma-world-", dir=parent))
        self._exit.callback(shutil.rmtree, folder)
        return folder

    def _make_vehicle(self, key: bytes) -> None:
        start = self.now
        self._settings = DockSettings(DOCK_NAME, SERIAL, VEHICLE_ID, key)
        self.vehicle = Vehicle(start, self.options.vehicle, self.seed)
        own = Identity.of(SERIAL, VEHICLE_ID, key)
        self.dock = ReferenceDock(own, self.rng("dock").randbytes, start)
        foreign = Identity.of(FOREIGN_SERIAL, FOREIGN_VEHICLE_ID, self.rng("foreign key").randbytes(32))
        self.foreign_dock = ReferenceDock(foreign, self.rng("foreign dock").randbytes, start)
        self.dockwire = DockWire(
            self.agenda,
            self.rng("dock wire"),
            self.dock,
            self.foreign_dock,
            self.events,
            lambda _to_tablet, data: self.history.wire(data),
            SPEC.baud,
            self._impostors(own),
        )
        self._sender = FrameSender(self._profile, self.vehicle)
        heads = [
            CAN_FRAME.pack(frame.can_id | (EXTENDED if frame.extended else 0), frame.length, b"")[:8]
            for frame in self._profile.frames
        ]
        self.canwire = CanWire(self.agenda, self.rng("can wire"), self, heads)
        self.wiring = Wiring()

    def _impostors(self, own: Identity) -> Mapping[Behind, Callable[[BootNs], Device]]:
        """Those that know who the paired dock is, and not its key."""
        dice = self.rng("impostors")
        twin = Identity(own.serial, own.vehicle_id, dice.randbytes(32))
        return {
            Behind.TWIN: lambda at: ReferenceDock(replace(twin), dice.randbytes, at),
            Behind.FORGER: lambda at: Forger(own.serial, own.vehicle_id, dice, at),
        }

    def _make_tablet(self) -> None:
        body = Tablet(self.now, self.options.tablet)
        self.session = Session(self.agenda, self.rng("session"), self.events)
        self.tablet = Machine(
            self.agenda,
            self.clock,
            self.events,
            body,
            self.session,
            self._launch,
            on_boot=self._boot,
            on_power=self._power_changed,
            on_kill=self._killed,
            on_cut=self._cut,
        )
        self.guard: VirtualGuard | None = None
        if self.options.guard:  # after the machine: logind listens to the session first
            self.guard = self.tablet.guard = VirtualGuard(
                self.agenda, self.clock, self.events, self.history, self.session, lambda: self._boot_id
            )
        self.physics = Physics(
            self.agenda,
            self.vehicle,
            self.dock,
            self.foreign_dock,
            body,
            self.dockwire,
            self.wiring,
            self.events,
            self._physics_changed,
        )
        disk_folder = self._folder / "disk"
        disk_folder.mkdir()
        self._runtime_dir = self._folder / "run"
        self._runtime_dir.mkdir()
        self.disk = Disk(disk_folder)
        self.disk.on_operation = self._disk_works
        self._exit.enter_context(attached(self.disk))
        self._exit.callback(self.tablet.end)
        self._boot_id = ""
        self._supplied = self._ignition = False

    def _make_fleet(self) -> None:
        self.loop = VirtualLoop(self.agenda)  # of everything that is not the tablet
        self._exit.callback(self.loop.close)
        keys = self.rng("keys")
        device, depot = Signer(keys.randbytes(32)), Signer(keys.randbytes(32))
        private = keys.randbytes(32)
        public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
        self._pairing = Pairing(
            self._settings, FLEET, DEVICE, device, Verifier(depot.public), public, self.options.commands
        )
        self.broker = MemoryBroker(self.loop, self.rng("broker"))
        self.network = Network(self.loop, self.broker)
        verifier = Verifier(device.public)
        depot_keys = DepotKeys(
            depot, lambda name: verifier if name == DEVICE else None, lambda: Opener({1: private})
        )
        self.depot = memory_depot(self.loop, self.broker, depot_keys, self.rng("depot"), self._delivered)
        self._exit.callback(self.depot.close)

    # --- what parts of it tell one another ------------------------------------------------------------

    def frames(self) -> list[bytes]:
        """For the CAN wire: what the vehicle's control units send now."""
        return self._sender.frames(self.now) if self.physics.battery_connected else []

    def awake(self) -> bool:
        """For the CAN wire: whether the vehicle's bus is awake."""
        return self.physics.bus_awake()

    def _launch(self, loop: VirtualLoop, number: int) -> AgentRun:
        self.disk.go_on()
        surround = Surround(
            self.agenda,
            self.clock,
            self.events,
            self.history,
            self.dockwire,
            self.canwire,
            self.tablet.body,
            self.tablet.logind,
            self.disk,
            self.network if self.options.fleet else None,
            self._runtime_dir,
            self._profile,
            self.options.policy,
            self._pairing,
            self._ran,
            self.tablet.alarm_came,
            self.guard,
        )
        return AgentRun(surround, loop, self._boot_id, self.rng(f"agent {number}"))

    def _ran(self, _effect: Effect) -> None:
        self.tablet.step(EFFECTS)

    def _disk_works(self, operation: Operation) -> None:
        if operation is WRITE:
            self.tablet.step(Step.WRITES)

    def _boot(self) -> None:
        self._boot_id = self.rng(f"boot {self.now}").randbytes(16).hex()
        for left in self._runtime_dir.iterdir():
            left.unlink()  # /run is empty after a boot

    def _power_changed(self, power: Power) -> None:
        self.history.note("power", self.now, power.value)
        self.dockwire.sleep(power is Power.SUSPENDED)
        self.physics.sync()

    def _killed(self) -> None:
        self.disk.stop()

    def _cut(self) -> None:
        """After the process has come back from what it was in the middle of."""
        self.agenda.after(0, lambda: self.disk.power_cut(self.rng(f"cut {self.now}")))

    def _physics_changed(self) -> None:
        self.canwire.kick()
        before = self._supplied, self._ignition
        self._supplied, self._ignition = self.physics.supplied, self.physics.ignition
        if before[0] != self._supplied:
            self.tablet.supply_changed(self._supplied)
        if self._ignition and not before[1]:
            self.tablet.ignition_came()
        self.tablet.look_at_battery()

    def _delivered(self, delivery: Delivery) -> None:
        span = delivery.stream, delivery.epoch, delivery.first_seq, delivery.last_seq
        self.history.note("delivered", self.now, span[0].value, *span[1:])
        rows = None if delivery.rows is None else tuple(delivery.rows)
        self.events.emit(ev.Delivered(self.now, *span, rows))


def _profile(name: str) -> Profile:
    return cast("Callable[[], Profile]", registry.load(registry.VEHICLES, name))()


def _coarse(profile: Profile) -> Profile:
    """No frame more often than the tablet looks: of those between it would use the last one only."""
    least_ms = BATCH_NS // 1_000_000
    frames = tuple(replace(frame, period_ms=max(frame.period_ms, least_ms)) for frame in profile.frames)
    return replace(profile, frames=tuple(frame for frame in frames if frame.bus == BUS))
