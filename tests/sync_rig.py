"""A tablet's queue and uplink, and a depot process, for tests: real threads, files, sockets and processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.core.catalogue import AGENT_STOPPED, POWER_SAMPLE, TETHER_CHANGED
from agent.core.records import Record, Stream
from agent.core.types import SECOND, BootNs
from sync import session_types as t
from sync.clock import SystemClock
from sync.depot.keyring import generate
from sync.keys import Signer, Verifier, load_private, load_public
from sync.mqtt_types import MQTT_3_1_1, MQTT_5, Endpoint, Tls
from sync.sealing import Sealer
from sync.store import Store
from sync.topics import Topics
from sync.uplink import Uplink, UplinkConfig
from sync.writer import StoreThread

DEVICE = "tablet-1"
TOPICS = Topics("test", DEVICE)
BOOT_ID = bytes(range(16))
# Short times, so that a lost message is missed soon; the same rules as in the field.
LIMITS = t.Limits(ack_s=2, puback_s=5, connect_s=5, backoff_s=1, backoff_cap_s=1, batch_bytes=4096)
WAIT_S = 60.0


def boot_ns() -> BootNs:
    return BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


def keys(folder: Path, *devices: str) -> Path:
    generate(folder, [DEVICE, *devices])
    return folder


def sample(number: int) -> Record:
    """A telemetry record that says which it is."""
    return POWER_SAMPLE.make(boot_ns(), vehicle_mv=number, dock_mv=24000, tablet_ma=-300, board_dc=215)


def change(evidence: object) -> Record:
    """A state record."""
    return TETHER_CHANGED.make(
        boot_ns(), verdict="tethered", before="unknown", rule="r", because="b", evidence=str(evidence)
    )


def stopped(number: int) -> Record:
    """An audit record: durable at once."""
    return AGENT_STOPPED.make(boot_ns(), reason=str(number))


@dataclass
class Tablet:
    queue: StoreThread
    uplink: Uplink
    reports: list[t.Report] = field(default_factory=list)

    async def delivered(self) -> None:
        """Wait until the depot has acknowledged everything."""
        await until(lambda: self.pending == 0)

    @property
    def pending(self) -> int:
        pending = self.uplink.status().get("pending", -1)
        assert isinstance(pending, int)
        return pending

    async def drain(self, seconds: int = 60) -> int:
        await self.queue.flush()
        return await self.uplink.drain(BootNs(boot_ns() + seconds * SECOND))


@asynccontextmanager
async def tablet(
    folder: Path,
    key_folder: Path,
    port: int,
    *,
    versions: tuple[str, ...] = (MQTT_5, MQTT_3_1_1),
    limits: t.Limits = LIMITS,
    topics: Topics = TOPICS,
    signing_key: Path | None = None,
    tls: Tls | None = None,
    telemetry_group_s: int = 1,
) -> AsyncIterator[Tablet]:
    """A store thread and an uplink on the running loop, sealed to the fleet's key."""
    sealer = Sealer(load_public(key_folder / "fleet.pub"), 1, os.urandom)
    name = topics.device
    reports: list[t.Report] = []
    queue = StoreThread(
        lambda: Store(folder / f"{name}.db", name, BOOT_ID, SystemClock(), os.urandom, sealer=sealer),
        boot_ns,
        on_commit=lambda heads: uplink.notify(heads),
        telemetry_group_s=telemetry_group_s,
    )
    uplink = Uplink(
        UplinkConfig(topics, BOOT_ID, Endpoint("127.0.0.1", port, name, tls, versions=versions), limits),
        queue,
        Signer(load_private(signing_key or key_folder / "devices" / f"{name}.key")),
        Verifier(load_public(key_folder / "depot.pub")),
        boot_ns,
        random.Random(1).random,
        reports.append,
    )
    await queue.start()
    uplink.start()
    try:
        yield Tablet(queue, uplink, reports)
    finally:
        assert await uplink.close(5.0)
        assert await queue.close(5.0)


class Depot:
    """``ivma-depot serve`` as a process."""

    def __init__(self, folder: Path, key_folder: Path, port: int, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.db = folder / "depot.db"
        self.log = folder / "depot.log"
        self.keys = key_folder
        self._command = [
            sys.executable, "-m", "sync.depot", "serve", "--broker", f"127.0.0.1:{port}",
            "--db", str(self.db), "--keys", str(key_folder), "--verbose", *options,
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)

    @property
    def ready(self) -> bool:
        """Whether it has ever been connected and subscribed."""
        return "depot ready" in self.log.read_text()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(10)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def rows(self, sql: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(f"file:{self.db}?mode=ro", uri=True)) as db:
            return db.execute(sql).fetchall()

    def numbers(self, field_name: str = "vehicle_mv") -> list[int]:
        """What the records say of themselves, in the order of their sequence."""
        return [
            int(json.loads(body)[field_name])
            for (body,) in self.rows("SELECT body FROM record ORDER BY chain, seq")
            if field_name in json.loads(body)
        ]

    def quarantined(self) -> list[str]:
        return [reason for (reason,) in self.rows("SELECT reason FROM quarantine ORDER BY id")]

    def ledger(self) -> dict[str, Any]:
        """The ledger, by the command that an operator uses."""
        done = subprocess.run(
            [sys.executable, "-m", "sync.depot", "ledger", "--db", str(self.db), "--keys", str(self.keys),
             "--json"],
            check=False, capture_output=True, timeout=60,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if found["verified"] else 1), done.stderr
        return found

    def chain(self, stream: Stream) -> dict[str, Any]:
        """The ledger's entry of the device's only chain of ``stream``."""
        (entry,) = self.ledger()["devices"][DEVICE]["streams"][stream.value]
        found: dict[str, Any] = entry
        return found


@contextmanager
def depot(folder: Path, key_folder: Path, port: int, *options: str) -> Iterator[Depot]:
    service = Depot(folder, key_folder, port, *options)
    service.run()
    try:
        yield service
    finally:
        if service.process is not None and service.process.poll() is None:
            service.stop()


async def until(condition: Callable[[], bool], seconds: float = WAIT_S) -> None:
    """Wait for what no event tells, looking again each 20 ms."""
    turn = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(seconds):
        while not condition():
            loop.call_later(0.02, turn.set)
            await turn.wait()
            turn.clear()
