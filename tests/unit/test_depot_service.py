"""The order that the depot promises: commit, then PUBACK and acknowledgement."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.core.records import Stream
from sync.depot.intake import Intake
from sync.depot.service import DepotService
from sync.depot.storage import DepotStorage
from sync.envelope import encode_batch
from sync.keys import Signer, Verifier
from sync.mqtt_types import Endpoint, Received, TransportEvent, Will
from sync.topics import Topics
from tests.aio import looped
from tests.store_rig import DEVICE, Rig, sample

KEY, DEPOT_KEY = Signer(bytes([1]) * 32), Signer(bytes([2]) * 32)
TOPICS = Topics("met", DEVICE)


class Line:
    """A connection that notes, with everything that is said on it, what others find committed then."""

    dropped = 0

    def __init__(self, path: Path) -> None:
        self.said: list[tuple[str, list[tuple[int]]]] = []
        self.acknowledged = asyncio.Event()
        self._path = path

    def __call__(
        self,
        endpoint: Endpoint,
        subscriptions: Sequence[str],
        deliver: Callable[[TransportEvent], None],
        loop: asyncio.AbstractEventLoop,
        *,
        persistent: bool = False,
        manual_ack: bool = False,
    ) -> Line:
        self.deliver = deliver
        return self

    def connect(self, will: Will | None = None) -> None: ...
    def abandon(self) -> None: ...

    def publish(self, token: int, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._note("ack")
        self.acknowledged.set()

    def confirm(self, message: Received) -> None:
        self._note("puback")

    async def close(self, timeout_s: float) -> bool:
        return True

    def _note(self, what: str) -> None:
        beside = sqlite3.connect(self._path)
        self.said.append((what, beside.execute("SELECT seq FROM chain").fetchall()))
        beside.close()


@looped
async def test_nothing_is_confirmed_or_acknowledged_before_others_can_read_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "queue.db")
    store = rig.open()
    store.append([sample(60), sample(61)])
    run = store.read_batch(Stream.TELEMETRY, 0, 1)
    store.close()
    assert run is not None
    path = tmp_path / "depot.db"
    storage = DepotStorage(path)
    line = Line(path)
    intake = Intake(storage, {DEVICE: Verifier(KEY.public)}.get)
    service = DepotService(Endpoint("broker", 1883, "depot"), storage, intake, DEPOT_KEY, lambda: 0.0, line)
    service.start()
    batch = encode_batch(run, DEVICE, rig.boot_id, KEY, oldest=False)
    line.deliver(Received(TOPICS.up(Stream.TELEMETRY), batch, 1, 1))
    async with asyncio.timeout(5):
        await line.acknowledged.wait()
    await service.close()
    storage.close()
    assert line.said == [("puback", [(2,)]), ("ack", [(2,)])]
