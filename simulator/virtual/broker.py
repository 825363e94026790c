"""A model of a broker as Mosquitto is one: QoS 1, sessions, retained messages, wills, limits, restarts.

What it does is compared with the real one by tests/simulation/test_virtual_broker_conformance.py. Conforms to
``simulator.faults.knobs.BrokerKnobs``.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from simulator.virtual import mqtt_packets as m
from simulator.virtual.network import Link

KEEPALIVE_GRACE = 1.5  # times the keep-alive that a client may be silent; MQTT 5.0, 3.1.2.10
LAST_MID = 65_535
CACHED_TOPICS = 4096  # ours


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """Settings of mosquitto.conf, with its defaults; 0 is without limit."""

    inflight: int = 20  # max_inflight_messages: sent and not confirmed, if the client names no maximum
    queued: int = 1000  # max_queued_messages: beyond those, of one session; more are dropped
    message_bytes: int = 0  # message_size_limit, of a payload; more is confirmed as refused, and dropped
    packet_bytes: int = 0  # max_packet_size: announced, and the end of a connection that exceeds it
    versions: tuple[str, ...] = (m.MQTT_5, "3.1.1")


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    payload: bytes
    retain: bool


@dataclass(slots=True)
class _Session:
    """What the broker holds for a client: its subscriptions, and what it has not confirmed."""

    client_id: str
    keep: bool
    inflight_limit: int
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    inflight: dict[int, _Message] = field(default_factory=dict)
    queue: deque[_Message] = field(default_factory=deque)
    mid: int = 0
    client: _Client | None = None

    def next_mid(self) -> int:
        while True:
            self.mid = self.mid % LAST_MID + 1
            if self.mid not in self.inflight:
                return self.mid


class MemoryBroker:
    """Serves links. ``dropped`` counts messages that no queue had room for."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, rng: random.Random, limits: BrokerLimits | None = None
    ) -> None:
        self.loop = loop
        self.limits = limits or BrokerLimits()
        self.running = True
        self.dropped = 0
        self.lose_puback_permille = 0
        self.duplicate_permille = 0
        self._rng = rng
        self._clients: dict[_Client, None] = {}
        self._sessions: dict[str, _Session] = {}
        self._retained: dict[str, bytes] = {}
        self._subscribers: dict[str, list[_Session]] = {}  # by topic; forgotten when subscriptions change

    # --- the process --------------------------------------------------------------------------------

    def stop(self, *, keep: bool) -> None:
        """End in order: goodbyes, wills; sessions, retained and queued messages are ``keep``-t or lost."""
        for client in list(self._clients):
            client.end(m.SHUTTING_DOWN)
        self.running = False
        self._subscribers.clear()
        if not keep:
            self._sessions.clear()
            self._retained.clear()

    def start(self) -> None:
        self.running = True

    def accept(self, link: Link) -> None:
        _Client(self, link)

    # --- for its connections ------------------------------------------------------------------------

    def joined(self, client: _Client, said: m.Connect) -> _Session:
        """The session of a client that connects; the connection that it had before ends."""
        old = self._sessions.get(said.client_id)
        if old is not None and old.client is not None:
            old.client.end(m.TAKEN_OVER)
            old = self._sessions.get(said.client_id)
        if old is not None and not said.keep:
            self._forget(old)
            old = None
        session = old or _Session(said.client_id, said.keep, 0)
        session.inflight_limit = said.receive_maximum or self.limits.inflight or LAST_MID
        session.client = client
        self._sessions[said.client_id] = session
        return session

    def opened(self, client: _Client) -> None:
        self._clients[client] = None

    def left(self, client: _Client) -> None:
        self._clients.pop(client, None)

    def detached(self, session: _Session) -> None:
        session.client = None
        if not session.keep:
            self._forget(session)

    def subscribe(self, session: _Session, filters: tuple[str, ...]) -> None:
        for text in filters:
            session.filters[text] = levels = tuple(text.split("/"))
            for topic, payload in self._retained.items():
                if _fits(levels, topic.split("/")):
                    self._give(session, _Message(topic, payload, retain=True))
        self._subscribers.clear()

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> bool:
        """Hand a message to everybody who subscribed; False when nobody did."""
        if retain and payload:
            self._retained[topic] = payload
        elif retain:
            self._retained.pop(topic, None)
        sessions = self._subscribers.get(topic)
        if sessions is None:
            if len(self._subscribers) >= CACHED_TOPICS:
                self._subscribers.clear()
            sessions = self._subscribers[topic] = list(self._who_wants(topic.split("/")))
        for session in sessions:
            message = _Message(topic, payload, retain=False)
            self._give(session, message)
            # Only who has a session is one to whom things come again: the depot.
            if session.keep and self._happens(self.duplicate_permille):
                self._give(session, message)
        return bool(sessions)

    def loses_puback(self, session: _Session) -> bool:
        return not session.keep and self._happens(self.lose_puback_permille)

    def _who_wants(self, topic: list[str]) -> Iterator[_Session]:
        for session in self._sessions.values():
            if any(_fits(levels, topic) for levels in session.filters.values()):
                yield session

    def _give(self, session: _Session, message: _Message) -> None:
        if session.client is not None and len(session.inflight) < session.inflight_limit:
            session.client.deliver(session, message)
        elif not self.limits.queued or len(session.queue) < self.limits.queued:
            session.queue.append(message)
        else:
            self.dropped += 1

    def _forget(self, session: _Session) -> None:
        del self._sessions[session.client_id]
        self._subscribers.clear()

    def _happens(self, permille: int) -> bool:
        return permille > 0 and self._rng.randrange(1000) < permille


