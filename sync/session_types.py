"""What goes into the session and what comes out of it: events, actions and limits."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from agent.core.records import Stream
from agent.core.types import BootNs
from sync.reasons import Ending

REFUSED = 0x80  # MQTT 5.0, 2.4: reason codes from here on say that it failed
BULK = Stream.TELEMETRY  # what waits while power is shed or a byte budget is used up


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a session; all values are ours unless a source is named."""

    window: int = 20  # batches that wait for a PUBACK; 1,000 halved paho's rate (design, performance)
    reserved: int = 4  # places of the window that bulk leaves free, so that an alarm never queues
    beyond: int = 64  # batches a stream may be ahead of the depot's ack, which bounds the broker's queue
    batch_bytes: int = 65_536
    connect_s: int = 30
    puback_s: int = 30  # a broker that is silent for longer is a half-open connection
    ack_s: int = 30  # doubled at each try without progress
    refused_s: int = 60  # pause of a stream whose single block is refused; doubled like ack_s
    retry_cap_s: int = 3600
    ended_after: int = 3  # connections running that end under one lone block before that is its fault
    grow_after: int = 128  # acks after a batch ended its connection, until larger ones are tried
    stuck_after: int = 3  # tries without progress before it is reported
    backoff_s: int = 2
    backoff_cap_s: int = 300


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a stream stands when the session starts: newest committed, newest acknowledged."""

    head: int
    acked: int


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """Connected and subscribed. ``batch_bytes`` is the largest batch the broker takes, if it said.

    ``notice``: what people should do before there is no connection any more; empty if nothing.
    """

    batch_bytes: int | None = None
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Disconnected:
    detail: str
    ending: Ending = Ending.NETWORK


@dataclass(frozen=True, slots=True)
class Puback:
    token: int
    code: int = 0


@dataclass(frozen=True, slots=True)
class DataAvailable:
    """The stream's newest committed sequence number."""

    stream: Stream
    head: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to ``Fetch``: blocks up to ``last``; ``blocks`` 0 when there is nothing."""

    token: int
    last: int
    blocks: int
    size: int


@dataclass(frozen=True, slots=True)
class FetchFailed:
    token: int


@dataclass(frozen=True, slots=True)
class DepotAck:
    """An ack whose signature was verified. ``again``: the depot wants what follows ``seq`` again."""

    stream: Stream
    seq: int
    chain_hash: bytes
    again: bool = False


@dataclass(frozen=True, slots=True)
class AckSettled:
    """The answer to ``AckToStore``: whether the hash is that of our own chain; None: it could not say."""

    stream: Stream
    seq: int
    ok: bool | None


@dataclass(frozen=True, slots=True)
class Announced:
    """Presence to publish now and after each connect: "online", "sleeping", "shutting_down"."""

    what: str


@dataclass(frozen=True, slots=True)
class Shedding:
    on: bool


@dataclass(frozen=True, slots=True)
class BudgetSet:
    """Bytes that bulk may still use (a metered link's allowance); ``None`` is without limit."""

    left: int | None


@dataclass(frozen=True, slots=True)
class DrainAsked:
    until: BootNs


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that ``next_deadline`` named has come."""


Event: TypeAlias = (
    Connected | Disconnected | Puback | DataAvailable | Fetched | FetchFailed | DepotAck | AckSettled
    | Announced | Shedding | BudgetSet | DrainAsked | Tick
)  # fmt: skip


# --- actions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connect:
    pass


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Give the connection up; nothing of it is reported any more."""

    why: str


@dataclass(frozen=True, slots=True)
class Present:
    """Publish presence ``what`` with the signed heads of all streams."""

    token: int
    what: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read blocks after ``after``, at most ``max_bytes`` but at least one."""

    token: int
    stream: Stream
    after: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish the batch that was fetched for ``token``."""

    token: int
    stream: Stream


@dataclass(frozen=True, slots=True)
class AckToStore:
    """Let rows up to ``seq`` go if ``chain_hash`` is ours."""

    stream: Stream
    seq: int
    chain_hash: bytes


@dataclass(frozen=True, slots=True)
class DrainDone:
    """``pending`` records are not acknowledged by the depot."""

    pending: int


class Trouble(enum.Enum):
    REFUSED = "refused"  # the broker refused a batch
    FULL = "full"  # the broker has no room for a batch
    FORBIDDEN = "forbidden"  # the broker does not take who we are, or our certificate is unusable
    UNTRUSTED = "untrusted"  # the broker does not prove who it is
    TAKEN_OVER = "taken_over"  # somebody else connected under our name
    EXPIRES = "expires"  # our certificate, soon
    STUCK = "stuck"  # the depot does not acknowledge although the broker took the batches
    MISMATCH = "mismatch"  # the depot acknowledged a chain that is not ours: an alarm
    AHEAD = "ahead"  # the depot acknowledged what we never had: a store lost or swapped; an alarm


@dataclass(frozen=True, slots=True)
class Report:
    """Something that people should see; said once a cycle. ``stream`` None is the connection."""

    trouble: Trouble
    stream: Stream | None
    detail: str

    @property
    def where(self) -> str:
        """The stream's name; empty for the connection."""
        return "" if self.stream is None else self.stream.value


Action: TypeAlias = Connect | Disconnect | Present | Fetch | Publish | AckToStore | DrainDone | Report
