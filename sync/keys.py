"""Keys on disk and in hand: Ed25519 to sign with, X25519 for the fleet to be sealed to.

A key has one purpose, and every signature covers a label that names the purpose. On disk a key is PEM
(PKCS #8, or SubjectPublicKeyInfo), as openssl writes it; in hand it is 32 raw bytes.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from sync.errors import RemoteProtocolError

KEY_BYTES = 32
SIGNATURE_BYTES = 64


class KeyFileError(ValueError):
    """A key file that cannot be used; the message says which, why, and what was expected."""


class Signer:
    """Signs with one Ed25519 private key (32 raw bytes)."""

    def __init__(self, private: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, label: str, message: bytes) -> bytes:
        return self._key.sign(label.encode() + b"\0" + message)


class Verifier:
    """Verifies signatures of one Ed25519 public key (32 raw bytes)."""

    def __init__(self, public: bytes) -> None:
        self.public = public
        self._key = Ed25519PublicKey.from_public_bytes(public)

    def verify(self, label: str, message: bytes, signature: bytes) -> None:
        """Return if the signature is good.

        Raises:
            RemoteProtocolError: ``signature``.
        """
        try:
            self._key.verify(signature, label.encode() + b"\0" + message)
        except InvalidSignature as error:
            raise RemoteProtocolError("signature", f"no signature of the expected key on {label}") from error


def load_private(path: Path) -> bytes:
    """The 32 raw bytes of an Ed25519 or X25519 private key.

    Raises:
        KeyFileError: not readable, readable by others, of another user, not PEM, or of another kind.
    """
    data = _read(path)
    found = path.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise KeyFileError(
            f"key {path}: belongs to user {found.st_uid}, who could put another there; "
            "expected our own user or root"
        )
    if found.st_mode & 0o077:
        raise KeyFileError(f"key {path}: other users can read it; expected mode 0600: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"key {path}: expected an unencrypted PEM private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey | X25519PrivateKey):
        raise KeyFileError(f"key {path}: expected Ed25519 or X25519, not {type(key).__name__}")
    return key.private_bytes_raw()


def load_public(path: Path) -> bytes:
    """The 32 raw bytes of an Ed25519 or X25519 public key.

    Raises:
        KeyFileError: not readable, not PEM, or of another kind.
    """
    try:
        key = serialization.load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"key {path}: expected a PEM public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey | X25519PublicKey):
        raise KeyFileError(f"key {path}: expected Ed25519 or X25519, not {type(key).__name__}")
    return key.public_bytes_raw()


def write_pair(private: Path, public: Path, key: Ed25519PrivateKey | X25519PrivateKey) -> None:
    """Write a new pair as PEM, the private one readable by its owner alone; an existing file is an error."""
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_secret(private, secret)
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read; an existing file is an error."""
    write_new(path, data, 0o600)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a new file; an existing one is an error."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all, in the place of an old one if there is one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    write_new(fresh, data, mode)
    fresh.replace(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"key {path}: cannot be read: {error.strerror}") from error
