"""The daemon: one run of the agent as a process, with signals, the service manager and the control socket.

What it is made of comes from ``agent/__main__.py``; the run itself is ``agent/life.py``.
"""

from __future__ import annotations

import asyncio
import grp
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from agent import clock, logs
from agent.blackbox import BlackBox
from agent.boot_timer import BootTimer
from agent.command_desk import CommandDesk, Means
from agent.config import Config, ConfigError
from agent.control import ControlServer, Refusal, Verb
from agent.core import catalogue
from agent.core.orders import Order
from agent.core.policy import Policy
from agent.core.records import Record
from agent.core.state import State
from agent.core.types import BootNs, Effects, Observation
from agent.desired_desk import DesiredDesk, Hands
from agent.emergency import EmergencyFile
from agent.fleet_orders import FleetOrders
from agent.folders import own_folder
from agent.keeper import Keeper
from agent.life import CLOSE_S, Hooks, Identity, Life, Parts
from agent.marker import FileMarker
from agent.notice_desk import NoticeDesk
from agent.report import Reporter
from agent.spent import SpentNote
from agent.supervise import Notifier, Watchdog, watchdog_interval_s

log = structlog.get_logger()

OFFICER_SOCKET = "officer.sock"  # in the runtime folder; every local user may connect

ANSWER_S = 6.0  # ours: after that it is known whether the disk answers (sync/stall.py: 5 s)


