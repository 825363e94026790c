"""The format of the black box: entries in chunks, each chunk whole or not there. docs/operating.md.

A chunk is a magic with the version, the length and CRC-32 of its body, and the body: one zstd frame of a
msgpack array of entries. An entry is an array that begins with its tag. Observations, effects, policy and
state stand in it by the names of their classes and fields, so that another version can read it too.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec
import zstandard

from agent.core import types
from agent.core.policy import Policy
from agent.core.state import State
from agent.core.types import BootNs, CanSignal, Effects, Observation, SignalKind, Write

FORMAT = 1
MAGIC = b"IVT" + bytes([FORMAT])
SUFFIX = ".trace"
BODY_MAX = 4 << 20  # bytes of a chunk as stored; ours, many times what a recorder hands over
PLAIN_MAX = 16 << 20  # bytes of a chunk when decompressed; ours
FILE_MAX = 1 << 30  # bytes that are read as one file; the greatest ring
_FRAME = struct.Struct("<4sII")  # magic, length of the body, its CRC-32
_ARRAY32 = b"\xdd"  # msgpack: an array whose length follows in four bytes, big-endian

_T = TypeVar("_T")


class TraceError(ValueError):
    """A trace that cannot be used, or that this version does not understand; the text says what to do."""


class _Entry(msgspec.Struct, array_like=True, frozen=True):
    """An array: the tag, then the fields in order; fields added later come last, with a default."""


class Head(_Entry, tag="head", frozen=True):
    """Here one can begin to read: a run of the agent begins, or a segment does.

    ``state`` is the core's before the next step; None: before ``Started``. ``wall_ns`` is for people.
    """

    identity: dict[str, str]
    at: int
    wall_ns: int
    policy: Any
    state: Any = None


class Policed(_Entry, tag="policy", frozen=True):
    """Another policy is in force from here on."""

    policy: Any


class Step(_Entry, tag="step", frozen=True):
    """One step of the core: the observation by its class's name, and the effects likewise, in order."""

    kind: str
    observation: Any
    effects: list[tuple[str, Any]]


class Wire(_Entry, tag="wire", frozen=True):
    """One call of a dock's session, as drivers/tapped.py names it: what went in, or came out."""

    dock: str
    act: str
    at: int
    what: Any = None


class Gap(_Entry, tag="gap", frozen=True):
    """So many entries are missing here: they could not be kept, or not be written."""

    lost: int


