"""The daemon's life: start in order, serve, take a new policy, stop in order.

What it is made of comes from ``agent/__main__.py``; this module knows the parts by what they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import structlog

from agent import clock, memory
from agent.boot_timer import BootTimer
from agent.config import Config, ConfigError, Keeper
from agent.control import ControlServer
from agent.core import catalogue, machine
from agent.core.records import Record, Stream
from agent.core.state import initial
from agent.core.types import Observation, Remembered, Started, StoreHealth
from agent.dbus import Bus
from agent.effects import DockPort, Effector, FleetLink
from agent.enforcement.chain import Chain
from agent.marker import FileMarker
from agent.power_actions import PowerActions
from agent.report import Reporter, Section
from agent.runtime import Runtime
from agent.supervise import Notifier, Watchdog, watchdog_interval_s

log = structlog.get_logger()

CLOSE_S = 3.0  # ours: what the store and the uplink each get to finish at a stop


class Queue(Protocol):
    """The durable queue in its thread."""

    refused: Counter[Stream]

    async def start(self) -> Any:
        """Has ``remembered`` (bytes or None) and ``problem`` (text or None)."""

    def commit(self, records: Sequence[Record], remember: bytes | None = None) -> asyncio.Future[Any]: ...
    def stats(self) -> asyncio.Future[Any]: ...
    async def close(self, timeout_s: float) -> bool: ...


class Port(Protocol):
    """Something that listens to hardware on the loop."""

    def start(self) -> None: ...
    def close(self) -> None: ...


class DockLink(Port, DockPort, Protocol):
    """A dock's wire."""


