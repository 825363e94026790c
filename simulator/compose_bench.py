"""A rig of real processes: the agent unmodified, a broker behind a fault proxy, the depot, and a world.

Composition root. ``async with Rig(folder, options)`` starts everything; whatever was started is ended by its
own id when the block is left, however that happens. Logs stay in ``folder``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from agent.core.types import BootNs
from drivers import registry
from drivers.vehicles.codec import Profile
from simulator.agent_config import DEVICE, SHORT_TIMES, Layout, Pairing, document, merged, tables
from simulator.broker import HOST, Broker, free_port, installed
from simulator.compose_accounts import Accounts, account, depot_state
from simulator.control_client import ControlClient
from simulator.network import FaultProxy
from simulator.processes import Child
from simulator.tablet import Power
from simulator.tablet_os import ConsoleSystem, LogindSystem, TabletSystem
from simulator.world import World

BOOT_S = 0.3  # ours: what stands for a kernel's boot
DEPOT_READY = "depot ready"  # what the depot logs once it has subscribed
READY_S = 60.0  # ours: an overloaded machine needs many times what a quiet one does
COMPARE_S = 0.2  # ours: how often the two ends of the queue are compared
SETTLE_TRIES = 5  # ours
CANNOT_START = (70, 75, 78)  # exit codes of ivma-agent, docs/operating.md
EVENTS_KEPT = 100_000  # of a shift, a few hundred


@dataclass(frozen=True, slots=True)
class Options:
    """How a rig is built. ``policy`` is laid over ``SHORT_TIMES``; ``broker`` None takes what there is."""

    broker: str | None = None
    dbus: bool = True
    guard: bool = True  # where there is a D-Bus; without one it has nothing to lock by
    seed: int = 1
    profile: str = "vw-mqb"
    policy: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)  # of the agent, beside the system's


def boot_now() -> BootNs:
    return BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class Rig:
    """One tablet with everything around it. Actions return when they are done, not when they are answered."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.layout = Layout(folder)
        self.options = options
        self.status: dict[str, Any] = {}  # the agent's own word, empty while it is gone
        self.events: list[dict[str, Any]] = []  # what the agent published
        self.undocked_at: list[BootNs] = []
        self.fleet = ""  # the tablet's presence, as the depot knows it
        self._committed: dict[str, int] = {}
        self.waiting: int | None = None  # committed on the tablet and not at the depot; None: not known
        self.watchers: list[Callable[[], None]] = []  # called at every change, and at every tick
        self._changed = asyncio.Event()
        self._broken = ""
        self._depot_ready = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._exit = contextlib.AsyncExitStack()
        self.pairing = Pairing(key=random.Random(options.seed).randbytes(32))
        self.world = World(
            self.layout,
            self.pairing,
            _profile(options.profile),
            now=boot_now,
            seed=options.seed,
            on_tick=self._note,
            on_start=lambda: self.spawn(self._power_on()),
        )
        self.system: TabletSystem = (
            LogindSystem(folder, self._note, self._go_down)
            if options.dbus
            else ConsoleSystem(self._note, self._go_down)
        )
        self.control = ControlClient(self.layout.control, self._said)
        self.broker: Broker
        self.network: FaultProxy
        self.depot: Child
        self.agent: Child
        self.guard: Child | None = None

    # --- life -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start everything and boot the tablet: in its seat, ignition off."""
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    async def _start(self) -> None:
        for folder in (self.layout.state, self.layout.runtime):
            folder.mkdir(mode=0o700, exist_ok=True)
        await self._make_keys()
        await self._start_fleet()
        await self._start_tablet()

    async def _make_keys(self) -> None:
        arguments = ("keygen", "--out", self.layout.keys, "--device", DEVICE)
        keygen = Child("keygen", _python("sync.depot", *arguments), self._log("keygen"))
        await keygen.start()
        if status := await keygen.ended():
            raise RuntimeError(f"ivma-depot keygen ended with {status}; see {self._log('keygen')}")
        self.layout.dock_key.write_text(self.pairing.key.hex())
        self.layout.dock_key.chmod(0o600)

    async def _start_fleet(self) -> None:
        kind = self.options.broker or ("mosquitto" if installed() else "amqtt")
        self.broker = Broker(kind, self.folder / "broker", free_port())
        self._exit.push_async_callback(_in_thread, self.broker.stop)
        await _in_thread(self.broker.run)
        self.network = FaultProxy(HOST, self.broker.port, boot_now)
        self._exit.push_async_callback(self.network.close)
        await self.network.start()
        serve = (
            "serve",
            "--broker",
            self.broker.address,
            "--db",
            self.layout.depot,
            "--keys",
            self.layout.keys,
        )
        self.depot = Child(
            "depot", _python("sync.depot", *serve), self._log("depot"), on_line=self._depot_said
        )
        self._exit.push_async_callback(self.depot.stop)
        await self._start_depot()

    async def _start_tablet(self) -> None:
        self._exit.push_async_callback(self.system.stop)
        await self.system.start()
        config = tables(self.layout, self.pairing, self.options.profile, self.network.port)
        config["enforcement"] = self.system.enforcement
        if self.options.dbus and self.options.guard:
            config["guard"]["enabled"] = True
            self._make_guard()
        config["policy"] = merged(SHORT_TIMES, self.options.policy)
        self.layout.config.write_text(document(config))
        self.agent = Child(
            "agent",
            _python("agent", "run", "--config", self.layout.config),
            self._log("agent"),
            env={**self.system.environment, **self.options.environment},
            on_line=self.system.line,
        )
        self._exit.push_async_callback(self._stop_agent)
        self._exit.push_async_callback(self.control.stop)
        self.control.start()
        self._exit.push_async_callback(self._cancel_tasks)
        self.spawn(self._compare())
        self._exit.push_async_callback(self.world.stop)
        self.world.start()  # and with the dock's supply the tablet

    def _make_guard(self) -> None:
        self.layout.guard.mkdir(mode=0o755, exist_ok=True)
        self.guard = Child(
            "guard",
            _python("agent.guard", "--folder", self.layout.guard, "--exempt", self.folder / "maintenance"),
            self._log("guard"),
            env=self.system.environment,
        )
        self._exit.push_async_callback(self._stop_guard)

    def _depot_said(self, line: str) -> None:
        if DEPOT_READY in line:
            self._depot_ready.set()

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the play; it is cancelled with the rig, and what it raises is reported."""
        self._tasks.add(asyncio.create_task(work))

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    @property
    def provides(self) -> frozenset[str]:
        """What a scenario's step may need that not every rig has."""
        return frozenset({"logind"} if self.options.dbus else ())

    def undock(self) -> None:
        """Take the tablet out of its seat; the time is kept for ``undock_to_lock_ms``."""
        self.undocked_at.append(self.world.seat(seated=False))

    # --- the tablet's power -----------------------------------------------------------------------

    async def _power_on(self) -> None:
        """The tablet wakes, or boots."""
        tablet = self.world.tablet
        if tablet.power is Power.SUSPENDED:
            tablet.power = Power.ON
            for process in self._tablet_processes():
                process.signal(signal.SIGCONT)
            self.system.resumed()
            return
        tablet.power = Power.ON
        self.layout.boot_id.write_text(f"{uuid.uuid4()}\n")
        for folder in (self.layout.runtime, self.layout.guard):
            if folder.exists():
                for left in folder.iterdir():
                    left.unlink()  # /run is empty after a boot
        await asyncio.sleep(BOOT_S)
        await self.system.boot()
        if self.guard is not None:
            await self.guard.start()
        await self.agent.start()
        self.spawn(self._agent_starts())

    async def _agent_starts(self) -> None:
        """Note an agent that says it cannot start: nothing would ever be seen of it."""
        status = await self.agent.ended()
        if status in CANNOT_START:
            last = self._log("agent").read_text().splitlines()[-1]
            self._broken = f"the agent ended with {status}: {last}"
            self._note()

    async def wake(self) -> None:
        """Somebody presses the tablet's button."""
        if self.world.tablet.power is not Power.ON:
            await self._power_on()

    def _go_down(self, verb: str) -> None:
        self.spawn(self._suspend() if verb == "suspend" else self._power_off())

    async def _suspend(self) -> None:
        self.world.tablet.power = Power.SUSPENDED
        for process in self._tablet_processes():
            process.signal(signal.SIGSTOP)

    def _tablet_processes(self) -> list[Child]:
        """Everything of ours that runs on the tablet, the guard first."""
        return [self.agent] if self.guard is None else [self.guard, self.agent]

    async def _power_off(self) -> None:
        await self.agent.stop()
        if self.guard is not None:
            await self.guard.stop()
        self.system.log_out()
        self.world.tablet.power = Power.OFF

    async def _stop_guard(self) -> None:
        if self.guard is not None:
            self.guard.signal(signal.SIGCONT)
            await self.guard.stop()

    async def _stop_agent(self) -> None:
        self.agent.signal(signal.SIGCONT)
        await self.agent.stop()

    # --- the fleet's end --------------------------------------------------------------------------

    async def kill_broker(self) -> None:
        await _in_thread(self.broker.kill)
        await _in_thread(self.broker.run)

    async def kill_depot(self) -> None:
        await self.depot.kill()
        await self._start_depot()

    async def _start_depot(self) -> None:
        """And wait until it has subscribed: a broker drops what nobody has asked for."""
        self._depot_ready.clear()
        await self.depot.start()
        await asyncio.wait_for(self._depot_ready.wait(), READY_S)

    async def _compare(self) -> None:
        """Keep ``waiting`` up to date: what the agent says it committed, against the depot's own file."""
        while True:
            answered = False
            with contextlib.suppress(ConnectionError):
                queue = await self.control.ask("queue")
                self._committed = {stream: each["head"] for stream, each in queue.items()}
                answered = True
            delivered, self.fleet = await asyncio.to_thread(depot_state, self.layout.depot, DEVICE)
            left = sum(seq - delivered.get(stream, 0) for stream, seq in self._committed.items())
            # An agent that is gone may have committed more before it went.
            self.waiting = left if left or answered else None
            await asyncio.sleep(COMPARE_S)

    async def settle(self, within_s: float = 20.0) -> Accounts:
        """Let the tablet catch up, cut its power, and compare what it had committed with what the depot has.

        A record may be committed in the very instant of the cut: then the tablet starts again to send it.

        Raises:
            TimeoutError: the queue did not empty in time.
        """
        for _ in range(SETTLE_TRIES):
            self.waiting = None
            await self.until(lambda: self.waiting == 0, within_s, "all records at the depot")
            await self.agent.kill()
            accounts = await asyncio.to_thread(account, self.layout.queue, self.layout.depot, DEVICE)
            if not accounts.lost:
                break
            await self.agent.start()
        return accounts

    # --- what is to be seen -----------------------------------------------------------------------

    def seen(self) -> Mapping[str, str]:
        """What is to be seen now, by the names of ``simulator.scenario.OBSERVABLES``."""
        seen = {
            "tablet": self.world.tablet.power.value,
            "agent": "running" if self.agent.running else "stopped",
            "session": self.system.session,
            "link": "down" if self.world.plugged is None else "up",
            "supply": "on" if self.world.supplied else "off",
        }
        if self.fleet:
            seen["fleet"] = self.fleet
        if self.waiting is not None:
            seen["queue"] = "waiting" if self.waiting else "empty"
        if self.status:
            tether = self.status["tether"]
            seen |= {"tether": tether["state"], "posture": tether["posture"]}
            seen |= {name: self.status[name]["state"] for name in ("ignition", "power")}
        return seen

    async def change(self) -> None:
        """Wait for one. Raises RuntimeError when the agent could not start."""
        if self._broken:
            raise RuntimeError(self._broken)
        await self._changed.wait()
        self._changed.clear()

    async def until(self, what: Callable[[], bool], within_s: float, name: str) -> None:
        """Wait until ``what`` is so.

        Raises:
            TimeoutError: it was not within the time; says what was to be seen instead.
        """
        try:
            async with asyncio.timeout(within_s):
                while not what():
                    await self.change()
        except TimeoutError:
            raise TimeoutError(f"{name}: not within {within_s:g} s; seen: {dict(self.seen())}") from None

    async def until_seen(self, within_s: float = 10.0, **values: str) -> None:
        """Wait until all of ``values`` are seen at once. Raises TimeoutError."""
        await self.until(lambda: values.items() <= self.seen().items(), within_s, str(values))

    def undock_to_lock_ms(self) -> list[float]:
        """For each removal: from just before the dock's word to the arrival of the request to lock."""
        delays = []
        for at in self.undocked_at:
            locks = [lock for lock in self.system.lock_times if lock >= at]
            if locks:
                delays.append((min(locks) - at) / 1e6)
        return delays

    @property
    def can_frames_transmitted(self) -> int:
        """By anybody but the vehicle itself."""
        return sum(self.world.hub.sent_by_pid.values())

    def _said(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "here":
                self.spawn(self._ask_status())
            case "gone":
                self.status = {}
            case "status":
                self.status = event["status"]
        if len(self.events) < EVENTS_KEPT:
            self.events.append(event)
        self._note()

    async def _ask_status(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.status = await self.control.ask("status")
        self._note()

    def _note(self) -> None:
        self._changed.set()
        for watch in self.watchers:
            watch()


async def _in_thread(work: Callable[[], None]) -> None:
    """Run it beside the loop. Cancelled, it is waited for: what it started must be there to be ended."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _python(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *(str(argument) for argument in arguments)]


def _profile(name: str) -> Profile:
    return cast("Callable[[], Profile]", registry.load(registry.VEHICLES, name))()
