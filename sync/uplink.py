"""The tablet's way to the fleet: ties the store, the session and the MQTT transport together on the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from agent.core.records import Stream
from agent.core.types import SECOND, BootNs
from sync import session_types as t
from sync.blocks import Head
from sync.envelope import (
    Presence,
    Reported,
    Run,
    decode_ack,
    encode_batch,
    encode_presence,
    encode_reported,
)
from sync.errors import RemoteProtocolError, StoreError
from sync.keys import Signer, Verifier
from sync.mqtt import MqttTransport
from sync.mqtt_types import Confirmed, Down, Endpoint, MakeTransport, Received, TransportEvent, Up, Will
from sync.session import Session
from sync.table import Acked, StreamStats
from sync.topics import LOST, Topics

log = structlog.get_logger()

RELOAD_S = 5.0  # ours: how soon a store that gave no answer is asked again
UNKNOWN = -1
REPORT_TOKEN = -1  # of what the session does not count


class Queue(Protocol):
    """What the uplink needs of the store; ``sync.writer.StoreThread`` has it."""

    def fetch(self, stream: Stream, after_seq: int, max_bytes: int) -> asyncio.Future[Run | None]: ...
    def acknowledge(self, stream: Stream, epoch: bytes, upto: Head) -> asyncio.Future[Acked]: ...
    def stats(self) -> asyncio.Future[dict[Stream, StreamStats]]: ...
    def epoch(self) -> asyncio.Future[bytes]: ...


@dataclass(frozen=True, slots=True)
class UplinkConfig:
    """Who we are and where to go. ``nonce``: commands have to name it, and orders are listened for."""

    topics: Topics
    boot_id: bytes
    endpoint: Endpoint
    limits: t.Limits = field(default_factory=t.Limits)
    nonce: bytes = b""


class Uplink:
    """Delivers what the queue holds. Everything runs on the loop and nothing here blocks it.

    ``on_report`` gets what is worth a record: refusals, a depot that does not answer, a foreign chain.
    ``on_contact`` is called at each word that the depot signed about the file in use, ``on_generation`` with
    the generation of configuration in it, ``on_order`` with the last level of the topic and what came on it.
    """

    def __init__(
        self,
        config: UplinkConfig,
        queue: Queue,
        signer: Signer,
        depot: Verifier,
        now: Callable[[], BootNs],
        jitter: Callable[[], float],
        on_report: Callable[[t.Report], None] = lambda report: None,
        transport: MakeTransport = MqttTransport,
        on_contact: Callable[[], None] = lambda: None,
        on_generation: Callable[[int], None] = lambda generation: None,
        on_order: Callable[[str, bytes], None] = lambda what, payload: None,
    ) -> None:
        self._config = config
        self._device = config.topics.device
        self._queue = queue
        self._signer = signer
        self._depot = depot
        self._now = now
        self._jitter = jitter
        self._on_report = on_report
        self._on_contact = on_contact
        self._on_generation = on_generation
        self._on_order = on_order
        self._reported = b""  # what became of the desired configuration; said again at each connection
        self._loop = asyncio.get_running_loop()
        topics = config.topics
        ordered = [topics.command, topics.desired, topics.fleet_key] if config.nonce else []
        self._transport = transport(config.endpoint, [topics.ack, *ordered], self._heard, self._loop)
        self._session: Session | None = None  # None until the store has told where the streams stand
        self._epoch = b""
        self._heads: dict[Stream, Head] = {}
        self._told: dict[Stream, int] = {}  # what ``notify`` was told last
        self._payload = b""  # of the batch that was fetched last
        self._timer: asyncio.TimerHandle | None = None
        self._drains: list[asyncio.Future[int]] = []
        self._drain_until = BootNs(0)
        self._wanted: list[t.Event] = []  # presence and shedding asked for before there is a session
        self._closed = False
        self._failing = False
        self._version = ""
        self.bad_acks = 0

    def start(self) -> None:
        """Ask the store where the streams stand, then connect."""
        self._load()

    def notify(self, heads: Mapping[Stream, int]) -> None:
        """Records were committed: the newest sequence number of each stream."""
        told, self._told = self._told, dict(heads)
        if any(head < told.get(stream, 0) for stream, head in heads.items()):
            self._begin_anew()
            return
        for stream, head in heads.items():
            if head != told.get(stream):
                self._handle(t.DataAvailable(stream, head))

    def drain(self, until: BootNs) -> asyncio.Future[int]:
        """Send all that can be sent until then; resolves with the number of records that are left.

        -1 when the store did not say how many there are.
        """
        future: asyncio.Future[int] = self._loop.create_future()
        self._drains.append(future)
        self._drain_until = until
        if self._session is None:
            self._loop.call_later(max(until - self._now(), 0) / SECOND, self._drain_over)
        self._handle(t.DrainAsked(until))
        return future

    def announce(self, what: str) -> None:
        """Publish presence: "online", "sleeping" or "shutting_down"."""
        self._ask(t.Announced(what))

    def shed(self, on: bool) -> None:
        """Hold telemetry back while power is short."""
        self._ask(t.Shedding(on))

    def report(self, at: BootNs, accepted: int, generation: int, state: str, detail: str) -> None:
        """Publish, retained, what became of a desired configuration; said again at each connection."""
        said = Reported(self._device, self._config.boot_id, at, accepted, generation, state, detail)
        self._reported = encode_reported(said, self._signer)
        self._tell_reported()

    def _tell_reported(self) -> None:
        if self._reported:
            self._transport.publish(REPORT_TOKEN, self._config.topics.reported, self._reported, retain=True)

    def status(self) -> dict[str, object]:
        """For people: the link, the protocol version, and where each stream stands."""
        state: dict[str, object] = {"link": "no store"} if self._session is None else self._session.status()
        return {**state, "mqtt": self._version, "bad_acks": self.bad_acks, "dropped": self._transport.dropped}

    async def close(self, timeout_s: float) -> bool:
        """Disconnect in an orderly way; False when the transport's thread did not end in time."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for future in self._drains:
            future.cancel()
        return await self._transport.close(timeout_s)

    # --- the session's turn -----------------------------------------------------------------------

    def _ask(self, event: t.Announced | t.Shedding) -> None:
        if self._session is None:
            self._wanted = [e for e in self._wanted if type(e) is not type(event)] + [event]
        self._handle(event)

    def _handle(self, event: t.Event) -> None:
        if self._session is None or self._closed:
            return
        for action in self._session.handle(event, self._now()):
            self._do(action)
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._session.next_deadline() if self._session is not None else None
        if deadline is not None:
            delay_s = max(deadline - self._now(), 0) / SECOND
            self._timer = self._loop.call_later(delay_s, self._handle, t.Tick())

    def _do(self, action: t.Action) -> None:
        match action:
            case t.Connect():
                self._with_heads(lambda: self._transport.connect(self._will()))
            case t.Disconnect(why):
                self._failed(why)
                self._transport.abandon()
            case t.Present(token, what):
                self._with_heads(lambda: self._present(token, what))
            case t.Fetch():
                future = self._queue.fetch(action.stream, action.after, action.max_bytes)
                future.add_done_callback(lambda done: self._fetched(action, done))
            case t.Publish(token, stream):
                self._transport.publish(token, self._config.topics.up(stream), self._payload)
            case t.AckToStore(stream, seq, chain_hash):
                settled = self._queue.acknowledge(stream, self._epoch, Head(seq, chain_hash))
                settled.add_done_callback(lambda done: self._settled(stream, seq, done))
            case t.DrainDone(pending):
                self._drained(pending)
            case t.Report():
                log.error("sync trouble", stream=action.where, trouble=action.trouble.value,
                          detail=action.detail)  # fmt: skip
                self._on_report(action)

    def _drain_over(self) -> None:
        if self._session is None:
            self._drained(UNKNOWN)

    def _drained(self, pending: int) -> None:
        drains, self._drains = self._drains, []
        for drain in drains:
            if not drain.done():
                drain.set_result(pending)

    # --- the store --------------------------------------------------------------------------------

    def _load(self) -> None:
        """Learn where the streams stand; again after the store's file was replaced."""
        asking = asyncio.gather(self._queue.epoch(), self._queue.stats(), return_exceptions=True)
        asking.add_done_callback(lambda done: self._loaded(*done.result()))

    def _loaded(self, epoch: bytes | BaseException, stats: dict[Stream, StreamStats] | BaseException) -> None:
        if self._closed:
            return
        if isinstance(epoch, BaseException) or isinstance(stats, BaseException):
            self._loop.call_later(RELOAD_S, self._load)
            return
        self._epoch = epoch
        self._heads = {stream: stat.head for stream, stat in stats.items()}
        cursors = {s: t.Cursor(stat.head.seq, stat.acked.seq) for s, stat in stats.items()}
        self._session = Session(cursors, self._jitter, self._config.limits)
        for event in (*self._wanted, *(t.DataAvailable(s, head) for s, head in self._told.items())):
            self._handle(event)
        self._handle(t.DrainAsked(self._drain_until) if self._drains else t.Tick())

    def _begin_anew(self) -> None:
        """The queue's file was damaged and replaced: a fresh one has another epoch and its own numbers."""
        log.warning("the queue's file was replaced; the uplink begins anew")
        self._transport.abandon()
        self._session = None
        self._loop.call_later(max(self._drain_until - self._now(), 0) / SECOND, self._drain_over)
        self._load()

    def _with_heads(self, then: Callable[[], None]) -> None:
        """Call ``then`` when the heads are known anew; with the old ones if the store does not answer."""

        def told(done: asyncio.Future[dict[Stream, StreamStats]]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._heads = {stream: stat.head for stream, stat in done.result().items()}
            if not self._closed:
                then()

        self._queue.stats().add_done_callback(told)

    def _fetched(self, asked: t.Fetch, done: asyncio.Future[Run | None]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._handle(t.FetchFailed(asked.token))
            return
        run = done.result()
        if run is None:
            self._handle(t.Fetched(asked.token, asked.after, 0, 0))
            return
        if run.epoch != self._epoch:
            self._told = {}
            self._begin_anew()
            return
        self._payload = encode_batch(
            run, self._device, self._config.boot_id, self._signer, oldest=run.before.seq > asked.after
        )
        self._handle(t.Fetched(asked.token, run.head.seq, len(run.blocks), len(self._payload)))

    def _settled(self, stream: Stream, seq: int, done: asyncio.Future[Acked]) -> None:
        if done.cancelled() or isinstance(done.exception(), StoreError):
            self._handle(t.AckSettled(stream, seq, None))
        else:
            self._handle(t.AckSettled(stream, seq, done.result() is not Acked.MISMATCH))

    # --- the transport ----------------------------------------------------------------------------

    def _heard(self, event: TransportEvent) -> None:
        match event:
            case Up(version, payload_bytes, notice):
                self._version = version
                if self._failing:
                    self._failing = False
                    log.info("connected again", broker=self._config.endpoint.host)
                self._handle(t.Connected(payload_bytes, notice))
                self._tell_reported()
            case Down(detail, ending):
                self._failed(detail)
                self._handle(t.Disconnected(detail, ending))
            case Confirmed(token, code):
                self._handle(t.Puback(token, code))
            case Received(topic, payload) if topic == self._config.topics.ack:
                self._ack_came(payload)
            case Received(topic, payload):
                self._on_order(topic.rpartition("/")[2], payload)

    def _failed(self, detail: str) -> None:
        emit = log.debug if self._failing else log.warning
        emit("no connection to the broker", detail=detail)
        self._failing = True

    def _ack_came(self, payload: bytes) -> None:
        try:
            ack = decode_ack(payload, self._device, self._depot)
        except RemoteProtocolError as error:
            self.bad_acks += 1
            emit = log.debug if self.bad_acks > 1 else log.warning
            emit("an ack that is not the depot's was ignored", reason=error.reason, detail=str(error))
            return
        if ack.epoch == self._epoch:
            self._on_contact()
            self._on_generation(ack.desired)
            self._handle(t.DepotAck(ack.stream, ack.head.seq, ack.head.hash, ack.again))

    def _presence(self, state: str) -> bytes:
        at = self._now()
        presence = Presence(self._device, state, self._config.boot_id, at, self._epoch, self._heads,
                            self._config.nonce)  # fmt: skip
        return encode_presence(presence, self._signer)

    def _present(self, token: int, what: str) -> None:
        self._transport.publish(token, self._config.topics.presence, self._presence(what), retain=True)

    def _will(self) -> Will:
        return Will(self._config.topics.presence, self._presence(LOST))
