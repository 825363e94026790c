"""The agent on a tablet of the virtual world: the production parts, on memory wires. Composition root."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from agent.command_desk import CommandDesk, Means
from agent.core import catalogue
from agent.core.orders import Command, Order, OrderRefused
from agent.core.policy import Policy
from agent.core.records import Record, Stream
from agent.core.state import State
from agent.core.types import BootNs, Effect, Effects, Observation
from agent.dbus import Bus, CallRefused
from agent.effects import NoFleet
from agent.enforcement.base import Surroundings
from agent.enforcement.chain import Chain
from agent.enforcement.logind import LogindAction
from agent.life import Fleet, Hooks, Identity, Life, NoGuard, Parts
from agent.marker import FileMarker
from agent.power_actions import LogindPower
from drivers.docks.reference.spec import SPEC
from drivers.spec import DockSettings
from drivers.vehicles.codec import Profile
from drivers.vehicles.watch import CompiledProfile
from simulator.compose_fleet import memory_transport
from simulator.compose_guard import VirtualGuard, VirtualLink
from simulator.faults.knobs import Wish
from simulator.tablet import Tablet
from simulator.virtual import events as ev
from simulator.virtual.agenda import Agenda
from simulator.virtual.boot_timer import VirtualTimer
from simulator.virtual.canwire import CanWire, MemoryCan
from simulator.virtual.clock import Clock
from simulator.virtual.disk import Disk
from simulator.virtual.dockwire import DockWire
from simulator.virtual.history import History
from simulator.virtual.logind import Logind, MemoryBus
from simulator.virtual.loop import VirtualLoop
from simulator.virtual.network import Network
from simulator.virtual.officer import asked
from simulator.virtual.queue import InlineQueue
from simulator.virtual.serialport import MemoryPort
from simulator.virtual.supply import MemorySupply
from simulator.virtual.tablet_path import TabletPath
from simulator.virtual.wake_alarm import VirtualAlarm
from sync.blocks import Head, Stamp
from sync.clock import quality
from sync.envelope import NONCE_BYTES
from sync.envelope import Run as Blocks
from sync.groups import GroupCommit
from sync.keys import Signer, Verifier
from sync.mqtt_types import Endpoint
from sync.orders import OrderKeys, Orders
from sync.sealing import Sealer
from sync.session_types import Report
from sync.store import Store
from sync.table import Acked, StreamStats
from sync.topics import Topics
from sync.uplink import Uplink, UplinkConfig

BUS = "powertrain"
DOCK_NAME = "vehicle"
VERSION = "virtual"


@dataclass(frozen=True, slots=True)
class Pairing:
    """What was agreed between tablet and dock in the workshop, and between tablet and fleet at enrolment."""

    dock: DockSettings
    fleet: str
    device: str
    signer: Signer
    depot: Verifier
    fleet_key: bytes  # public
    commands: Verifier | None = None  # whose commands it obeys


@dataclass(frozen=True, slots=True)
class Surround:
    """What of the world a run of the agent meets. ``network`` None: no broker is configured."""

    agenda: Agenda
    clock: Clock
    events: ev.Events
    history: History
    dockwire: DockWire
    canwire: CanWire
    body: Tablet
    logind: Logind
    disk: Disk
    network: Network | None
    runtime_dir: Path  # is empty after a boot
    profile: Profile
    policy: Policy
    pairing: Pairing
    ran: Callable[[Effect], None]
    woken: Callable[[], None]  # the hardware clock's alarm rings
    guard: VirtualGuard | None = None


class AgentRun:
    """One run: ``agent.life.Life`` with its parts, on a loop of its own."""

    def __init__(self, world: Surround, loop: VirtualLoop, boot_id: str, rng: random.Random) -> None:
        self._world = world
        self._loop = loop
        self._boot_id = bytes.fromhex(boot_id)
        self._rng = rng
        self.life = Life(
            self._parts,
            world.policy,
            Identity(VERSION, "virtual", boot_id),
            marker=FileMarker(world.runtime_dir / "lock-pending.json"),
            now=world.clock.boot,
            timer=lambda callback: VirtualTimer(world.agenda, world.clock, loop, callback),
            watchers=[self._watch],
            ran=self._ran,
            orders=self,
        )

    # --- orders: commands alone, for a tablet in here has no configuration ------------------------------

    def take(self, order: Order) -> None:
        if isinstance(order, Command):
            self._commands.take(order)
        elif isinstance(order, OrderRefused):
            self._commands.refuse(order)

    def contact(self) -> None:
        """Nothing is on trial."""

    def generation(self, known: int) -> None:
        """Nothing was wanted."""

    def _obeying(self, queue: WatchedQueue, hooks: Hooks, power: LogindPower) -> CommandDesk:
        async def flush(until: BootNs) -> int:
            await queue.flush()
            return await self.life.parts.fleet.drain(until)

        async def bundle() -> object:
            return {"boot_id": self._boot_id.hex()}

        now = self._world.clock.boot
        return CommandDesk(
            Means(
                hooks.observe, lambda record: queue.commit([record]), now, None, flush, lambda level: level,
                bundle, power.request,
            )
        )  # fmt: skip

    async def start(self) -> None:
        await self.life.start(None)
        self.life.parts.fleet.start()

    async def stop(self) -> None:
        await self._commands.close()
        await self.life.stop("signal")

    def supply_changed(self) -> None:
        self._supply.changed()

    def officer(self, wish: Wish) -> None:
        self._loop.call_soon(lambda: self._observe(asked(wish, self._world.clock.boot())))

    def released(self, *, power: bool) -> None:
        world = self._world
        world.dockwire.close(self._port)
        world.canwire.close(self._can)
        self._queue.kill()
        if self._link is not None:
            self._link.gone()
        if world.network is not None:
            (world.network.hang_up if power else world.network.vanish)(self._loop)

    # --- parts ------------------------------------------------------------------------------------------

    def _parts(self, hooks: Hooks) -> Parts:
        world, loop, now = self._world, self._loop, self._world.clock.boot
        self._observe = hooks.observe
        bus = cast("Bus", MemoryBus(world.agenda, loop, world.logind, _refusal))
        around = Surroundings(hooks.observe, now, lambda: bus, Path("/nowhere"))
        session = SPEC.build(world.pairing.dock, self._rng.randbytes)
        self._port = MemoryPort(loop, world.dockwire, session, hooks.observe, now)
        profile = CompiledProfile(world.profile, BUS)
        self._can = MemoryCan(loop, world.canwire, BUS, profile, hooks.observe, now)
        self._supply = MemorySupply(loop, world.body, hooks.observe, now)
        self._link = None
        if world.guard is not None:
            self._link = VirtualLink(loop, world.guard, hooks.observe, now)
        heads: list[Callable[[Mapping[Stream, int]], None]] = []
        self._queue = InlineQueue(
            lambda loop, deliver: GroupCommit(
                self._open_store,
                now,
                loop,
                deliver,
                on_health=hooks.store_health,
                on_renewed=hooks.store_renewed,
                on_recalled=hooks.store_recalled,
                on_commit=lambda seqs: heads[0](seqs),
            ),
            now,
            world.disk.take_spent_ns,
        )
        queue = WatchedQueue(self._queue, world)
        fleet: Fleet = NoFleet()
        heads.append(lambda seqs: None)
        if world.network is not None:
            uplink = self._uplink(queue, world.network, hooks)
            fleet, heads[0] = uplink, uplink.notify
        power = LogindPower(around, VirtualAlarm(world.agenda, world.clock, self._loop, world.woken))
        self._commands = self._obeying(queue, hooks, power)
        return Parts(
            queue=queue,
            chain=Chain([LogindAction({}, around)], hooks.observe, now),
            power=power,
            bus=bus,
            docks=[self._port],
            ports=[self._can, self._supply],
            fleet=fleet,
            guard=self._link or NoGuard(),
            sections={},
        )

    def _open_store(self) -> Store:
        world = self._world
        return Store(
            TabletPath(world.disk.folder / "queue.db"),
            world.pairing.device,
            self._boot_id,
            self._stamp,
            self._rng.randbytes,
            sealer=Sealer(world.pairing.fleet_key, 1, self._rng.randbytes),
        )

    def _stamp(self) -> Stamp:
        clock = self._world.clock
        wall_ns = clock.wall_ns()
        return Stamp(clock.boot(), wall_ns, quality(wall_ns, synced=clock.synced))

    def _uplink(self, queue: WatchedQueue, network: Network, hooks: Hooks) -> Uplink:
        pairing, now = self._world.pairing, self._world.clock.boot

        def trouble(report: Report) -> None:
            hooks.record(
                catalogue.SYNC_TROUBLE.make(
                    now(), stream=report.where, trouble=report.trouble.value, detail=report.detail
                )
            )

        orders: Orders | None = None
        if pairing.commands is not None:
            nonce, keys = self._rng.randbytes(NONCE_BYTES), OrderKeys((pairing.commands,))
            orders = Orders(pairing.fleet, pairing.device, self._boot_id, nonce, keys, now)

        def ordered(what: str, payload: bytes) -> None:
            order = orders.read(what, payload) if orders is not None else None
            if order is not None:
                hooks.ordered(order)

        return Uplink(
            UplinkConfig(
                Topics(pairing.fleet, pairing.device),
                self._boot_id,
                Endpoint("broker", 1883, pairing.device),
                nonce=orders.nonce if orders is not None else b"",
            ),
            queue,
            pairing.signer,
            pairing.depot,
            now,
            self._rng.random,
            trouble,
            memory_transport(network),
            on_contact=hooks.contact,
            on_order=ordered,
        )

    # --- what is seen -----------------------------------------------------------------------------------

    def _watch(self, observation: Observation, state: State, effects: Effects) -> None:
        world = self._world
        at = world.agenda.now
        world.history.step(at, observation, effects)
        world.events.observed(at, observation, state)
        self._commands.watch(observation, state, effects)

    def _ran(self, effect: Effect) -> None:
        world = self._world
        if world.events.wanted(ev.Effected):
            world.events.emit(ev.Effected(world.agenda.now, effect))
        world.ran(effect)


class WatchedQueue:
    """The queue, with everything that its callers ask and are told as events."""

    def __init__(self, queue: InlineQueue, world: Surround) -> None:
        self._queue = queue
        self._world = world
        self._tickets = 0
        self.refused: Counter[Stream] = queue.refused
        self.stalled_s = queue.stalled_s

    async def start(self) -> Any:
        return await self._queue.start()

    def commit(self, records: Sequence[Record], remember: bytes | None = None) -> asyncio.Future[Any]:
        events, agenda = self._world.events, self._world.agenda
        self._tickets += 1
        ticket = self._tickets
        events.emit(ev.Attempted(agenda.now, ticket, tuple(records)))

        def told(done: asyncio.Future[Any]) -> None:
            if done.cancelled():
                return
            error = done.exception()
            if error is not None:
                events.emit(ev.Refused(agenda.now, ticket, str(error)))
                return
            seqs = tuple((stream, *span) for stream, span in done.result().seqs.items())
            self._world.history.note("committed", agenda.now, [(s.value, a, b) for s, a, b in seqs])
            events.emit(ev.Committed(agenda.now, ticket, seqs))

        future = self._queue.commit(records, remember)
        future.add_done_callback(told)
        return future

    def fetch(self, stream: Stream, after_seq: int, max_bytes: int) -> asyncio.Future[Blocks | None]:
        return self._queue.fetch(stream, after_seq, max_bytes)

    def acknowledge(self, stream: Stream, epoch: bytes, upto: Head) -> asyncio.Future[Acked]:
        future: asyncio.Future[Acked] = self._queue.acknowledge(stream, epoch, upto)

        def told(done: asyncio.Future[Acked]) -> None:
            if not done.cancelled() and done.exception() is None:
                event = ev.Acknowledged(self._world.agenda.now, stream, upto.seq)
                self._world.events.emit(event)

        future.add_done_callback(told)
        return future

    def stats(self) -> asyncio.Future[dict[Stream, StreamStats]]:
        return self._queue.stats()

    def epoch(self) -> asyncio.Future[bytes]:
        return self._queue.epoch()

    def flush(self) -> asyncio.Future[Any]:
        return self._queue.flush()

    async def close(self, timeout_s: float) -> bool:
        return await self._queue.close(timeout_s)


def _refusal(why: str) -> Exception:
    return CallRefused("org.freedesktop.DBus.Error.Failed", why)