Entry: TypeAlias = Head | Policed | Step | Wire | Gap
# What a recorder holds: a step as it was seen becomes an entry later, off the loop.
Held: TypeAlias = Entry | tuple[Observation, Effects]


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no chunk: where they begin in the file, how many, and what is wrong with the first."""

    offset: int
    size: int
    problem: str


# --- to bytes -------------------------------------------------------------------------------------

encode = msgspec.msgpack.Encoder().encode  # raises TypeError, ValueError, OverflowError


def step_entry(observation: Observation, effects: Effects) -> Step:
    """What is kept of a step: all but the road speed, which decides nothing and which no record holds."""
    if type(observation) is CanSignal and observation.kind is SignalKind.SPEED:
        observation = CanSignal(observation.at, observation.bus, observation.kind, 0)
    return Step(type(observation).__name__, observation, plain_effects(effects))


def plain_effects(effects: Effects) -> list[tuple[str, Any]]:
    """Effects by name, with fields that msgpack can hold."""
    return [(type(effect).__name__, _plain_write(effect) if isinstance(effect, Write) else effect)
            for effect in effects]  # fmt: skip


def settled(step: Step) -> Step:
    """A step as it would be read back: of plain values only."""
    return _decode_step(encode(step))


def _plain_write(write: Write) -> dict[str, Any]:
    record = write.record
    return {
        "kind": record.kind.name, "version": record.kind.version, "at": record.at, "fields": record.as_dict(),
    }  # fmt: skip


def pack(held: Sequence[Held], compress: Callable[[bytes], bytes]) -> tuple[bytes, int]:
    """A chunk, and how many entries stand in it as gaps because nothing can hold them."""
    entries, bad = [], 0
    for each in held:
        try:
            entries.append(encode(step_entry(*each) if isinstance(each, tuple) else each))
        except (TypeError, ValueError, OverflowError):  # such as text of the system that is no UTF-8
            entries.append(encode(Gap(1)))
            bad += 1
    body = compress(b"".join((_ARRAY32, len(entries).to_bytes(4, "big"), *entries)))
    return _FRAME.pack(MAGIC, len(body), zlib.crc32(body)) + body, bad


# --- from bytes -----------------------------------------------------------------------------------

decode = msgspec.msgpack.decode  # of anything that was encoded
_decode = msgspec.msgpack.Decoder(list[Entry]).decode
_decode_step = msgspec.msgpack.Decoder(Step).decode


def read(raw: bytes) -> Iterator[Entry | Damage]:
    """Every entry of every whole chunk, and what lies between chunks. Never raises on bytes."""
    at, bad_from, problem = 0, None, ""
    while at < len(raw):
        try:
            entries, end = _chunk(raw, at)
        except TraceError as error:
            if bad_from is None:
                bad_from, problem = at, str(error)
            found = raw.find(MAGIC, at + 1)
            at = len(raw) if found < 0 else found
            continue
        if bad_from is not None:
            yield Damage(bad_from, at - bad_from, problem)
            bad_from = None
        yield from entries
        at = end
    if bad_from is not None:
        yield Damage(bad_from, len(raw) - bad_from, problem)


def _chunk(raw: bytes, at: int) -> tuple[list[Entry], int]:
    if len(raw) - at < _FRAME.size:
        raise TraceError("the head of a chunk is cut short")
    magic, size, crc = _FRAME.unpack_from(raw, at)
    if magic != MAGIC:
        if magic[:3] == MAGIC[:3]:
            raise TraceError(f"a chunk of format {magic[3]}; this version reads format {FORMAT}")
        raise TraceError("no chunk begins here")
    begin, end = at + _FRAME.size, at + _FRAME.size + size
    if size > BODY_MAX:
        raise TraceError(f"a chunk of {size} bytes; {BODY_MAX} at most")
    if end > len(raw):
        raise TraceError(f"a chunk of {size} bytes ends after {len(raw) - begin}")
    body = raw[begin:end]
    if zlib.crc32(body) != crc:
        raise TraceError("the checksum of a chunk is wrong")
    try:
        # The announced size is what would be allocated: it is looked at first.
        announced = zstandard.frame_content_size(body)
        if not 0 <= announced <= PLAIN_MAX:
            raise TraceError(f"a chunk of {announced} bytes when decompressed; {PLAIN_MAX} at most")
        return _decode(zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)), end
    except (zstandard.ZstdError, msgspec.DecodeError, RecursionError, ValueError) as error:
        raise TraceError(f"a chunk that is whole but not understood: {error}") from error


def files(path: Path) -> list[Path]:
    """The files of a trace in order: the segments of a folder, or the one file that was exported.

    Raises:
        OSError: the path cannot be looked at.
        TraceError: it is not there, or a folder without segments.
    """
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix == SUFFIX)
        if found:
            return found
        raise TraceError(
            f"{path}: no segments (*{SUFFIX}); is the trace switched on, and was the agent started?"
        )
    if path.exists():
        return [path]
    raise TraceError(f"{path}: there is no trace; is it switched on, and was the agent started?")


def read_path(path: Path) -> Iterator[Entry | Damage]:
    """Every entry of a trace, in order. A segment that the ring gives up meanwhile is left out.

    Raises:
        OSError: a file cannot be read.
        TraceError: as ``files``.
    """
    for file in files(path):
        try:
            if file.stat().st_size > FILE_MAX:
                raise TraceError(f"{file}: expected a trace of at most {FILE_MAX} bytes")
            raw = file.read_bytes()
        except FileNotFoundError:
            continue
        yield from read(raw)


# --- to what the core takes -----------------------------------------------------------------------

OBSERVATIONS: dict[str, type[Observation]] = {
    name: each
    for name, each in vars(types).items()
    if isinstance(each, type) and issubclass(each, Observation) and each is not Observation
}


def observation(step: Step) -> Observation:
    """The observation of a step. Raises TraceError: a kind, or fields, that this version does not know."""
    kind = OBSERVATIONS.get(step.kind)
    if kind is None:
        raise TraceError(f"an observation {step.kind!r}, which this version does not know")
    return _convert(step.observation, kind)


def policy(entry: Head | Policed) -> Policy:
    """Raises TraceError: not a policy of this version."""
    return _convert(entry.policy, Policy)


def state(head: Head) -> State | None:
    """Raises TraceError: not a state of this version."""
    return None if head.state is None else _convert(head.state, State)


def time_of(entry: Entry) -> BootNs | None:
    """When an entry was made, where it says so."""
    if isinstance(entry, Step):
        at = entry.observation.get("at") if isinstance(entry.observation, dict) else None
        return BootNs(at) if isinstance(at, int) else None
    return BootNs(entry.at) if isinstance(entry, Head | Wire) else None


def _convert(value: Any, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise TraceError(f"{kind.__name__} as another version wrote it: {error}") from error


def repack(entries: Sequence[Entry], compress: Callable[[bytes], bytes], *, each: int = 500) -> bytes:
    """A whole trace of entries, in chunks of so many."""
    return b"".join(pack(entries[at : at + each], compress)[0] for at in range(0, len(entries), each))
