"""The fleet's key that records are sealed to: the configured one, until a signed word names a later one."""

from __future__ import annotations

import asyncio
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
        self._writing = False
        self._asked = 0  # the generation that is on its way to the disk, or waits to be
        self._next: NewFleetKey | None = None
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
        """Seal to another key from now on, once it is kept; an older generation changes nothing.

        For the loop, which does not wait for the disk: the newest order that came meanwhile is next.
        """
        if order.generation <= max(self.generation, self._asked):
            return  # retained: it comes at each connection
        self._asked = order.generation
        if self._writing:
            self._next = order
            return
        self._writing = True
        text = json.dumps({"generation": order.generation, "key": order.key.hex()})

        def kept(done: asyncio.Future[None]) -> None:
            self._writing = False
            if done.cancelled():
                return
            if error := done.exception():
                log.error("fleet_key.not_kept", error=str(error), effect="the key in use stays")
            else:
                self.key, self.generation = order.key, order.generation
                reseal(order.key, order.generation)
                digest = hashlib.sha256(order.key).hexdigest()[:16]
                note(FLEET_KEY_CHANGED.make(order.at, generation=order.generation, key=digest))
            self._asked = 0
            if (following := self._next) is not None:
                self._next = None
                self.change(following, reseal, note)

        durable.aside(lambda: durable.replace(self._file, text)).add_done_callback(kept)
