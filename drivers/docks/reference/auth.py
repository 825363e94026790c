"""Proof and tags of the reference dock link, for either end. docs/dock-link.md, "Proof and sessions"."""

from __future__ import annotations

import enum
import hashlib
import hmac

from drivers.docks.reference.codec import TAG_SIZE, Frame, Message, Reason, Trailer, enclose, signed_bytes

KEY_SIZE = 32  # bytes; docs/dock-link.md
MAC_SIZE = 16  # bytes; docs/dock-link.md
NONCE_SIZE = 16  # bytes, the tablet's challenge; docs/dock-link.md
DOCK_NONCE_SIZE = 8  # bytes; docs/dock-link.md
_PROOF_LABEL = b"ivma-dock-proof/1"
_SESSION_LABEL = b"ivma-dock-session/1"
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))  # RFC 2104: each byte of the key, padded
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))


class Direction(enum.IntEnum):
    """Which way a frame goes: part of every tag, so that no frame can be reflected."""

    TO_DOCK = 0
    TO_TABLET = 1


def proof_mac(
    key: bytes, nonce: bytes, dock_nonce: bytes, dock_serial: bytes, vehicle_id: bytes, status_counter: int
) -> bytes:
    """The mac of PROOF; serial and vehicle id as they stand in IDENT, padding included."""
    counter = status_counter.to_bytes(4, "little")
    said = _PROOF_LABEL + nonce + dock_nonce + dock_serial + vehicle_id + counter
    return hmac.digest(key, said, "sha256")[:MAC_SIZE]


def session_key(key: bytes, nonce: bytes, dock_nonce: bytes) -> bytes:
    """HKDF-SHA-256 (RFC 5869); 32 bytes are one block of its expansion."""
    extracted = hmac.digest(nonce + dock_nonce, key, "sha256")
    return hmac.digest(extracted, _SESSION_LABEL + b"\x01", "sha256")


def same(one: bytes, other: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one, other)


class Session:
    """One end of a session: tags what it sends, accepts each frame of the other end once and in order."""

    def __init__(self, key: bytes, sends: Direction) -> None:
        # HMAC-SHA-256 (RFC 2104) with the key hashed in once a session: two small copies for each tag take
        # half the time of one of an ``hmac`` object.
        block = key.ljust(hashlib.sha256().block_size, b"\0")
        self._inner = hashlib.sha256(block.translate(_INNER_PAD))
        self._outer = hashlib.sha256(block.translate(_OUTER_PAD))
        self._sends = bytes((sends,))
        self._receives = bytes((1 - sends,))
        self._sent = 0
        self._received = 0

    def seal(self, message: Message, sequence: int, *, ack_wanted: bool = False) -> Frame:
        """A frame with the next counter and its tag."""
        _, trailer = self._sign(message, sequence, ack_wanted)
        return Frame(message, sequence, ack_wanted, trailer)

    def packet(self, message: Message, sequence: int, *, ack_wanted: bool = False) -> bytes:
        """The bytes on the wire of what ``seal`` makes."""
        return enclose(*self._sign(message, sequence, ack_wanted))

    def check(self, frame: Frame) -> Reason | None:
        """Accept a frame that a decoder read (None) and move the counter on, or say why not."""
        trailer = frame.trailer
        if trailer is None or not same(self._tag(self._receives, trailer.counter, frame.signed), trailer.tag):
            return Reason.TAG
        if trailer.counter <= self._received:
            return Reason.COUNTER
        self._received = trailer.counter
        return None

    def _sign(self, message: Message, sequence: int, ack_wanted: bool) -> tuple[bytes, Trailer]:
        self._sent += 1
        signed = signed_bytes(message, sequence, ack_wanted=ack_wanted, authenticated=True)
        return signed, Trailer(self._sent, self._tag(self._sends, self._sent, signed))

    def _tag(self, direction: bytes, counter: int, signed: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(direction + counter.to_bytes(4, "little") + signed)
        outer.update(inner.digest())
        return outer.digest()[:TAG_SIZE]
