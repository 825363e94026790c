"""Tablet, broker, depot and the network between them, all real, and every fault that can be done to them.

The processes are forked from a server that has imported everything (`multiprocessing`, forkserver), so that
one starts in milliseconds and a run of the oracle takes seconds. The tablet's is the production store, its
thread and the uplink under a producer for each stream; the depot's is `ivma-depot serve`.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import structlog

from agent.core.catalogue import LOCK_RECOVERED
from agent.core.records import Record, Stream
from simulator.broker import Broker
from simulator.network import FaultProxy, Tamper, Way
from sync import session_types as t
from sync.depot.__main__ import main as ivma_depot
from sync.mqtt_types import MQTT_3_1_1, MQTT_5
from tests.sync_rig import boot_ns, change, keys, sample, stopped, tablet, until

# Times in whole seconds, as short as they can be: the same rules as in the field.
LIMITS = t.Limits(
    ack_s=1, puback_s=1, connect_s=2, backoff_s=1, backoff_cap_s=1, refused_s=1, retry_cap_s=4,
    batch_bytes=4096,
)  # fmt: skip
KEEPALIVE_S = 2
DRAIN_S = 60
MOST = 400  # records of a stream in one life of the tablet
LIFE = 10_000  # from one life's first number to the next one's
PUBLISH, PUBACK = 3, 4  # MQTT 5.0, 2.1.2

MAKE: dict[Stream, Callable[[int], Record]] = {
    Stream.ALARM: lambda number: LOCK_RECOVERED.make(boot_ns(), decision=number, rule="oracle"),
    Stream.AUDIT: stopped,
    Stream.STATE: change,
    Stream.TELEMETRY: sample,
}
FIELD = {
    Stream.ALARM: "decision",
    Stream.AUDIT: "reason",
    Stream.STATE: "evidence",
    Stream.TELEMETRY: "vehicle_mv",
}


# --- the tablet's process -----------------------------------------------------------------------------


async def _live(folder: Path, port: int, version: str, life: int, seed: int) -> int:
    """Produce until SIGTERM, then deliver what there is; the number of records that are left.

    The journal has a line before each commit and one after it. A kill takes neither back: they are the
    kernel's then.
    """
    journal = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    enough = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, enough.set)
    _alive(folder, life).touch()

    async def produce(stream: Stream, dice: random.Random) -> None:
        number, end = life * LIFE, life * LIFE + MOST
        while number < end and not enough.is_set():
            upto = min(end, number + dice.choice((1, 1, 2, 5, 30)))
            word = f"{stream.value} {number} {upto}\n"
            os.write(journal, f"try {word}".encode())
            await it.queue.commit([MAKE[stream](n) for n in range(number, upto)])
            os.write(journal, f"ack {word}".encode())
            number = upto
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(enough.wait(), dice.expovariate(20))

    async with tablet(folder, folder / "keys", port, versions=(version,), limits=LIMITS) as it:
        async with asyncio.TaskGroup() as producers:
            for stream in Stream:
                producers.create_task(produce(stream, random.Random(f"{seed} {life} {stream.value}")))
        await enough.wait()
        return await it.drain(DRAIN_S)


def _tablet(folder: Path, port: int, version: str, life: int, seed: int) -> None:
    _log_to(folder / "tablet.log")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sys.exit(min(1, abs(asyncio.run(_live(folder, port, version, life, seed)))))


def _depot(folder: Path) -> None:
    _log_to(folder / "depot.log")
    sys.exit(ivma_depot(["serve", "--config", str(folder / "depot.toml"), "--verbose"]))


def _alive(folder: Path, life: int) -> Path:
    """What a tablet makes when it takes SIGTERM for the end of its production."""
    return folder / f"alive-{life}"


def _log_to(path: Path) -> None:
    sink = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(sink, 1)
    os.dup2(sink, 2)


class Process:
    """A process that can be started again and again; whoever changes it holds ``lock``."""

    def __init__(self, start: Callable[[], BaseProcess]) -> None:
        self.lock = asyncio.Lock()
        self._start = start
        self._process: BaseProcess | None = None

    def run(self) -> None:
        self._process = self._start()
        self._process.start()

    async def end(self, number: signal.Signals, limit_s: float = 10.0) -> int | None:
        """Send a signal and wait; the exit status, None if it never ran.

        Raises:
            TimeoutError: it had to be killed.
        """
        process = self._process
        if process is None or process.pid is None:
            return None
        if process.is_alive():
            os.kill(process.pid, number)
        await asyncio.to_thread(process.join, limit_s)
        if process.exitcode is None:
            process.kill()
            await asyncio.to_thread(process.join)
            raise TimeoutError(f"process {process.pid} did not end within {limit_s:g} s of {number.name}")
        return process.exitcode

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def kill(self) -> None:
        """However the run went, it does not outlive it."""
        if self._process is not None:
            self._process.kill()
            self._process.join()


# --- all of it ----------------------------------------------------------------------------------------


class Scene:
    """One tablet, its broker and its depot, each behind a fault proxy."""

    def __init__(self, folder: Path, broker: Broker, seed: int, dice: random.Random) -> None:
        self.folder = folder
        self.broker = broker
        self.broker_lock = asyncio.Lock()
        self.dice = dice
        self.version = dice.choice((MQTT_5, MQTT_3_1_1))
        self.near = FaultProxy("127.0.0.1", broker.port, boot_ns, packets=True)  # before the tablet
        self.far = FaultProxy("127.0.0.1", broker.port, boot_ns, packets=True)  # before the depot
        self.lives = 0
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.oracle_rig"])

        def tablet_process() -> BaseProcess:
            self.lives += 1
            arguments = (folder, self.near.port, self.version, self.lives, seed)
            return context.Process(target=_tablet, args=arguments)

        self.tablet = Process(tablet_process)
        self.depot = Process(lambda: context.Process(target=_depot, args=(folder,)))

    async def begin(self) -> None:
        keys(self.folder / "keys")
        await self.near.start()
        await self.far.start()
        (self.folder / "depot.toml").write_text(
            f'broker = "127.0.0.1:{self.far.port}"\ndb = "{self.folder}/depot.db"\n'
            f'keys = "{self.folder}/keys"\nkeepalive_s = {KEEPALIVE_S}\nmqtt = "{self.version}"\n'
        )
        self.depot.run()
        self.tablet.run()

    async def heal(self) -> None:
        await self.near.heal()
        await self.far.heal()

    async def finish(self) -> bool:
        """Whether the tablet, which produces no more, could deliver everything; then all is ended."""
        try:
            await until(lambda: _alive(self.folder, self.lives).exists())
            return await self.tablet.end(signal.SIGTERM, DRAIN_S + 20) == 0
        finally:
            await self.depot.end(signal.SIGTERM)


@asynccontextmanager
async def scene(folder: Path, seed: int) -> AsyncIterator[Scene]:
    """What ``seed`` makes: the protocol's version and whether the broker keeps anything over a restart."""
    dice = random.Random(seed)
    extra = dice.choice(("", "persistence false\n"))
    with socket.socket() as held:  # bound: nobody else gets the port while the broker is down
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        broker = await asyncio.to_thread(Broker.start, folder / "broker", "mosquitto", port, extra)
        try:
            here = Scene(folder, broker, seed, dice)
            try:
                yield here
            finally:
                here.tablet.kill()
                here.depot.kill()
                await here.near.close()
                await here.far.close()
        finally:
            await asyncio.to_thread(broker.stop)


