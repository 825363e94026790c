"""The depot as a service: takes messages from the broker, commits them in groups, then acknowledges.

The order is the promise: verify, commit (synced), PUBACK to the broker, signed ack to the tablet. Whatever
is lost between two of these steps is sent again by somebody, and dropped as a duplicate.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import count

import structlog

from agent.core.records import Stream
from sync.depot.intake import Intake, Reply
from sync.depot.storage import DepotStorage
from sync.envelope import encode_ack
from sync.errors import StoreError
from sync.keys import Signer
from sync.mqtt import MqttTransport
from sync.mqtt_types import Down, Endpoint, MakeTransport, Received, TransportEvent, Up
from sync.topics import ALL_BATCHES, ALL_PRESENCE, ALL_REPORTED

log = structlog.get_logger()

GROUP = 64  # messages of one commit; ours: what a broker sends before it waits for PUBACKs
BACKOFF_S, BACKOFF_CAP_S = 0.5, 30.0  # ours: one depot, not a fleet
STORE_RETRY_S = 5.0  # ours
CLOSE_S = 5.0  # ours


class DepotService:
    """Runs on the current loop until ``close``. ``jitter`` gives a number from 0 up to 1."""

    def __init__(
        self,
        endpoint: Endpoint,
        storage: DepotStorage,
        intake: Intake,
        signer: Signer,
        jitter: Callable[[], float],
        transport: MakeTransport = MqttTransport,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport(
            endpoint, [ALL_BATCHES, ALL_PRESENCE, ALL_REPORTED], self._heard, self._loop,
            persistent=True, manual_ack=True,
        )  # fmt: skip
        self._endpoint = endpoint
        self._storage = storage
        self._intake = intake
        self._signer = signer
        self._jitter = jitter
        self._waiting: deque[Received] = deque()  # bounded by what the broker sends without a PUBACK
        self._scheduled = False
        self._tokens = count()
        self._failures = 0
        self._closed = False

    def start(self) -> None:
        self._transport.connect()

    async def close(self) -> None:
        """Take what has arrived, then say goodbye."""
        self._work()
        self._closed = True
        await self._transport.close(CLOSE_S)

    # --- events -----------------------------------------------------------------------------------

    def _heard(self, event: TransportEvent) -> None:
        match event:
            case Up(version):
                self._failures = 0
                log.info("depot ready", broker=f"{self._endpoint.host}:{self._endpoint.port}", mqtt=version)
            case Down(detail):
                self._waiting.clear()  # without a PUBACK of ours the broker sends it again
                self._reconnect(detail)
            case Received():
                self._waiting.append(event)
                self._schedule(0.0)

    def _reconnect(self, detail: str) -> None:
        if self._closed:
            return
        emit = log.debug if self._failures else log.warning
        emit("no connection to the broker", detail=detail)
        delay_s = min(BACKOFF_S * 2 ** min(self._failures, 10), BACKOFF_CAP_S) * self._jitter()
        self._failures += 1
        self._loop.call_later(delay_s, self._transport.connect)

    def _schedule(self, delay_s: float) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_later(delay_s, self._work)

    def _work(self) -> None:
        """Commit a group, confirm its messages, send its acknowledgements."""
        self._scheduled = False
        if not self._waiting or self._closed:
            return
        group = [self._waiting[i] for i in range(min(GROUP, len(self._waiting)))]
        replies: dict[tuple[str, Stream], Reply] = {}  # of several to one stream the last says it all
        try:
            with self._storage.transaction():
                for message in group:
                    for reply in self._intake.take(message.topic, message.payload, old=message.retained):
                        replies[(reply.ack.device, reply.ack.stream)] = reply
        except StoreError as error:
            log.error("nothing can be stored; the broker keeps it meanwhile", detail=str(error))
            self._schedule(STORE_RETRY_S)
            return
        for message in group:
            self._waiting.popleft()
            self._transport.confirm(message)
        for reply in replies.values():
            self._transport.publish(next(self._tokens), reply.topics.ack, encode_ack(reply.ack, self._signer))
        if self._waiting:
            self._schedule(0.0)