class _Client:
    """The broker's end of one connection."""

    def __init__(self, broker: MemoryBroker, link: Link) -> None:
        self._broker = broker
        self._link = link
        self._session: _Session | None = None
        self._five = False
        self._will: m.Will | None = None
        self._patience_s = 0.0
        self._heard_at = broker.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        link.up.take = self.take
        broker.opened(self)

    def take(self, packet: m.Packet) -> None:
        self._heard_at = self._broker.loop.time()
        match packet:
            case m.Publish():
                self._publish(packet)
            case m.Puback(mid):
                self._confirmed(mid)
            case m.Ping():
                self._link.down.send(m.Pong())
            case m.Connect():
                self._connect(packet)
            case m.Subscribe(filters):
                if self._session is not None:
                    self._link.down.send(m.Suback())
                    self._broker.subscribe(self._session, filters)
            case m.Disconnect():
                self._will = None
                self._gone()
            case m.Closed():
                self._gone()

    def deliver(self, session: _Session, message: _Message) -> None:
        mid = session.next_mid()
        session.inflight[mid] = message
        self._send(mid, message)

    def end(self, code: int) -> None:
        """End the connection from this side, saying why as far as the version has words for it."""
        if self._five:
            self._link.down.send(m.Disconnect(code))
        self._gone()

    def _connect(self, said: m.Connect) -> None:
        limits = self._broker.limits
        if said.version not in limits.versions:
            self._link.down.send(m.Connack(m.UNSUPPORTED_VERSION, None))
            self._gone()
            return
        self._five = said.version == m.MQTT_5
        self._will = said.will
        self._session = session = self._broker.joined(self, said)
        self._link.down.send(m.Connack(m.OK, limits.packet_bytes or None if self._five else None))
        for mid, message in session.inflight.items():
            self._send(mid, message)
        self._refill(session)
        if said.keepalive_s:
            self._patience_s = said.keepalive_s * KEEPALIVE_GRACE
            self._timer = self._broker.loop.call_later(self._patience_s, self._listen)

    def _publish(self, packet: m.Publish) -> None:
        if self._session is None:
            return
        limits = self._broker.limits
        size = len(packet.topic) + len(packet.payload)
        if limits.packet_bytes and size + m.PUBLISH_BYTES > limits.packet_bytes:
            self.end(m.TOO_LARGE)
            return
        if limits.message_bytes and len(packet.payload) > limits.message_bytes:
            code = m.TOO_LARGE
        else:
            wanted = self._broker.publish(packet.topic, packet.payload, retain=packet.retain)
            code = m.OK if wanted else m.NO_SUBSCRIBER
        if not self._broker.loses_puback(self._session):
            # In 3.1.1 a PUBACK has no room for a code: what was dropped looks as if it were taken.
            self._link.down.send(m.Puback(packet.mid, code if self._five else m.OK))

    def _confirmed(self, mid: int) -> None:
        session = self._session
        if session is not None and session.inflight.pop(mid, None) is not None:
            self._refill(session)

    def _refill(self, session: _Session) -> None:
        while session.queue and len(session.inflight) < session.inflight_limit:
            self.deliver(session, session.queue.popleft())

    def _send(self, mid: int, message: _Message) -> None:
        self._link.down.send(m.Publish(mid, message.topic, message.payload, message.retain))

    def _listen(self) -> None:
        """End the connection of a client that was silent for too long."""
        silent_s = self._broker.loop.time() - self._heard_at
        if silent_s >= self._patience_s:
            self._gone()
        else:
            self._timer = self._broker.loop.call_later(self._patience_s - silent_s + 0.001, self._listen)

    def _gone(self) -> None:
        self._broker.left(self)
        self._link.close_broker()
        if self._timer is not None:
            self._timer.cancel()
        session, self._session = self._session, None
        if session is None:
            return
        self._broker.detached(session)
        if self._will is not None:
            self._broker.publish(self._will.topic, self._will.payload, retain=True)


def _fits(levels: tuple[str, ...], topic: list[str]) -> bool:
    """Whether a topic, split at its slashes, is one of those that a filter names."""
    if levels[-1] == "#":
        levels = levels[:-1]
        topic = topic[: len(levels)]
    return len(levels) == len(topic) and all(
        level in ("+", there) for level, there in zip(levels, topic, strict=True)
    )
