"""One hash over all that happened: the same seed and the same acts give the same one, everywhere."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeAlias

import msgspec

from agent.core.records import Record
from agent.core.types import BootNs, Effect, Observation, Write

# An observation's name, and a function to its values in their order: a third of the bytes of a map.
_Reader: TypeAlias = tuple[str, Callable[[Observation], object]]
FULL = 1 << 16  # bytes that are collected before they are hashed


class History:
    """SHA-256 over observations, effects, bytes on the wires, and whatever else is noted, in their order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        self._encode = msgspec.msgpack.Encoder().encode
        self._readers: dict[type[Observation], _Reader] = {}
        self._crc = 0

    def step(self, at: BootNs, observation: Observation, effects: Iterable[Effect]) -> None:
        """The agent took an observation in, and this is what it wanted done."""
        kind = type(observation)
        name, read = self._readers.get(kind) or self._reader(kind)
        self._pending += self._encode((at, name, read(observation), self._crc))
        if len(self._pending) > FULL:
            self._flush()
        for effect in effects:
            if isinstance(effect, Write):
                self.note(at, "record", *plain(effect.record))
            else:
                self.note(at, type(effect).__name__, effect)

    def wire(self, data: bytes) -> None:
        """Bytes on a wire: in the hash with the next step."""
        self._crc = zlib.crc32(data, self._crc)

    def note(self, *what: Any) -> None:
        """Anything that msgpack knows how to write."""
        self._pending += self._encode(what)
        if len(self._pending) > FULL:
            self._flush()

    def _flush(self) -> None:
        self._hash.update(self._pending)
        self._pending.clear()

    def _reader(self, kind: type[Observation]) -> _Reader:
        reader = kind.__name__, attrgetter(*(field.name for field in fields(kind)))
        self._readers[kind] = reader
        return reader

    def digest(self) -> str:
        """Of all so far, in hex."""
        now = self._hash.copy()
        now.update(self._pending)
        now.update(self._crc.to_bytes(4))
        return now.hexdigest()


def plain(record: Record) -> tuple[Any, ...]:
    return record.kind.name, record.at, record.body


class ToldHistory(History):
    """Tells each entry as a line of JSON too, so that a person can see where two histories differ first."""

    def __init__(self, tell: Callable[[bytes], object]) -> None:
        super().__init__()
        self._tell = tell
        self._lines = msgspec.json.Encoder()

    def step(self, at: BootNs, observation: Observation, effects: Iterable[Effect]) -> None:
        self._tell(self._lines.encode((at, type(observation).__name__, observation, self._crc)) + b"\n")
        super().step(at, observation, effects)

    def note(self, *what: Any) -> None:
        self._tell(self._lines.encode(what) + b"\n")
        super().note(*what)
