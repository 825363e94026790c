"""Real brokers and clients for tests: each test has its own, in its own folder, on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from simulator.broker import Broker
from sync.mqtt import MqttTransport
from sync.mqtt_types import Endpoint, Received, Transport, TransportEvent, Up, Will
from tests.system import need

WAIT_S = 90.0  # what a test waits for an event before it fails
Event = TypeVar("Event", bound=TransportEvent)


@contextmanager
def running(kind: str, folder: Path, extra: str = "") -> Iterator[Broker]:
    """A broker of ``kind`` ("mosquitto" or "amqtt"), ended with the block.

    Skips the test when Mosquitto is asked for and not installed. ``extra`` are further lines of its
    configuration. Without Mosquitto, amqtt needs the extra "sim", which the tests have.
    """
    if kind == "mosquitto":
        need("mosquitto")
    broker = Broker.start(folder / "broker", kind, extra=extra)
    try:
        yield broker
    finally:
        broker.stop()


class Listener:
    """A client of a broker, whatever its transport: collects what it is told."""

    transport: Transport

    def __init__(self) -> None:
        self.events: asyncio.Queue[TransportEvent] = asyncio.Queue()

    async def next(self, kind: type[Event]) -> Event:
        """The next event of ``kind``; others before it are passed over."""
        async with asyncio.timeout(WAIT_S):
            while True:
                event = await self.events.get()
                if isinstance(event, kind):
                    return event

    async def up(self, will: Will | None = None) -> Up:
        self.transport.connect(will)
        return await self.next(Up)

    async def message(self, topic_end: str) -> bytes:
        """The payload of the next message whose topic ends so."""
        while True:
            received = await self.next(Received)
            if received.topic.endswith(topic_end):
                return received.payload


class Peer(Listener):
    """Another client of a real broker."""

    transport: MqttTransport

    def __init__(
        self,
        endpoint: Endpoint,
        *subscriptions: str,
        persistent: bool = False,
        manual_ack: bool = False,
        inbox: int = 256,
    ) -> None:
        super().__init__()
        self.transport = MqttTransport(
            endpoint,
            subscriptions,
            self.events.put_nowait,
            asyncio.get_running_loop(),
            persistent=persistent,
            manual_ack=manual_ack,
            inbox=inbox,
        )


@asynccontextmanager
async def peer(broker: Broker, name: str, *subscriptions: str) -> AsyncIterator[Peer]:
    """A connected client of ``broker``."""
    it = Peer(Endpoint("127.0.0.1", broker.port, name), *subscriptions)
    await it.up()
    try:
        yield it
    finally:
        await it.transport.close(5.0)
