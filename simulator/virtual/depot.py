"""The depot as a process in the virtual world, and its database, which outlives it.

Conforms to ``simulator.faults.knobs.DepotKnobs``. The process is the production depot, which a composition
root passes in; the database is SQLite's, in memory.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from simulator.virtual.transport import E, MemoryTransport

VFS = "memdb"  # SQLite's own file system in memory, shared by name within a process
_names = count(1)


class Process(Protocol):
    """A running depot."""

    def kill(self) -> None:
        """End it between two of its callbacks; it does nothing any more."""
        ...


class MemoryDepot:
    """``start`` runs a depot, on ``loop``, on the database at ``path`` of the file system ``VFS``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        start: Callable[[MemoryDepot], Process],
    ) -> None:
        self.path = Path(f"/depot-{next(_names)}.db")
        self.lose_ack_permille = 0
        self._loop = loop
        self._rng = rng
        self._start_process = start
        self._silent = False
        self._process: Process | None = None
        # Keeps the database while no process has it open; reads for who looks from outside.
        self._db = sqlite3.connect(f"file:{self.path}?vfs={VFS}", uri=True, isolation_level=None)
        self._copy: sqlite3.Connection | None = None
        self._start()

    # --- knobs --------------------------------------------------------------------------------------

    @property
    def silent(self) -> bool:
        """The process is gone. What comes for it waits at the broker, and in the database nothing changes."""
        return self._silent

    @silent.setter
    def silent(self, on: bool) -> None:
        self._silent = on
        if on:
            self._kill()
        else:
            self._start()

    def back_up(self) -> None:
        """Keep a copy of the database, in place of the copy before."""
        if self._copy is None:
            self._copy = sqlite3.connect(":memory:")
        self._db.backup(self._copy)

    def restore(self) -> None:
        """Put the copy in the database's place, as an operator does: with the process stopped."""
        if self._copy is None:
            return
        self._kill()
        self._copy.backup(self._db)
        self._start()

    # --- for the world ------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._process is not None

    def restart(self) -> None:
        """Kill the process at this instant and start another."""
        self._kill()
        self._start()

    def rows(self, sql: str, *values: object) -> list[Any]:
        """Ask the database."""
        return self._db.execute(sql, values).fetchall()

    def loses_ack(self) -> bool:
        return self.lose_ack_permille > 0 and self._rng.randrange(1000) < self.lose_ack_permille

    def close(self) -> None:
        """Kill the process and let the database go."""
        self._silent = True
        self._kill()
        self._db.close()
        if self._copy is not None:
            self._copy.close()

    def _start(self) -> None:
        self._loop.call_later(0.0, self._begin)

    def _begin(self) -> None:
        if self._process is None and not self._silent:
            self._process = self._start_process(self)

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()


class AckLosingTransport(MemoryTransport[E]):
    """The depot's transport: what it publishes are acks, and some of them are lost."""

    def __init__(self, depot: MemoryDepot, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._depot = depot

    def publish(self, token: int, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if not self._depot.loses_ack():
            super().publish(token, topic, payload, retain=retain)
