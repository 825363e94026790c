"""MQTT packets as values: what client and broker of the virtual world say to each other."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

MQTT_5 = "5.0"
# Reason codes of MQTT 5.0, 2.4; those from REFUSED on say that it failed.
OK, NO_SUBSCRIBER, REFUSED = 0x00, 0x10, 0x80
UNSUPPORTED_VERSION, SHUTTING_DOWN, TAKEN_OVER, TOO_LARGE = 0x84, 0x8B, 0x8E, 0x95
# Bytes of a PUBLISH besides topic and payload: two lengths, no properties, its fixed header (5.0, 3.3).
PUBLISH_BYTES = 10


class Will(Protocol):
    """What the broker publishes, retained, when a connection ends without a word."""

    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...


class Connect(NamedTuple):
    """``keep``: the session outlives the connection. ``receive_maximum``: None is without limit."""

    client_id: str
    version: str
    keep: bool
    keepalive_s: int
    will: Will | None
    receive_maximum: int | None


class Connack(NamedTuple):
    code: int
    packet_bytes: int | None


class Subscribe(NamedTuple):
    filters: tuple[str, ...]


class Suback(NamedTuple):
    pass


class Publish(NamedTuple):
    """Always QoS 1."""

    mid: int
    topic: str
    payload: bytes
    retain: bool


class Puback(NamedTuple):
    mid: int
    code: int


class Ping(NamedTuple):
    pass


class Pong(NamedTuple):
    pass


class Disconnect(NamedTuple):
    """From the client: goodbye, without a will. From the broker: why it ends the connection."""

    code: int


class Closed(NamedTuple):
    """Not a packet: the other end has closed the connection, or it was reset."""


Packet: TypeAlias = (
    Connect | Connack | Subscribe | Suback | Publish | Puback | Ping | Pong | Disconnect | Closed
)  # fmt: skip
CLOSED, RESET = Closed(), Closed()
