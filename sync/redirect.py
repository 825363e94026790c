"""Where to connect when a broker sends us to another one (MQTT 5.0, 4.11)."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from sync.mqtt_types import Endpoint

HOPS = 3  # ours: in one try; brokers that send us round in a circle are left alone until the next one
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Ended(Protocol):
    """What is looked at of a connection that has ended."""

    accepted: bool
    elsewhere: str | None
    for_good: bool


class Redirect:
    """Follows server references from ``home``, the endpoint of the configuration.

    A broker that moved for good is remembered until it fails; "use another server" holds for one try. With
    mutual TLS the other broker must prove its name under our authority like the first; without TLS, which
    is for loopback only, nobody is followed off this machine.
    """

    def __init__(self, home: Endpoint) -> None:
        self._home = home
        self._moved: Endpoint | None = None
        self._next: Endpoint | None = None
        self._refused = ""

    def begin(self, hop: int) -> Endpoint:
        """The endpoint to use now; ``hop`` 0 begins a new try."""
        self._refused = ""
        if hop == 0:
            self._next = None
        return self._next or self._moved or self._home

    def follows(self, ended: Ended, tried: Endpoint) -> bool:
        """Whether to connect elsewhere at once, after ``ended`` at ``tried``."""
        self._next = None
        if ended.elsewhere is None:
            if not ended.accepted and tried == self._moved:
                self._moved = None
                return True  # it was a good address once: home knows more
            return False
        target = self._target(ended.elsewhere)
        if target is None or target == tried:
            return False
        self._next = target
        if ended.for_good:
            self._moved = target
        return True

    def explained(self, detail: str) -> str:
        """``detail``, with the reason why a reference was not followed."""
        return detail + self._refused

    def _target(self, reference: str) -> Endpoint | None:
        """The first server of a reference: ``host`` or ``host:port``, IPv6 in brackets."""
        first = reference.split()[0] if reference.split() else ""
        host, port = first, str(self._home.port)
        if first.startswith("["):
            host, _, rest = first[1:].partition("]")
            port = rest.removeprefix(":") or port
        elif first.count(":") == 1:
            host, _, port = first.partition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            self._refused = f"; it names no server that can be used: {reference[:80]!r}"
            return None
        if self._home.tls is None and host not in LOOPBACK:
            self._refused = f"; not followed to {host} without TLS"
            return None
        return dataclasses.replace(self._home, host=host, port=int(port))
