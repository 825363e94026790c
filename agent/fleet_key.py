"""The fleet's key that records are sealed to: the configured one, until a signed word names a later one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from agent import durable
from agent.core.catalogue import FLEET_KEY_CHANGED
from agent.core.orders import NewFleetKey
from agent.core.records import Record

log = structlog.get_logger()

FILE = "fleet-key.json"


class FleetKey:
    """Which key counts. ``configured`` is that of the configuration, None for none, with its generation."""

    def __init__(self, file: Path, configured: bytes | None, generation: int) -> None:
        self._file = file
        self.key, self.generation = configured, generation if configured is not None else 0
        try:
            said = json.loads(file.read_text())
            later, key = int(said["generation"]), bytes.fromhex(said["key"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("fleet_key.unreadable", path=str(file), error=str(error), effect="as configured")
            return
        if later > self.generation and len(key) == 32:
            self.key, self.generation = key, later

    def change(
        self, order: NewFleetKey, reseal: Callable[[bytes, int], Any], note: Callable[[Record], None]
    ) -> None:
        """Seal to another key from now on, once it is kept; an older generation changes nothing."""
        if order.generation <= self.generation:
            return  # retained: it comes at each connection
        text = json.dumps({"generation": order.generation, "key": order.key.hex()})
        try:
            durable.replace(self._file, text)
        except OSError as error:
            log.error("fleet_key.not_kept", error=error.strerror, effect="the key in use stays")
            return
        self.key, self.generation = order.key, order.generation
        reseal(order.key, order.generation)
        digest = hashlib.sha256(order.key).hexdigest()[:16]
        note(FLEET_KEY_CHANGED.make(order.at, generation=order.generation, key=digest))
