"""The formats as docs/queue-and-sync.md describes them, decoded here without the project's own code."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from typing import Any

import msgspec
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.core.records import Stream
from sync.blocks import follow, genesis, parse_block, read_rows
from sync.envelope import decode_ack, decode_batch, decode_presence
from sync.keys import Verifier
from sync.sealing import Opener
from tests.envelope_vectors import VECTORS

V: dict[str, Any] = json.loads(VECTORS.read_text())
TELEMETRY = 4
Row = list[Any]


def unpack(data: bytes) -> Any:
    return msgspec.msgpack.decode(data)


def key_of_segment(segment: list[Any]) -> ChaCha20Poly1305:
    identity, ephemeral, generation = segment
    assert generation == V["generation"]
    assert identity == hashlib.sha256(b"ivma-seal/1\0" + ephemeral).digest()[:8]
    fleet = X25519PrivateKey.from_private_bytes(bytes.fromhex(V["fleet_private"]))
    shared = fleet.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    info = b"ivma-seal/1\0" + ephemeral + fleet.public_key().public_bytes_raw()
    return ChaCha20Poly1305(HKDF(SHA256(), 32, None, info).derive(shared))


def decode_rows(raw: bytes, cipher: ChaCha20Poly1305) -> list[Row]:
    first, last, _, boot_ns = struct.unpack_from(">QQ16sQ", raw, 4)
    (counter,) = struct.unpack_from(">Q", raw, 60)
    body = raw[68:]
    if raw[2] & 1:
        body = cipher.decrypt(counter.to_bytes(12, "big"), body, raw[:68])
    kinds, order, deltas, tables = unpack(zstandard.ZstdDecompressor().decompress(body))
    order = order or [0] * (last - first + 1)
    columns = [
        [list(itertools.accumulate(values)) if mode == 1 else values for mode, values in table]
        for table in tables
    ]
    taken = [0] * len(kinds)
    rows = []
    for seq, index, at in zip(
        range(first, last + 1), order, itertools.accumulate(deltas, initial=boot_ns), strict=True
    ):
        name, version, fields = kinds[index]
        values = [column[taken[index]] for column in columns[index]]
        taken[index] += 1
        rows.append([seq, at, name, version, dict(zip(fields, values, strict=True))])
    return rows


def statement(message: str, label: bytes, public: str) -> tuple[list[Any], bytes]:
    version, said, signature, body = unpack(bytes.fromhex(message))
    assert version == 1
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, label + b"\0" + said)
    return unpack(said), body


def test_a_batch_can_be_read_and_verified_from_its_description() -> None:
    said, body = statement(V["batch"], b"ivma-batch/1", V["device_public"])
    device, stream, epoch, boot_id, first, last, before, head, digest, oldest = said
    assert [device, stream, epoch.hex(), boot_id.hex()] == [V["device"], TELEMETRY, V["epoch"], V["boot_id"]]
    assert digest == hashlib.sha256(body).digest()
    assert oldest is False
    start = b"ivma-chain/1\0" + device.encode() + b"\0" + bytes([stream]) + epoch
    assert before == hashlib.sha256(start).digest() == bytes.fromhex(V["genesis"])
    segments, blocks = unpack(body)
    cipher = key_of_segment(segments[0])
    assert [first, last] == [1, 100]
    digest = before
    for raw, expected in zip(blocks, V["blocks"], strict=True):
        assert raw.hex() == expected["raw"]
        version, code, flags, quality, seq, end, boot, boot_ns, wall_ns, segment, counter = struct.unpack(
            ">BBBBQQ16sQq8sQ", raw[:68]
        )
        assert [version, code, quality, boot] == [1, TELEMETRY, 2, boot_id]
        assert [flags, seq, end, boot_ns, wall_ns] == [
            expected[name] for name in ("flags", "first", "last", "boot_ns", "wall_ns")
        ]
        assert (segment == segments[0][0]) == (counter > 0) == (flags == 1)
        if flags & 2:
            reason, gap_before, digest = unpack(raw[68:])
            assert [reason, gap_before] == ["quota", bytes.fromhex(V["blocks"][2]["hash"])]
        else:
            digest = hashlib.sha256(digest + raw).digest()
            assert decode_rows(raw, cipher) == expected["records"]
        assert digest.hex() == expected["hash"]
    assert digest == head


def test_an_acknowledgement_and_a_presence_can_be_read_from_their_description() -> None:
    said, _ = statement(V["ack"], b"ivma-ack/1", V["depot_public"])
    assert said == [
        V["device"], TELEMETRY, bytes.fromhex(V["epoch"]), bytes.fromhex(V["boot_id"]), 100,
        bytes.fromhex(V["blocks"][-1]["hash"]), False,
    ]  # fmt: skip
    said, _ = statement(V["presence"], b"ivma-presence/1", V["device_public"])
    device, state, boot_id, at, epoch, heads = said
    assert [device, state, boot_id.hex(), at, epoch.hex()] == [
        V["device"], "sleeping", V["boot_id"], 100_000_000_000, V["epoch"],
    ]  # fmt: skip
    assert [[stream, seq, head.hex()] for stream, seq, head in heads] == V["presence_heads"]


def test_the_projects_own_readers_agree_with_the_vectors() -> None:
    tablet = Verifier(bytes.fromhex(V["device_public"]))
    batch = decode_batch(bytes.fromhex(V["batch"]), V["device"], tablet)
    opener = Opener({V["generation"]: bytes.fromhex(V["fleet_private"])})
    opener.learn(batch.segments)
    head = genesis(V["device"], Stream.TELEMETRY, bytes.fromhex(V["epoch"]))
    assert batch.before == head
    for block, expected in zip(batch.blocks, V["blocks"], strict=True):
        head = follow(head, block)
        assert head.hash.hex() == expected["hash"]
        assert [
            [seq, row.at, row.kind, row.version, row.fields] for seq, row in read_rows(block, opener)
        ] == expected["records"]
    assert batch.head == head
    ack = decode_ack(bytes.fromhex(V["ack"]), V["device"], Verifier(bytes.fromhex(V["depot_public"])))
    assert ack.head == head
    presence = decode_presence(bytes.fromhex(V["presence"]), V["device"], tablet)
    assert presence.state == "sleeping"
    assert presence.heads[Stream.TELEMETRY] == head


@pytest.mark.parametrize("expected", V["blocks"], ids=lambda block: f"from {block['first']}")
def test_a_header_packs_to_the_same_bytes(expected: dict[str, Any]) -> None:
    raw = bytes.fromhex(expected["raw"])
    assert parse_block(raw).header.pack() == raw[:68]
