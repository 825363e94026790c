"""What the control room sends to one tablet, once its signature was found good. Times are boot ns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from agent.core.types import BootNs


@dataclass(frozen=True, slots=True)
class Command:
    """To be done once. ``level`` is that of "log-level", ``paper`` the document that "permit" brings."""

    at: BootNs
    id: str
    number: int
    verb: str
    level: str = ""
    paper: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A desired configuration of generation ``number``, to be tried for ``trial_s``."""

    at: BootNs
    number: int
    trial_s: int
    toml: str


@dataclass(frozen=True, slots=True)
class NewFleetKey:
    """Seal to this X25519 key, 32 bytes, from now on, if its generation is greater."""

    at: BootNs
    generation: int
    key: bytes


@dataclass(frozen=True, slots=True)
class OrderRefused:
    """Something came that is not obeyed; ``reason`` is a stable word."""

    at: BootNs
    what: str  # "command", "desired", "fleet-key"
    reason: str
    detail: str


Order: TypeAlias = Command | Wanted | NewFleetKey | OrderRefused