class Daemon:
    """One run of the agent. ``build`` makes the parts on the running loop."""

    def __init__(
        self,
        config: Config,
        keeper: Keeper,
        version: str,
        build: Callable[[Config, str, Hooks], Parts],
        trace: BlackBox | None = None,
    ) -> None:
        self.config = config
        self._keeper = keeper
        self._version = version
        self._stopping = asyncio.Event()
        self._again = False
        self._notifier = Notifier(os.environ.get("NOTIFY_SOCKET"))
        own_folder(config.state_dir, 0o700)
        own_folder(config.runtime_dir, 0o755)
        boot_id = clock.read_boot_id(Path(config.settings.paths.boot_id))
        loop = asyncio.get_running_loop()
        self._life = Life(
            lambda hooks: build(config, boot_id, hooks),
            config.policy,
            Identity(version, config.digest, boot_id),
            marker=FileMarker(config.runtime_dir / "lock-pending.json"),
            now=clock.boot_now,
            timer=lambda callback: BootTimer(loop, callback),
            explained=lambda decision: self._reporter.explained(decision),
            watchers=[
                lambda observation, state, effects: self._reporter.watch(observation, state, effects),
                lambda observation, state, effects: self._notice.watch(observation, state, effects),
                lambda observation, state, effects: self._watch_desk(observation, state, effects),
                lambda observation, state, effects: self._orders.commands.watch(observation, state, effects),
                *([trace.watch] if trace else []),
            ],
            noted=lambda record: self._reporter.note(record),
            spent=SpentNote(config.runtime_dir, boot_id),
            emergency=EmergencyFile(config.state_dir / "emergency.log", boot_id),
            orders=_Late(lambda: self._orders),
        )
        self._parts = self._life.parts
        self._docking = self._parts.docking
        if self._docking is not None:
            self._docking.attach(self._percent, lambda: self._life.runtime.policy)
        self._life.runtime.policy, self._unfit = self._beside_docks(config.policy)
        self._desk = self._parts.desk
        self._orders = self._obeying()
        self._recovery: asyncio.Task[None] | None = None
        self._described = {
            "version": version,
            "fleet": config.settings.device.fleet,
            "device": config.settings.device.name,
            "config": config.digest,
            "boot_id": boot_id,
        }
        self._trace = trace
        self._reporter = Reporter(
            identity=self._described,
            now=clock.boot_now,
            publish=lambda event: self._control.publish(event),
            queue=self._queue,
            sections={
                **self._parts.sections,
                "store": lambda: self._life.store,
                "control": lambda: self._control.status(),
                "orders": lambda: self._orders.status(),
                **({"trace": trace.status} if trace else {}),
            },
        )
        self._reporter.attach(self._life.runtime)
        self._notice = NoticeDesk(config.settings.device.name, clock.boot_now)
        self._notice.attach(self._life.runtime)
        if self._desk is not None:
            self._desk.attach(self._life.runtime)
        self._control = ControlServer(
            config.runtime_dir / "control.sock",
            {
                **self._reporter.verbs(),
                **self._notice.verbs(),
                **(trace.verbs() if trace else {}),
                **(self._docking.verbs() if self._docking else {}),
                **(self._desk.verbs() if self._desk else {}),
                **self._parts.verbs,
                "availability": Verb(lambda _args: self._life.availability.told_at(clock.boot_now())),
            },
            group=group_id(config.settings.control.group),
            audited=self._audited,
        )
        self._officer = ControlServer(
            config.runtime_dir / OFFICER_SOCKET,
            {**self._notice.verbs(), **(self._desk.officer_verbs() if self._desk else {})},
            group=None,
            audited=self._audited,
            anybody=True,
        )

    async def run(self, problem: str | None) -> bool:
        """Start, serve until a signal, stop in order. ``problem``: why the last good file is in force.

        True: it is to start anew, for a configuration that does not take effect otherwise.
        """
        reason = "error"
        try:
            await self._start(problem)
            await self._stopping.wait()
            reason = "configuration" if self._again else "signal"
        finally:
            await self._stop(reason)
        return self._again

    # --- start and stop ---------------------------------------------------------------------------

    async def _start(self, problem: str | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        if self._trace is not None:
            self._trace.start(self._described, lambda: self._life.runtime.policy)
        await self._life.start(problem)
        self._refuse(self._unfit)
        await self._control.start()
        await self._officer.start()
        self._notifier.ready()
        self._start_watchdog()
        log.info("agent.ready", version=self._version, config=self.config.digest)
        self._orders.start()
        self._parts.fleet.start()
        if self._docking is not None:
            self._recovery = loop.create_task(self._docking.recover())

    async def _stop(self, reason: str) -> None:
        if self._again:
            self._notifier.reloading(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        else:
            self._notifier.stopping()
        await self._orders.close()
        await self._officer.close()
        await self._control.close()
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        await self._life.stop(reason)
        if self._trace is not None:
            self._trace.close(CLOSE_S)
        self._notifier.close()

    def _reload(self) -> None:
        """SIGHUP: put a new policy in force; a bad file leaves the old one and is recorded."""
        self._notifier.reloading(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        try:
            fresh = self._keeper.reload()
        except ConfigError as error:
            self._refuse([str(error)])
        else:
            if fresh.needs_restart(self.config):
                log.warning("config.restart_needed", why="only [policy] takes effect without a restart")
            self._keeper.complain()
            self._apply(fresh)
        self._refuse(self._docking.reload() if self._docking is not None else [])
        self._notifier.ready()

    def _apply(self, fresh: Config) -> None:
        """Put a policy in force."""
        self._reporter.configured(fresh.digest)
        policy, unfit = self._beside_docks(fresh.policy)
        self._life.runtime.change_policy(policy)
        self._life.note(catalogue.CONFIG_APPLIED.make(clock.boot_now(), config=fresh.digest))
        self._refuse(unfit)

    def _restart(self) -> None:
        self._again = True
        self._stopping.set()

    def _obeying(self) -> FleetOrders:
        """Who does what the control room sends."""
        life, parts = self._life, self._parts

        def record(record: Record) -> asyncio.Future[object]:
            self._reporter.note(record)
            return life.commit([record], None)

        async def flush(until: BootNs) -> int:
            await parts.queue.flush()
            return await parts.fleet.drain(until)

        async def bundle() -> object:
            return {"status": self._reporter.status(), "queue": await self._queue()}

        def log_level(level: str) -> str:
            level = level or self.config.settings.logging.level
            logs.configure(level, stream=sys.stderr, environ=os.environ)
            return level

        permits = self._desk
        commands = CommandDesk(
            Means(
                life.observe, record, clock.boot_now, permits, flush, log_level, bundle, parts.power.request
            )
        )
        hands = Hands(
            self._apply, self._restart, lambda: bool(life.store["ok"]), life.note, parts.fleet.report,
            clock.boot_now,
        )  # fmt: skip
        desired = DesiredDesk(self._keeper, self.config, hands)
        return FleetOrders(commands, desired, parts.change_fleet_key)

    def _beside_docks(self, policy: Policy) -> tuple[Policy, list[str]]:
        return (policy, []) if self._docking is None else self._docking.in_force(policy)

    def _refuse(self, problems: Sequence[str]) -> None:
        for problem in problems:
            log.error("config.refused", problem=problem)
            self._life.note(catalogue.CONFIG_REFUSED.make(clock.boot_now(), problem=problem))

    def _watch_desk(self, observation: Observation, state: State, effects: Effects) -> None:
        if self._desk is not None:
            self._desk.watch(observation, state, effects)

    def _percent(self) -> int | None:
        tablet = self._life.runtime.state.power.tablet
        return None if tablet is None else tablet.percent

    def _start_watchdog(self) -> None:
        interval_s = watchdog_interval_s(os.environ)
        if interval_s is None:
            return

        queue, loop = self._parts.queue, asyncio.get_running_loop()

        def ask_store() -> None:
            answer = queue.stats()
            answer.add_done_callback(lambda _future: watchdog.alive("store"))

            def look() -> None:
                # A new start would wait for a disk that hangs too, and lock no sooner.
                if queue.stalled_s is not None:
                    watchdog.alive("store")
                elif not answer.done():
                    loop.call_later(1.0, look)

            loop.call_later(min(ANSWER_S, interval_s * 0.9), look)

        watchdog = Watchdog(self._notifier.alive, {"store": ask_store}, interval_s)
        watchdog.start()

    # --- what the control socket calls ------------------------------------------------------------

    def _audited(self, uid: int, verb: str, reason: str | None) -> None:
        # Not among the newest records: whoever polls those would see nothing else.
        self._life.commit(
            [catalogue.LOCAL_ACCESS.make(clock.boot_now(), uid=uid, verb=verb, reason=reason)], None
        )

    async def _queue(self) -> object:
        queue = self._parts.queue
        try:
            if queue.stalled_s is not None:
                raise TimeoutError
            stats = await asyncio.wait_for(queue.stats(), ANSWER_S)
        except TimeoutError:
            waited_s = queue.stalled_s or int(ANSWER_S)
            raise Refusal(
                "store", f"the disk has not answered for {waited_s} s: records wait in memory",
                "look at the disk and the kernel's log; `ivmactl status` does not wait for it",
            ) from None  # fmt: skip
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


class _Late:
    """Orders for a desk that is made after the run that it needs; none comes before."""

    def __init__(self, desk: Callable[[], FleetOrders]) -> None:
        self._desk = desk

    def take(self, order: Order) -> None:
        self._desk().take(order)

    def contact(self) -> None:
        self._desk().desired.contact()

    def generation(self, known: int) -> None:
        self._desk().desired.generation(known)


def group_id(name: str | None) -> int | None:
    """The gid of a group; None when there is none of that name: then nobody but root may ask."""
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        log.warning("control.no_group", group=name, effect="as if none were configured: nobody is in it")
        return None
