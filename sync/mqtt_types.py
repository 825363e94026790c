"""What goes into the MQTT transport and what comes out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from sync.blocks import Stamp
from sync.clock import SystemClock
from sync.reasons import Ending

MQTT_5, MQTT_3_1_1 = "5.0", "3.1.1"


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of mutual TLS, and the clock that dates are held against: see sync.tls."""

    ca: Path
    cert: Path
    key: Path
    clock: Callable[[], Stamp] = field(default_factory=SystemClock, compare=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker, and who we are to it. ``versions`` are tried in order."""

    host: str
    port: int
    client_id: str
    tls: Tls | None = None
    keepalive_s: int = 60
    connect_timeout_s: float = 10.0  # ours: TCP, and each step of the TLS handshake
    versions: tuple[str, ...] = (MQTT_5, MQTT_3_1_1)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when the connection ends without a word."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Up:
    """Connected and subscribed. ``payload_bytes``: the largest payload the broker said it takes.

    ``notice``: what people should do before it stops working; empty if nothing.
    """

    version: str
    payload_bytes: int | None
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Down:
    """The connection ended or did not come about; ``detail`` is for people."""

    detail: str
    ending: Ending = Ending.NETWORK


@dataclass(frozen=True, slots=True)
class Confirmed:
    """PUBACK of what was published as ``token``; a ``code`` from 0x80 on is a refusal."""

    token: int
    code: int


@dataclass(frozen=True, slots=True)
class Received:
    """A message, possibly before ``Up`` when the broker kept it for us."""

    topic: str
    payload: bytes
    mid: int
    connection: int  # which one it came by: its PUBACK must not go to another
    retained: bool = False  # said before we subscribed


TransportEvent: TypeAlias = Up | Down | Confirmed | Received


class Transport(Protocol):
    """Connections to one broker, one after the other: see ``sync.mqtt.MqttTransport``."""

    dropped: int

    def connect(self, will: Will | None = None) -> None: ...
    def publish(self, token: int, topic: str, payload: bytes, *, retain: bool = False) -> None: ...
    def confirm(self, message: Received) -> None: ...
    def abandon(self) -> None: ...
    async def close(self, timeout_s: float) -> bool: ...


class MakeTransport(Protocol):
    """How an owner of a transport gets it."""

    def __call__(
        self,
        endpoint: Endpoint,
        subscriptions: Sequence[str],
        deliver: Callable[[TransportEvent], None],
        loop: asyncio.AbstractEventLoop,
        *,
        persistent: bool = False,
        manual_ack: bool = False,
    ) -> Transport: ...