# --- faults -------------------------------------------------------------------------------------------

Hold = Callable[[], Awaitable[None]]  # waits for as long as the fault lasts
Fault = Callable[[Scene, FaultProxy, Hold], Awaitable[None]]


def flip(dice: random.Random) -> Tamper:
    """Flip a bit in every other packet."""

    def tamper(_way: Way, piece: bytes) -> bytes:
        if not piece or dice.random() < 0.5:
            return piece
        bad = bytearray(piece)
        bad[dice.randrange(len(bad))] ^= 1 << dice.randrange(8)
        return bytes(bad)

    return tamper


def swallow(kind: int, word: bytes = b"") -> Tamper:
    """Packets of a kind that contain a word never arrive."""
    return lambda _way, piece: b"" if piece and piece[0] >> 4 == kind and word in piece[:100] else piece


async def cut(scene: Scene, proxy: FaultProxy, hold: Hold) -> None:
    await proxy.cut()
    await hold()


async def stall(scene: Scene, proxy: FaultProxy, hold: Hold) -> None:
    proxy.stall()
    await hold()


async def half_open(scene: Scene, proxy: FaultProxy, hold: Hold) -> None:
    proxy.half_open()


async def slow(scene: Scene, proxy: FaultProxy, hold: Hold) -> None:
    proxy.slow(delay_ms=scene.dice.randrange(300), bytes_per_s=scene.dice.randrange(2_000, 50_000))
    await hold()


async def corrupt(scene: Scene, proxy: FaultProxy, hold: Hold) -> None:
    proxy.tamper = flip(scene.dice)
    await hold()


async def lost_puback(scene: Scene, proxy: FaultProxy, hold: Hold) -> None:
    proxy.tamper = swallow(PUBACK)
    await hold()


async def lost_ack(scene: Scene, proxy: FaultProxy, hold: Hold) -> None:
    proxy.tamper = swallow(PUBLISH, b"/ack")
    await hold()


async def restart_broker(scene: Scene, _: FaultProxy, hold: Hold) -> None:
    async with scene.broker_lock:
        await asyncio.to_thread(scene.broker.stop)
        await hold()
        await asyncio.to_thread(scene.broker.run)


async def kill_broker(scene: Scene, _: FaultProxy, hold: Hold) -> None:
    async with scene.broker_lock:
        await asyncio.to_thread(scene.broker.kill)
        await hold()
        await asyncio.to_thread(scene.broker.run)


def _ends(which: Callable[[Scene], Process], number: signal.Signals) -> Fault:
    async def fault(scene: Scene, _: FaultProxy, hold: Hold) -> None:
        process = which(scene)
        async with process.lock:
            await process.end(number)
            await hold()
            process.run()

    return fault


FAULTS: dict[str, Fault] = {
    "cut": cut,
    "stall": stall,
    "half-open": half_open,
    "slow": slow,
    "corrupt": corrupt,
    "lost PUBACK": lost_puback,
    "lost ack": lost_ack,
    "broker restarted": restart_broker,
    "broker killed": kill_broker,
    "depot restarted": _ends(lambda scene: scene.depot, signal.SIGTERM),
    "depot killed": _ends(lambda scene: scene.depot, signal.SIGKILL),
    "tablet killed": _ends(lambda scene: scene.tablet, signal.SIGKILL),
}
