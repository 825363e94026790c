"""What travels: batches of blocks and presence up, acknowledgements down, each a signed statement.

On the wire a message is msgpack ``[version, statement, signature, body]``: ``statement`` is the encoded
array that the signature covers, byte for byte, so that nobody re-encodes anything to verify. Arrays may
grow at their end; a reader ignores what it does not know. A batch's statement holds the SHA-256 of its
body, so the statement and its signature are a proof that stays small when kept without the blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec

from agent.core.records import Stream
from sync.blocks import HASH_BYTES, STREAM_CODES, Block, Head, follow, parse_block
from sync.columns import MAX_BODY
from sync.errors import RemoteProtocolError
from sync.keys import KEY_BYTES, SIGNATURE_BYTES, Signer, Verifier
from sync.sealing import SEGMENT_BYTES, Segment

VERSION = 1
BATCH, ACK, PRESENCE = "ivma-batch/1", "ivma-ack/1", "ivma-presence/1"
REPORT = "ivma-reported/1"
BOOT_ID_BYTES = 16
EPOCH_BYTES = 8
NONCE_BYTES = 16
MAX_DETAIL = 1000  # characters; ours
MAX_DEVICE = 64  # characters; it is a level of an MQTT topic
MAX_PAYLOAD = 2 * MAX_BODY  # ours: one block always fits, with its segments
_STREAMS = {code: stream for stream, code in STREAM_CODES.items()}


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive blocks of one stream as the store holds them, ready to be signed and sent.

    ``before`` is the head that the first block continues, ``head`` the one after the last.
    """

    stream: Stream
    epoch: bytes
    before: Head
    head: Head
    blocks: tuple[bytes, ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """A verified batch. ``statement`` and ``signature`` are the tablet's lasting proof of ``head``.

    ``oldest``: the tablet holds nothing before these blocks any more.
    """

    device: str
    stream: Stream
    epoch: bytes
    boot_id: bytes  # of the sender, when it sent
    before: Head
    head: Head
    blocks: tuple[Block, ...]
    segments: tuple[Segment, ...]
    statement: bytes
    signature: bytes
    oldest: bool = False


@dataclass(frozen=True, slots=True)
class Ack:
    """The depot's word that it has committed the stream up to ``head``.

    ``again``: something is missing after ``head``; the tablet is to go back and send it again.
    """

    device: str
    stream: Stream
    epoch: bytes
    boot_id: bytes  # of the sender of the batch that it answers
    head: Head
    again: bool = False
    desired: int = 0  # highest generation of configuration that the tablet has ever reported; 0 for none


@dataclass(frozen=True, slots=True)
class Presence:
    """Birth ("online"), planned absence ("sleeping", "shutting_down") or, as the will, "lost".

    ``at`` is boot time in ns when it was made; ``heads`` show a tail that was cut off. ``nonce`` is 16 bytes
    of this run of the agent, which a command has to name; empty where none is taken.
    """

    device: str
    state: str
    boot_id: bytes
    at: int
    epoch: bytes
    heads: Mapping[Stream, Head]
    nonce: bytes = b""


@dataclass(frozen=True, slots=True)
class Reported:
    """What became of the configuration that was wanted last.

    ``accepted`` is the highest generation ever accepted, which a rollback does not lower; ``generation`` the
    one that this is about, in ``state`` "trial", "confirmed", "rolled_back" or "refused".
    """

    device: str
    boot_id: bytes
    at: int  # boot time, ns
    accepted: int
    generation: int
    state: str
    detail: str


# --- layouts ----------------------------------------------------------------------------------------


_Seq = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Message(msgspec.Struct, array_like=True, frozen=True):
    version: int
    statement: bytes
    signature: bytes
    body: bytes = b""


class _BatchStatement(msgspec.Struct, array_like=True, frozen=True):
    device: str
    stream: int
    epoch: bytes
    boot_id: bytes
    first: _Seq
    last: _Seq
    before: bytes
    head: bytes
    digest: bytes  # SHA-256 of the body
    oldest: bool = False


class _Segment(msgspec.Struct, array_like=True, frozen=True):
    id: bytes
    ephemeral: bytes
    generation: int


class _BatchBody(msgspec.Struct, array_like=True, frozen=True):
    segments: list[_Segment]
    blocks: list[bytes]


class _AckStatement(msgspec.Struct, array_like=True, frozen=True):
    device: str
    stream: int
    epoch: bytes
    boot_id: bytes
    seq: _Seq
    hash: bytes
    again: bool = False
    desired: _Seq = 0


class _Head(msgspec.Struct, array_like=True, frozen=True):
    stream: int
    seq: _Seq
    hash: bytes


class _PresenceStatement(msgspec.Struct, array_like=True, frozen=True):
    device: str
    state: str
    boot_id: bytes
    at: int
    epoch: bytes
    heads: list[_Head]
    nonce: bytes = b""


class _ReportedStatement(msgspec.Struct, array_like=True, frozen=True):
    device: str
    boot_id: bytes
    at: int
    accepted: _Seq
    generation: _Seq
    state: str
    detail: str


_encode = msgspec.msgpack.encode
_T = TypeVar("_T")


# --- batches ----------------------------------------------------------------------------------------


def encode_batch(run: Run, device: str, boot_id: bytes, signer: Signer, *, oldest: bool = False) -> bytes:
    """Sign a run with the device's key; ``boot_id`` is the sender's, now."""
    body = _encode(
        _BatchBody([_Segment(s.id, s.ephemeral, s.generation) for s in run.segments], list(run.blocks))
    )
    statement = _BatchStatement(
        device, STREAM_CODES[run.stream], run.epoch, boot_id, run.before.seq + 1, run.head.seq,
        run.before.hash, run.head.hash, hashlib.sha256(body).digest(), oldest,
    )  # fmt: skip
    return _sign(BATCH, statement, signer, body)


def decode_batch(payload: bytes, device: str, verifier: Verifier) -> Batch:
    """Read a batch and verify all that can be without the store: signature, body, and its own chain.

    ``device`` is the one that the topic names and ``verifier`` its key. Whether ``before`` continues what
    is already held is for the caller to see (``sync.blocks.follow``).

    Raises:
        RemoteProtocolError: for any payload that is not a batch of this device.
    """
    message = _open(BATCH, payload, verifier)
    said = _read(BATCH, message.statement, _BatchStatement)
    _same_device(said.device, device)
    stream = _stream(said.stream)
    _sizes(said.epoch, said.boot_id, said.before, said.head)
    if hashlib.sha256(message.body).digest() != said.digest:
        raise RemoteProtocolError("digest", "the blocks are not those that were signed")
    body = _read(BATCH, message.body, _BatchBody)
    blocks = tuple(map(parse_block, body.blocks))
    if not blocks or any(block.header.stream is not stream for block in blocks):
        raise RemoteProtocolError("batch", "no blocks, or blocks of another stream")
    before = head = Head(said.first - 1, said.before)
    for block in blocks:
        head = follow(head, block)
    if head != Head(said.last, said.head):
        raise RemoteProtocolError("chain", f"the blocks end at {head.seq} with another hash than was signed")
    segments = []
    for segment in body.segments:
        if len(segment.id) != SEGMENT_BYTES or len(segment.ephemeral) != KEY_BYTES:
            raise RemoteProtocolError("segment", "an id or a key of the wrong length")
        segments.append(Segment(segment.id, segment.ephemeral, segment.generation))
    return Batch(
        device, stream, said.epoch, said.boot_id, before, head, blocks, tuple(segments),
        message.statement, message.signature, said.oldest,
    )  # fmt: skip


def decode_proof(
    statement: bytes, signature: bytes, device: str, verifier: Verifier
) -> tuple[Stream, bytes, Head]:
    """Stream, epoch and head that the device signed for: what stays of a batch when its blocks are stored.

    Raises:
        RemoteProtocolError: it proves nothing of this device.
    """
    verifier.verify(BATCH, statement, signature)
    said = _read(BATCH, statement, _BatchStatement)
    _same_device(said.device, device)
    return _stream(said.stream), said.epoch, Head(said.last, said.head)


# --- acknowledgements -------------------------------------------------------------------------------


def encode_ack(ack: Ack, signer: Signer) -> bytes:
    """Sign with the depot's key; only after the depot's own commit."""
    statement = _AckStatement(
        ack.device, STREAM_CODES[ack.stream], ack.epoch, ack.boot_id, ack.head.seq, ack.head.hash, ack.again,
        ack.desired,
    )  # fmt: skip
    return _sign(ACK, statement, signer)


def decode_ack(payload: bytes, device: str, verifier: Verifier) -> Ack:
    """Read an acknowledgement for ``device``, signed by the depot.

    Raises:
        RemoteProtocolError: for any payload that is not one.
    """
    said = _read(ACK, _open(ACK, payload, verifier).statement, _AckStatement)
    _same_device(said.device, device)
    _sizes(said.epoch, said.boot_id, said.hash)
    head = Head(said.seq, said.hash)
    return Ack(device, _stream(said.stream), said.epoch, said.boot_id, head, said.again, said.desired)


# --- presence ---------------------------------------------------------------------------------------


def encode_presence(presence: Presence, signer: Signer) -> bytes:
    heads = [_Head(STREAM_CODES[stream], head.seq, head.hash) for stream, head in presence.heads.items()]
    statement = _PresenceStatement(
        presence.device, presence.state, presence.boot_id, presence.at, presence.epoch, heads, presence.nonce
    )
    return _sign(PRESENCE, statement, signer)


def decode_presence(payload: bytes, device: str, verifier: Verifier) -> Presence:
    """Read a presence message of ``device``; streams that this side does not know are left out.

    Raises:
        RemoteProtocolError: for any payload that is not one.
    """
    said = _read(PRESENCE, _open(PRESENCE, payload, verifier).statement, _PresenceStatement)
    _same_device(said.device, device)
    _sizes(said.epoch, said.boot_id, *(head.hash for head in said.heads))
    heads = {
        _STREAMS[head.stream]: Head(head.seq, head.hash) for head in said.heads if head.stream in _STREAMS
    }
    if len(said.nonce) not in (0, NONCE_BYTES):
        raise RemoteProtocolError("format", f"a nonce of {len(said.nonce)} bytes")
    return Presence(device, said.state, said.boot_id, said.at, said.epoch, heads, said.nonce)


def encode_reported(reported: Reported, signer: Signer) -> bytes:
    statement = _ReportedStatement(
        reported.device, reported.boot_id, reported.at, reported.accepted, reported.generation,
        reported.state, reported.detail[:MAX_DETAIL],
    )  # fmt: skip
    return _sign(REPORT, statement, signer)


def decode_reported(payload: bytes, device: str, verifier: Verifier) -> Reported:
    """Read what ``device`` says became of its configuration.

    Raises:
        RemoteProtocolError: for any payload that does not.
    """
    said = _read(REPORT, _open(REPORT, payload, verifier).statement, _ReportedStatement)
    _same_device(said.device, device)
    if len(said.boot_id) != BOOT_ID_BYTES or len(said.detail) > MAX_DETAIL:
        raise RemoteProtocolError("format", "a boot id or detail of the wrong length")
    return Reported(
        device, said.boot_id, said.at, said.accepted, said.generation, said.state, said.detail
    )  # fmt: skip


# --- common -----------------------------------------------------------------------------------------


def _sign(label: str, statement: msgspec.Struct, signer: Signer, body: bytes = b"") -> bytes:
    said = _encode(statement)
    return _encode(_Message(VERSION, said, signer.sign(label, said), body))


def _open(label: str, payload: bytes, verifier: Verifier) -> _Message:
    if len(payload) > MAX_PAYLOAD:
        raise RemoteProtocolError("size", f"{label}: {len(payload)} bytes, {MAX_PAYLOAD} at most")
    message = _read(label, payload, _Message)
    if message.version != VERSION:
        raise RemoteProtocolError("version", f"{label} version {message.version}; this side reads {VERSION}")
    if len(message.signature) != SIGNATURE_BYTES:
        raise RemoteProtocolError("signature", f"{label}: {len(message.signature)} bytes")
    verifier.verify(label, message.statement, message.signature)
    return message


def _read(label: str, data: bytes, layout: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(data, type=layout)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError("format", f"{label}: {error}") from error


def _same_device(said: str, expected: str) -> None:
    if said != expected:
        raise RemoteProtocolError("device", f"signed for {said[:MAX_DEVICE]!r}, expected {expected!r}")


def _stream(code: int) -> Stream:
    stream = _STREAMS.get(code)
    if stream is None:
        raise RemoteProtocolError("stream", f"stream {code} is not known here")
    return stream


def _sizes(epoch: bytes, boot_id: bytes, *hashes: bytes) -> None:
    if (
        len(epoch) != EPOCH_BYTES
        or len(boot_id) != BOOT_ID_BYTES
        or any(len(h) != HASH_BYTES for h in hashes)
    ):
        raise RemoteProtocolError("format", "an epoch, boot id or hash of the wrong length")
