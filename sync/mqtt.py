"""MQTT connections, one after the other, in a thread of their own.

A transport and nothing more: when to connect, what to send and what to send again is decided elsewhere.
Calls come from the asyncio loop and never block it; events go back to it through one bounded inbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sync.mqtt_types import Confirmed, Down, Endpoint, Received, TransportEvent, Up, Will
from sync.redirect import HOPS, Redirect

if TYPE_CHECKING:
    from sync.mqtt_connection import Connection


class MqttTransport:
    """Runs connections. ``deliver`` gets the events of the present one, on the loop.

    ``persistent`` keeps the subscriptions, and what waits for us, at the broker between connections.
    ``manual_ack`` leaves the PUBACK of each received message to ``confirm``. ``inbox`` bounds received
    messages that the loop has not taken yet; more are dropped and counted (never with ``manual_ack``:
    there the broker holds back by itself).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        subscriptions: Sequence[str],
        deliver: Callable[[TransportEvent], None],
        loop: asyncio.AbstractEventLoop,
        *,
        persistent: bool = False,
        manual_ack: bool = False,
        inbox: int = 256,
    ) -> None:
        self.dropped = 0
        self._endpoint = endpoint
        self._subscriptions = subscriptions
        self._deliver = deliver
        self._loop = loop
        self._persistent = persistent
        self._manual_ack = manual_ack
        self._capacity = inbox
        self._redirect = Redirect(endpoint)  # the thread's
        self._learnt = 0  # index of the version that the broker speaks, since it refused those before
        self._orders: queue.SimpleQueue[tuple[int, Will | None] | None] = queue.SimpleQueue()
        self._generation = 0  # of the connection that is wanted; events of others are dropped
        self._connection: Connection | None = None  # set by the thread, from before it connects
        self._up = False
        self._tokens: dict[int, int] = {}  # by paho's message id
        self._inbox: deque[tuple[int, TransportEvent]] = deque()
        self._scheduled = False
        self._lock = threading.Lock()  # of the inbox and _scheduled
        self._thread: threading.Thread | None = None
        self._ended = loop.create_future()
        self._closing = False

    # --- on the loop ------------------------------------------------------------------------------

    def connect(self, will: Will | None = None) -> None:
        """Give up the present connection, if any, and begin another; ``Up`` or ``Down`` follows."""
        self.abandon()
        if self._closing:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
            self._thread.start()
        self._orders.put((self._generation, will))

    def publish(self, token: int, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send with QoS 1; ``Confirmed(token)`` follows, unless the connection ends before."""
        if self._connection is not None and self._up:
            info = self._connection.client.publish(topic, payload, qos=1, retain=retain)
            self._tokens[info.mid] = token

    def confirm(self, message: Received) -> None:
        """Send the PUBACK of a message received with ``manual_ack``."""
        if self._connection is not None and message.connection == self._generation:
            self._connection.client.ack(message.mid, 1)

    def abandon(self) -> None:
        """End the connection as a cut would: nothing of it is reported, the broker publishes the will."""
        self._generation += 1
        self._tokens.clear()
        self._up = False
        if self._connection is not None:
            self._connection.cut()

    async def close(self, timeout_s: float) -> bool:
        """Say goodbye to the broker and end the thread; False if it did not end in time."""
        self._closing = True
        self._orders.put(None)
        if self._thread is None:
            return True
        if self._up and self._connection is not None:
            self._connection.client.disconnect()
            await asyncio.wait([self._ended], timeout=timeout_s / 2)
        self.abandon()
        await asyncio.wait([self._ended], timeout=timeout_s / 2)
        return self._ended.done()

    # --- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (order := self._orders.get()) is not None:
                generation, will = order
                if generation == self._generation:
                    self._report(generation, self._connect(generation, will))
        finally:
            self._call(self._finish)

    def _connect(self, generation: int, will: Will | None) -> Down:
        """Connect where the broker sends us, a bounded number of times; returns how it ended at last."""
        for hop in range(HOPS + 1):
            endpoint = self._redirect.begin(hop)
            connection, detail = self._try(endpoint, generation, will)
            if not self._redirect.follows(connection, endpoint) or generation != self._generation:
                break
        return Down(self._redirect.explained(detail), connection.ending)

    def _try(self, endpoint: Endpoint, generation: int, will: Will | None) -> tuple[Connection, str]:
        """Try the versions in order; a broker that speaks another one says so or just goes away."""
        from sync.mqtt_connection import Connection

        versions = endpoint.versions
        index = self._learnt
        while True:
            connection = Connection(
                endpoint,
                versions[index],
                self._subscriptions,
                will,
                lambda event: self._report(generation, event),
                generation,
                persistent=self._persistent,
                manual_ack=self._manual_ack,
            )
            self._connection = connection
            detail = connection.run(lambda: generation == self._generation)
            self._connection = None
            if connection.accepted:
                return connection, detail
            index += 1
            if not connection.wrong_version or index == len(versions):
                self._learnt = 0
                return connection, detail
            if connection.said_so:  # a mere silence may be the network's, and proves no version
                self._learnt = index

    # --- from the thread to the loop --------------------------------------------------------------

    def _report(self, generation: int, event: TransportEvent) -> None:
        with self._lock:
            if isinstance(event, Received) and not self._manual_ack and len(self._inbox) >= self._capacity:
                self.dropped += 1
                return
            self._inbox.append((generation, event))
            if self._scheduled:
                return
            self._scheduled = True
        self._call(self._drain)

    def _call(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            self._loop.call_soon_threadsafe(function)

    def _drain(self) -> None:
        with self._lock:
            events = list(self._inbox)
            self._inbox.clear()
            self._scheduled = False
        for generation, event in events:
            if generation != self._generation or self._closing:
                continue
            match event:
                case Up():
                    self._up = True
                case Down():
                    self._up = False
                    self._tokens.clear()
                case Confirmed(mid, code):
                    if mid not in self._tokens:
                        continue
                    event = Confirmed(self._tokens.pop(mid), code)
            self._deliver(event)

    def _finish(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
