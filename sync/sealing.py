"""Sealing: block bodies encrypted to the fleet, so that a stolen tablet cannot read its own backlog.

One segment is one ephemeral X25519 key: agreed with the fleet's public key, put through HKDF-SHA256, used
with ChaCha20-Poly1305 (the same speed on a tablet without AES instructions) and forgotten. Each start
begins a new segment. Associated data is the block's header, whose counter never repeats in a segment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sync.blocks import HEADER_BYTES, Block
from sync.errors import RemoteProtocolError

_LABEL = b"ivma-seal/1\0"
SEGMENT_BYTES = 8


@dataclass(frozen=True, slots=True)
class Segment:
    """What the holder of the fleet's private key needs to open the blocks of one run of the agent."""

    id: bytes
    ephemeral: bytes  # X25519 public key
    generation: int  # of the fleet key


class Sealer:
    """The tablet's side: can close and never open.

    ``entropy`` gives n random bytes, 32 of them once.
    """

    def __init__(self, fleet_public: bytes, generation: int, entropy: Callable[[int], bytes]) -> None:
        ephemeral = X25519PrivateKey.from_private_bytes(entropy(32))
        public = ephemeral.public_key().public_bytes_raw()
        self.segment = Segment(_segment_id(public), public, generation)
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(fleet_public))
        self._cipher = ChaCha20Poly1305(_key(shared, public, fleet_public))
        self._counter = 0

    @property
    def segment_id(self) -> bytes:
        return self.segment.id

    def next_counter(self) -> int:
        """A number never given before; one that a failed commit used is not given again."""
        self._counter += 1
        return self._counter

    def seal(self, plain: bytes, header: bytes, counter: int) -> bytes:
        return self._cipher.encrypt(_nonce(counter), plain, header)


class Opener:
    """The fleet's side, with the private keys by generation."""

    def __init__(self, fleet_private: Mapping[int, bytes]) -> None:
        self._keys = {
            generation: X25519PrivateKey.from_private_bytes(raw) for generation, raw in fleet_private.items()
        }
        self._ciphers: dict[bytes, ChaCha20Poly1305] = {}

    def learn(self, segments: Iterable[Segment]) -> None:
        """Take segments in; those of an unknown generation are left out and their blocks stay closed.

        Raises:
            RemoteProtocolError: ``segment``: the key is no key, or its id does not belong to it.
        """
        for segment in segments:
            key = self._keys.get(segment.generation)
            if key is None or segment.id in self._ciphers:
                continue
            if segment.id != _segment_id(segment.ephemeral):
                raise RemoteProtocolError("segment", f"segment {segment.id.hex()} has another key's id")
            try:
                shared = key.exchange(X25519PublicKey.from_public_bytes(segment.ephemeral))
            except ValueError as error:
                raise RemoteProtocolError("segment", f"segment {segment.id.hex()}: {error}") from error
            fleet_public = key.public_key().public_bytes_raw()
            while len(self._ciphers) >= _MAX_CIPHERS:
                del self._ciphers[next(iter(self._ciphers))]
            self._ciphers[segment.id] = ChaCha20Poly1305(_key(shared, segment.ephemeral, fleet_public))

    def open(self, block: Block) -> bytes:
        """The plain body of a sealed block.

        Raises:
            RemoteProtocolError: ``sealed`` (segment or key not known) or ``seal`` (altered).
        """
        cipher = self._ciphers.get(block.header.segment)
        if cipher is None:
            raise RemoteProtocolError(
                "sealed", f"no key for segment {block.header.segment.hex()}: which fleet key sealed it?"
            )
        try:
            return cipher.decrypt(_nonce(block.header.counter), block.body, block.raw[:HEADER_BYTES])
        except InvalidTag as error:
            raise RemoteProtocolError("seal", "the body is not what the tablet sealed") from error


# Ours: bounds the memory of a depot that serves a fleet; an evicted one is learnt again with its batch.
_MAX_CIPHERS = 4096


def _segment_id(ephemeral: bytes) -> bytes:
    return hashlib.sha256(_LABEL + ephemeral).digest()[:SEGMENT_BYTES]


def _key(shared: bytes, ephemeral: bytes, fleet_public: bytes) -> bytes:
    return HKDF(SHA256(), 32, None, _LABEL + ephemeral + fleet_public).derive(shared)


def _nonce(counter: int) -> bytes:
    return counter.to_bytes(12, "big")
