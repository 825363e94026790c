"""A client's connections to the virtual broker, as ``sync.mqtt.MqttTransport`` has them to a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from simulator.virtual import mqtt_packets as m
from simulator.virtual.network import Link, Network

# As in sync.mqtt_connection.
ANSWER_S = 3.0
RECEIVE_MAXIMUM = 128
PACKET_OVERHEAD = 512  # bytes
TICK_S = 0.001  # ours: no timer of the keep-alive is shorter

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Words(Generic[E]):
    """How events are made: the classes of sync.mqtt_types."""

    up: Callable[[str, int | None], E]
    down: Callable[[str], E]
    confirmed: Callable[[int, int], E]
    received: Callable[[str, bytes, int, int, bool], E]


class Endpoint(Protocol):
    """What is used of sync.mqtt_types.Endpoint."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def client_id(self) -> str: ...
    @property
    def keepalive_s(self) -> int: ...
    @property
    def connect_timeout_s(self) -> float: ...
    @property
    def versions(self) -> tuple[str, ...]: ...


class Message(Protocol):
    """What is used of sync.mqtt_types.Received."""

    @property
    def mid(self) -> int: ...
    @property
    def connection(self) -> int: ...


class MemoryTransport(Generic[E]):
    """Same calls, same events, same order; no thread, so that nothing is ever dropped on this side."""

    def __init__(
        self,
        network: Network,
        words: Words[E],
        endpoint: Endpoint,
        subscriptions: Sequence[str],
        deliver: Callable[[E], None],
        loop: asyncio.AbstractEventLoop,
        *,
        persistent: bool = False,
        manual_ack: bool = False,
    ) -> None:
        self.dropped = 0
        self._network = network
        self._words = words
        self._endpoint = endpoint
        self._where = f"{endpoint.host}:{endpoint.port}"
        self._subscriptions = tuple(subscriptions)
        self._deliver = deliver
        self._loop = loop
        self._persistent = persistent
        self._manual_ack = manual_ack
        self._learnt = 0  # index of the version that the broker speaks, since it refused those before
        self._number = 0  # of the connection
        self._index = 0  # of the version that is being tried
        self._will: m.Will | None = None
        self._link: Link | None = None
        self._up = False
        self._packet_bytes: int | None = None
        self._tokens: dict[int, int] = {}
        self._mid = 0
        self._trying: asyncio.TimerHandle | None = None  # dialling, or waiting for the CONNACK
        self._beating: asyncio.TimerHandle | None = None
        self._sent_at = self._heard_at = 0.0
        self._pinged = False
        self._ending = ""  # what the broker said when it ended the connection
        self._closed = False

    # --- calls --------------------------------------------------------------------------------------

    def connect(self, will: m.Will | None = None) -> None:
        """Give up the present connection, if any, and begin another; ``up`` or ``down`` follows."""
        self.abandon()
        if not self._closed:
            self._number += 1
            self._will = will
            self._dial(self._learnt)

    def publish(self, token: int, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send with QoS 1; ``confirmed(token)`` follows, unless the connection ends before."""
        if self._up:
            self._mid = self._mid % 65_535 + 1
            self._tokens[self._mid] = token
            self._send(m.Publish(self._mid, topic, payload, retain))

    def confirm(self, message: Message) -> None:
        """Send the PUBACK of a message received with ``manual_ack``."""
        if message.connection == self._number and self._link is not None:
            self._send(m.Puback(message.mid, m.OK))

    def abandon(self) -> None:
        """End the connection as a cut would: nothing of it is reported, the broker publishes the will."""
        link = self._let_go()
        if link is not None:
            link.close_client()

    async def close(self, timeout_s: float) -> bool:
        """Say goodbye to the broker."""
        self._closed = True
        if self._up:
            self._send(m.Disconnect(m.OK))
        self.abandon()
        return True

    def kill(self) -> None:
        """End as the process that it was in: no goodbye, and no connection any more."""
        self._closed = True
        self.abandon()
        self._deliver(self._words.down("killed"))

    # --- connecting ---------------------------------------------------------------------------------

    def _dial(self, index: int) -> None:
        self._index = index
        self._trying = self._network.dial(
            self._loop, self._take, self._opened, self._unreachable, self._endpoint.connect_timeout_s
        )

    def _unreachable(self, why: str) -> None:
        self._end(f"cannot connect to {self._where}: {why}")

    def _opened(self, link: Link) -> None:
        self._link = link
        self._ending = ""
        self._pinged = False
        self._heard_at = self._loop.time()
        version = self._endpoint.versions[self._index]
        self._send(
            m.Connect(
                self._endpoint.client_id,
                version,
                self._persistent,
                self._endpoint.keepalive_s,
                self._will,
                RECEIVE_MAXIMUM if self._persistent and version == m.MQTT_5 else None,
            )
        )
        self._trying = self._loop.call_later(ANSWER_S, self._unanswered)

    def _unanswered(self) -> None:
        self._next_version(f"{self._where} takes connections and gives no answer", said_so=False)

    def _next_version(self, detail: str, *, said_so: bool) -> None:
        self.abandon()
        index = self._index + 1
        if index == len(self._endpoint.versions):
            self._learnt = 0
            self._end(detail)
            return
        if said_so:
            self._learnt = index
        self._dial(index)

    def _connack(self, packet: m.Connack) -> None:
        if self._trying is not None:
            self._trying.cancel()
        if packet.code == m.UNSUPPORTED_VERSION:
            self._next_version(
                "the broker refuses the connection: Unsupported protocol version", said_so=True
            )
            return
        self._packet_bytes = packet.packet_bytes
        if self._endpoint.keepalive_s:
            self._beat()
        if self._subscriptions:
            self._send(m.Subscribe(self._subscriptions))
        else:
            self._ready()

    def _ready(self) -> None:
        self._up = True
        largest = None if self._packet_bytes is None else self._packet_bytes - PACKET_OVERHEAD
        self._deliver(self._words.up(self._endpoint.versions[self._index], largest))

    # --- the connection -----------------------------------------------------------------------------

    def _take(self, packet: m.Packet) -> None:
        self._heard_at = self._loop.time()
        match packet:
            case m.Puback(_, m.TOO_LARGE):
                # Mosquitto sends this code although it is none of a PUBACK's, and paho 2.2 hangs up.
                self._end(f"connection to {self._where} lost")
            case m.Puback(mid, code):
                if mid in self._tokens:
                    self._deliver(self._words.confirmed(self._tokens.pop(mid), code))
            case m.Publish(mid, topic, payload, retain):
                if not self._manual_ack:
                    self._send(m.Puback(mid, m.OK))
                self._deliver(self._words.received(topic, payload, mid, self._number, retain))
            case m.Pong():
                self._pinged = False
            case m.Connack():
                self._connack(packet)
            case m.Suback():
                self._ready()
            case m.Disconnect(code):
                self._ending = f"the broker ended the connection: {code:#x}"
            case m.Closed():
                self._end(self._ending or f"connection to {self._where} lost")

    def _send(self, packet: m.Packet) -> None:
        if self._link is not None:
            self._sent_at = self._loop.time()
            self._link.up.send(packet)

    def _beat(self) -> None:
        """Ping when one direction was silent for a keep-alive; give up when the last ping had no answer."""
        keepalive_s = self._endpoint.keepalive_s
        now = self._loop.time()
        left_s = min(self._sent_at, self._heard_at) + keepalive_s - now
        if left_s < TICK_S:
            if self._pinged:
                self._end(f"connection to {self._where} lost")
                return
            self._pinged = True
            self._send(m.Ping())
            self._heard_at, left_s = now, float(keepalive_s)
        self._beating = self._loop.call_later(left_s, self._beat)

    def _let_go(self) -> Link | None:
        link, self._link = self._link, None
        self._up = False
        self._tokens.clear()
        for timer in (self._trying, self._beating):
            if timer is not None:
                timer.cancel()
        self._trying = self._beating = None
        return link

    def _end(self, detail: str) -> None:
        self.abandon()
        self._deliver(self._words.down(detail))
