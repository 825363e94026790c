"""Signed documents that people carry: permits, contractor tokens, commands on paper. docs/permits.md.

A document is a flat table of named values with one purpose. It travels as armoured text, so that it survives
mail, a USB stick and standard input. The signature covers the label of its purpose, so that a document made
for one thing can never be taken for another, and its payload byte for byte, which nobody encodes anew to
verify. To add one: a subclass of ``Document`` in sync/documents.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Sequence
from typing import ClassVar, TypeVar

import msgspec

from sync.errors import LocalProtocolError, RemoteProtocolError
from sync.keys import SIGNATURE_BYTES, Signer, Verifier

MAGIC = b"IVD\x01"  # the last byte is the format's version
KEY_ID_BYTES = 8
CRC_BYTES = 4
PAYLOAD_MAX = 2048  # bytes, ours: many times what a document holds
TEXT_MAX = 8192  # characters that are looked at, a mail around the document included; ours
LINE = 64  # characters of an armoured line: no mailer breaks it
_OVERHEAD = len(MAGIC) + KEY_ID_BYTES + SIGNATURE_BYTES + CRC_BYTES
_MARK = re.compile(r"-+ ?(BEGIN|END) IVMA ([A-Z][A-Z ]{0,39}?) ?-+")
_QUOTING = re.compile(r"(?m)^[ \t]*(?:>[ \t]*)+")


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A kind of document. ``LABEL`` is its purpose and version, which ``purpose`` repeats inside;
    ``TITLE`` is what its armour says, in capitals. Values are whole numbers, ASCII text and lists of text.
    ``LONGEST`` bounds its payload in bytes.
    """

    LABEL: ClassVar[str]
    TITLE: ClassVar[str]
    LONGEST: ClassVar[int] = PAYLOAD_MAX


D = TypeVar("D", bound=Document)


def key_id(public: bytes) -> bytes:
    """Names a public key in a document: the first 8 bytes of its SHA-256."""
    return hashlib.sha256(public).digest()[:KEY_ID_BYTES]


def canonical(document: Document) -> bytes:
    """The payload: JSON with the keys in order, no white space, nothing but ASCII."""
    return msgspec.json.encode(document, order="sorted")


def seal(document: Document, signer: Signer) -> str:
    """The document as text to hand out.

    Raises:
        LocalProtocolError: a value is not allowed, or the whole is too long.
    """
    payload = canonical(document)
    try:
        if not payload.isascii() or len(payload) > document.LONGEST:
            raise ValueError(f"{len(payload)} bytes; expected ASCII, {document.LONGEST} bytes at most")
        msgspec.json.decode(payload, type=type(document))  # a struct's own limits hold when it is decoded
    except ValueError as error:
        raise LocalProtocolError(f"{document.LABEL}: {error}") from error
    signed = MAGIC + key_id(signer.public) + payload
    raw = signed + signer.sign(document.LABEL, signed)
    raw += zlib.crc32(raw).to_bytes(CRC_BYTES, "little")
    text = base64.b64encode(raw).decode().rstrip("=")
    lines = [text[begin : begin + LINE] for begin in range(0, len(text), LINE)]
    title = document.TITLE
    return "\n".join((f"-----BEGIN IVMA {title}-----", *lines, f"-----END IVMA {title}-----", ""))


def unseal(text: str, kinds: Sequence[type[D]], keys: Sequence[Verifier]) -> D:
    """The one document in ``text``, if it is of one of ``kinds`` and signed by one of ``keys``.

    Raises:
        RemoteProtocolError: ``armour``, ``kind``, ``damaged``, ``version``, ``key``, ``signature``,
            ``content``: the first that applies, in this order.
    """
    longest = max(kind.LONGEST for kind in kinds)
    title, body = _unarmoured(text, TEXT_MAX + 2 * (longest - PAYLOAD_MAX))
    kind = next((kind for kind in kinds if title == kind.TITLE), None)
    if kind is None:
        expected = " or ".join(kind.TITLE for kind in kinds)
        raise RemoteProtocolError("kind", f"this is a {title}, not a {expected}")
    raw = _decoded(body, kind.LONGEST)
    if raw[: len(MAGIC)] != MAGIC:
        raise RemoteProtocolError(
            "version", f"a document of format {raw[: len(MAGIC)].hex()}; this version reads {MAGIC.hex()}"
        )
    if zlib.crc32(raw[:-CRC_BYTES]) != int.from_bytes(raw[-CRC_BYTES:], "little"):
        raise RemoteProtocolError("damaged", "the text was damaged on its way (checksum); copy it again")
    signature_at = len(raw) - CRC_BYTES - SIGNATURE_BYTES
    signed, signature = raw[:signature_at], raw[signature_at:-CRC_BYTES]
    named = signed[len(MAGIC) : len(MAGIC) + KEY_ID_BYTES]
    verifier = next((key for key in keys if key_id(key.public) == named), None)
    if verifier is None:
        known = ", ".join(key_id(key.public).hex() for key in keys) or "none"
        raise RemoteProtocolError(
            "key", f"signed by the key {named.hex()}, which is not trusted here; trusted: {known}"
        )
    verifier.verify(kind.LABEL, signed, signature)
    return _content(signed[len(MAGIC) + KEY_ID_BYTES :], kind)


def _unarmoured(text: str, longest: int) -> tuple[str, str]:
    """Title and body of the one armoured document, whatever a mailer put around and before its lines."""
    if len(text) > longest:
        raise RemoteProtocolError(
            "armour", f"{len(text)} characters; expected {longest} at most: give the document alone"
        )
    plain = _QUOTING.sub("", text)
    marks = list(_MARK.finditer(plain))
    if not marks:
        raise RemoteProtocolError(
            "armour", "there is no line `-----BEGIN IVMA ...-----`: is this the right file?"
        )
    said = [mark.group(1) for mark in marks]
    if said != ["BEGIN", "END"] or marks[0].group(2) != marks[1].group(2):
        raise RemoteProtocolError(
            "armour", f"expected one document from BEGIN to END, found {', '.join(said)}: copy one, whole"
        )
    return marks[0].group(2), plain[marks[0].end() : marks[1].start()]


def _decoded(body: str, longest: int) -> bytes:
    packed = "".join(body.split()).rstrip("=")
    try:
        raw = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RemoteProtocolError(
            "damaged", f"the text was damaged on its way ({error}); copy it again"
        ) from error
    if not _OVERHEAD < len(raw) <= _OVERHEAD + longest:
        raise RemoteProtocolError(
            "damaged",
            f"{len(raw)} bytes; expected {_OVERHEAD + 1} to {_OVERHEAD + longest}: copy it whole",
        )
    return raw


def _content(payload: bytes, kind: type[D]) -> D:
    """The document of a payload whose signature is good: what an older version or a defect may have made."""
    try:
        document = msgspec.json.decode(payload, type=kind)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError("content", f"{kind.LABEL}: {error}") from error
    if canonical(document) != payload or not payload.isascii():
        raise RemoteProtocolError("content", f"{kind.LABEL}: the payload is not in its one canonical form")
    return document