class Fleet(FleetLink, Protocol):
    """The way to the fleet."""

    def start(self) -> None: ...
    async def close(self, timeout_s: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a daemon is made of."""

    queue: Queue
    chain: Chain
    power: PowerActions
    bus: Bus | None  # the system bus, if any part uses it
    docks: Sequence[DockLink]
    ports: Sequence[Port]  # everything else that listens, started in order
    fleet: Fleet
    sections: Mapping[str, Section]  # what parts say of themselves in `ivmactl status`


@dataclass(frozen=True, slots=True)
class Hooks:
    """What parts call the daemon by."""

    observe: Callable[[Observation], None]
    store_health: Callable[[bool, str], None]
    record: Callable[[Record], None]


class Daemon:
    """One run of the agent. ``build`` makes the parts on the running loop."""

    def __init__(
        self, config: Config, keeper: Keeper, version: str, build: Callable[[Config, str, Hooks], Parts]
    ) -> None:
        self.config = config
        self._keeper = keeper
        self._version = version
        self._stopping = asyncio.Event()
        self._notifier = Notifier(os.environ.get("NOTIFY_SOCKET"))
        for folder in (config.state_dir, config.runtime_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self._boot_id = clock.read_boot_id(Path(config.settings.paths.boot_id))
        self._marker = FileMarker(config.runtime_dir / "lock-pending.json")
        self._runtime: Runtime | None = None
        self._parts = parts = build(
            config,
            self._boot_id,
            Hooks(self._observe, self._store_health, lambda record: self._note(record)),
        )
        self._reporter = Reporter(
            identity={
                "version": version,
                "fleet": config.settings.device.fleet,
                "device": config.settings.device.name,
                "config": config.digest,
                "boot_id": self._boot_id,
            },
            now=clock.boot_now,
            publish=lambda event: self._control.publish(event),
            queue=self._queue,
            sections={**parts.sections, "control": lambda: self._control.status()},
        )
        self._control = ControlServer(
            config.runtime_dir / "control.sock",
            self._reporter.verbs(),
            group=_group(config.settings.control.group),
            audited=self._audited,
        )

    async def run(self, problem: str | None) -> None:
        """Start, serve until a signal, stop in order. ``problem``: why the last good file is in force."""
        try:
            await self._start(problem)
            await self._stopping.wait()
        finally:
            await self._stop()

    def commit(self, records: Sequence[Record], remember: Remembered | None) -> asyncio.Future[Any]:
        """The runtime's ledger."""
        return self._parts.queue.commit(records, None if remember is None else memory.encode(remember))

    # --- start and stop ---------------------------------------------------------------------------

    async def _start(self, problem: str | None) -> None:
        parts, loop = self._parts, asyncio.get_running_loop()
        opened = await parts.queue.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        effector = Effector(
            chain=parts.chain,
            power=parts.power,
            docks=parts.docks,
            fleet=parts.fleet,
            explained=self._reporter.explained,
            observe=self._observe,
            now=clock.boot_now,
        )
        runtime = self._runtime = Runtime(
            initial(self.config.policy),
            self.config.policy,
            ledger=self,
            run=effector.run,
            marker=self._marker,
            now=clock.boot_now,
            watchers=[self._reporter.watch],
        )
        self._reporter.attach(runtime)
        remembered = self._take_up(memory.decode(opened.remembered), problem)
        await parts.chain.start()
        await parts.power.start()
        if parts.bus is not None:
            parts.bus.start()
        runtime.arm_with(BootTimer(loop, runtime.deadline))
        runtime.observe(Started(clock.boot_now(), self._boot_id, remembered))
        if opened.problem is not None:
            self._store_health(False, opened.problem)
        for port in (*parts.docks, *parts.ports):
            port.start()
        await self._control.start()
        self._notifier.ready()
        self._start_watchdog()
        log.info("agent.ready", version=self._version, config=self.config.digest)
        parts.fleet.start()

    def _take_up(self, remembered: Remembered | None, problem: str | None) -> Remembered | None:
        """Record this start and what the last run left unrecorded; returns what the core is to know of it."""
        at = clock.boot_now()
        records = [
            catalogue.AGENT_STARTED.make(
                at, version=self._version, config=self.config.digest, boot_id=self._boot_id
            )
        ]
        if problem is not None:
            records.append(catalogue.CONFIG_REFUSED.make(at, problem=problem))
        left = self._marker.read()
        if left is not None and left[0] > (remembered.decision if remembered else 0):
            records.append(catalogue.LOCK_RECOVERED.make(at, decision=left[0], rule=left[1]))
            remembered = replace(remembered or Remembered(), decision=left[0])
        self.commit(records, remembered)
        return remembered

    async def _stop(self) -> None:
        self._notifier.stopping()
        parts, runtime = self._parts, self._runtime
        for port in (*parts.docks, *parts.ports):
            port.close()
        await self._control.close()
        if runtime is not None:
            at = clock.boot_now()
            stopped = catalogue.AGENT_STOPPED.make(at, reason="signal")
            self.commit([stopped], machine.last_words(runtime.state, at))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(runtime.settle(), CLOSE_S)
        await parts.fleet.close(CLOSE_S)
        await parts.chain.close()
        await parts.power.close()
        if parts.bus is not None:
            await parts.bus.close()
        if not await parts.queue.close(CLOSE_S):
            log.error("store.not_closed", waited_s=CLOSE_S)
        self._notifier.close()

    def _reload(self) -> None:
        """SIGHUP: put a new policy in force; a bad file leaves the old one and is recorded."""
        self._notifier.reloading(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        try:
            fresh = self._keeper.reload()
        except ConfigError as error:
            log.error("config.refused", problem=str(error))
            self._note(catalogue.CONFIG_REFUSED.make(clock.boot_now(), problem=str(error)))
        else:
            if fresh.needs_restart(self.config):
                log.warning("config.restart_needed", why="only [policy] takes effect without a restart")
            self.config = fresh
            if self._runtime is not None:
                self._runtime.change_policy(fresh.policy)
            self._note(catalogue.CONFIG_APPLIED.make(clock.boot_now(), config=fresh.digest))
        self._notifier.ready()

    def _start_watchdog(self) -> None:
        interval_s = watchdog_interval_s(os.environ)
        if interval_s is None:
            return

        def ask_store() -> None:
            self._parts.queue.stats().add_done_callback(lambda _future: watchdog.alive("store"))

        watchdog = Watchdog(self._notifier.alive, {"store": ask_store}, interval_s)
        watchdog.start()

    # --- what parts and the control socket call ---------------------------------------------------

    def _observe(self, observation: Observation) -> None:
        if self._runtime is not None:
            self._runtime.observe(observation)

    def _store_health(self, ok: bool, detail: str) -> None:
        self._observe(StoreHealth(clock.boot_now(), ok, detail))

    def _note(self, record: Record) -> None:
        self.commit([record], None)

    def _audited(self, uid: int, verb: str, reason: str | None) -> None:
        self._note(catalogue.LOCAL_ACCESS.make(clock.boot_now(), uid=uid, verb=verb, reason=reason))

    async def _queue(self) -> object:
        queue = self._parts.queue
        stats = await queue.stats()
        return {
            stream.value: {
                "head": each.head.seq,
                "hash": each.head.hash.hex(),
                "acknowledged": each.acked.seq,
                "pending": each.pending,
                "bytes": each.size,
                "quota": each.quota,
                "refused": queue.refused[stream],
            }
            for stream, each in stats.items()
        }


def _group(name: str | None) -> int | None:
    """The gid of a group; None when there is none of that name: then nobody but root may ask."""
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        log.warning("control.no_group", group=name, effect="only root and the agent's own user may ask")
        return None
