"""docs/permits.md is enough: its documents and codes, read and made with primitives alone.

Nothing here but the last two tests comes from the project; the file was written by tests/signed_vectors.py.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sync import codes
from sync.documents import (
    Command,
    ContractorToken,
    Desired,
    FleetKey,
    Permit,
    Refill,
    Revocation,
)
from sync.keys import Signer, Verifier
from sync.signed import Document, seal, unseal

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "signed.json").read_text())
PUBLIC = bytes.fromhex(VECTORS["public"])
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
KINDS: tuple[type[Document], ...] = (
    Permit, Revocation, Refill, ContractorToken, Command, Desired, FleetKey,
)  # fmt: skip

documents = pytest.mark.parametrize("vector", VECTORS["documents"], ids=lambda v: v["label"])


def unpack(text: str) -> tuple[str, bytes]:
    found = re.fullmatch(r"-----BEGIN IVMA ([A-Z ]+)-----\n(.+)\n-----END IVMA \1-----\n", text, re.DOTALL)
    assert found is not None
    packed = found.group(2).replace("\n", "")
    return found.group(1), base64.b64decode(packed + "=" * (-len(packed) % 4))


@documents
def test_a_document_reads_by_the_page_alone(vector: dict[str, Any]) -> None:
    title, raw = unpack(vector["text"])
    assert title == vector["title"]
    assert raw[:4] == b"IVD\x01"
    assert raw[4:12] == hashlib.sha256(PUBLIC).digest()[:8] == bytes.fromhex(VECTORS["key_id"])
    assert int.from_bytes(raw[-4:], "little") == zlib.crc32(raw[:-4])
    signed, signature = raw[:-68], raw[-68:-4]
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(
        signature, vector["label"].encode() + b"\0" + signed
    )  # raises if it is not good
    payload = signed[12:].decode("ascii")
    assert payload == vector["payload"]
    assert json.loads(payload) == {**vector["values"], "purpose": vector["label"]}
    assert payload == json.dumps(json.loads(payload), sort_keys=True, separators=(",", ":"))


@documents
def test_a_document_made_by_the_page_alone_is_taken(vector: dict[str, Any]) -> None:
    """Another implementation's document: made with primitives, opened by the project."""
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["private"]))
    payload = json.dumps(vector["values"], sort_keys=True, separators=(",", ":")).encode()
    signed = b"IVD\x01" + hashlib.sha256(PUBLIC).digest()[:8] + payload
    raw = signed + private.sign(vector["label"].encode() + b"\0" + signed)
    raw += zlib.crc32(raw).to_bytes(4, "little")
    title = vector["title"]
    text = f"-----BEGIN IVMA {title}-----\n{base64.b64encode(raw).decode()}\n-----END IVMA {title}-----"
    document = unseal(text, KINDS, [Verifier(PUBLIC)])
    assert seal(document, Signer(bytes.fromhex(VECTORS["private"]))) == vector["text"]


@pytest.mark.parametrize("vector", VECTORS["codes"], ids=lambda v: v["challenge"])
def test_a_code_is_made_by_the_page_alone(vector: dict[str, Any]) -> None:
    words = ["ivma-code/1", vector["challenge"], vector["scope"], str(vector["minutes"])]
    mac = hmac.new(bytes.fromhex(VECTORS["code_key"]), "\0".join(words).encode(), hashlib.sha256).digest()
    bits = "".join(f"{byte:08b}" for byte in mac)
    made = "".join(ALPHABET[int(bits[begin : begin + 5], 2)] for begin in range(0, 60, 5))
    assert made == vector["answer"]
    key = bytes.fromhex(VECTORS["code_key"])
    assert codes.right(made, key, vector["challenge"], vector["scope"], vector["minutes"])
