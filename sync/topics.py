"""The topics of the protocol: ``ivma/1/<fleet>/<device>/...``. docs/queue-and-sync.md lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.core.records import Stream
from sync.errors import LocalProtocolError, RemoteProtocolError

PREFIX = "ivma/1"
ONLINE, SLEEPING, SHUTTING_DOWN, LOST = "online", "sleeping", "shutting_down", "lost"
# One level of a topic and one file name: no wildcard, no separator, no leading dot.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_STREAMS = {stream.value: stream for stream in Stream}

ALL_BATCHES = f"{PREFIX}/+/+/up/+"
ALL_PRESENCE = f"{PREFIX}/+/+/presence"
ALL_REPORTED = f"{PREFIX}/+/+/reported"
PRESENCE, REPORTED = "presence", "reported"  # what a tablet publishes beside its streams


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one tablet.

    Raises:
        LocalProtocolError: a name that cannot be a level of a topic.
    """

    fleet: str
    device: str

    def __post_init__(self) -> None:
        for name in (self.fleet, self.device):
            if not _NAME.fullmatch(name):
                raise LocalProtocolError(
                    f"{name!r} cannot be part of a topic: up to 64 letters, digits, '.', '_' and '-'"
                )

    @property
    def base(self) -> str:
        return f"{PREFIX}/{self.fleet}/{self.device}"

    @property
    def presence(self) -> str:
        return f"{self.base}/presence"

    @property
    def ack(self) -> str:
        return f"{self.base}/ack"

    @property
    def command(self) -> str:
        return f"{self.base}/command"

    @property
    def desired(self) -> str:
        return f"{self.base}/desired"

    @property
    def fleet_key(self) -> str:
        return f"{self.base}/fleet-key"

    @property
    def reported(self) -> str:
        return f"{self.base}/reported"

    def up(self, stream: Stream) -> str:
        return f"{self.base}/up/{stream.value}"


def parse(topic: str) -> tuple[Topics, Stream | str]:
    """Whose topic it is, and of which stream, or ``PRESENCE`` or ``REPORTED``.

    Raises:
        RemoteProtocolError: ``topic``: none of those that tablets publish on.
    """
    stream: Stream | str
    match topic.split("/"):
        case ["ivma", "1", fleet, device, "presence" | "reported" as stream]:
            pass
        case ["ivma", "1", fleet, device, "up", name] if name in _STREAMS:
            stream = _STREAMS[name]
        case _:
            raise RemoteProtocolError("topic", f"{topic[:200]!r} is not a tablet's")
    try:
        return Topics(fleet, device), stream
    except LocalProtocolError as error:
        raise RemoteProtocolError("topic", str(error)) from error
