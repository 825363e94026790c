"""The pairings of this tablet on disk: one ``[[dock]]`` table a file, and each key in a file of its own.

Everything is replaced as a whole and synced: a power cut leaves the old or the new, never half of one. A
pairing begins as *pending*, with its key, before the dock hears of it; one rename makes it good. So whenever
it is interrupted, the key that the dock holds is either the good one or the pending one.
"""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from agent import durable
from agent.config import ConfigError, Dock, dock_of

log = structlog.get_logger()

FOLDER = "docks"  # in the state folder; 0700, its files 0600
GOOD, PENDING, KEY = ".toml", ".pending", ".key"
KEY_BYTES = 32
WRAPPED = "wrapped-1 "  # ChaCha20-Poly1305: nonce and ciphertext, as hex digits
NONCE_BYTES = 12


class PairingError(Exception):
    """A pairing that cannot be stored or read; the text says which, why, and what to do."""


class Pairings:
    """The folder. What changes it raises ``PairingError``; nothing raises ``OSError``."""

    def __init__(self, folder: Path, storage_key_file: Path | None = None) -> None:
        self._folder = folder
        self._storage = storage_key_file

    def key_of(self, dock: Dock) -> bytes:
        """The key of a dock, paired or configured. Raises PairingError."""
        return read_key(Path(dock.key_file), self._storage)

    def good(self) -> tuple[list[Dock], list[str]]:
        """The pairings in force, and what is wrong with the files that hold none."""
        return self._read(GOOD)

    def pending(self) -> tuple[list[Dock], list[str]]:
        """Pairings that were begun and neither proved nor given up."""
        return self._read(PENDING)

    def begin(self, dock: Dock, key: bytes) -> Dock:
        """Store a pairing as pending; returns it with the place of its key."""
        if len(key) != KEY_BYTES:
            raise PairingError(f"a pairing key has {KEY_BYTES} bytes, not {len(key)}")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            key_file = self._folder / f"{dock.name}.{secrets.token_hex(4)}{KEY}"
            durable.replace(key_file, _wrapped(key, key_file.name, self._storage) + "\n")
            begun = msgspec.structs.replace(dock, key_file=str(key_file))
            durable.replace(self._file(dock.name, PENDING), _toml(begun))
        except OSError as error:
            raise self._failed("stored", error) from None
        return begun

    def settle(self, name: str) -> None:
        """What is pending of this name is proved: from now on it is the pairing."""
        try:
            self._file(name, PENDING).replace(self._file(name, GOOD))
            durable.sync(self._folder)
        except OSError as error:
            raise self._failed("made good", error) from None
        self._sweep()

    def give_up(self, name: str) -> None:
        """Drop what is pending of this name."""
        self._remove(self._file(name, PENDING))

    def forget(self, name: str) -> None:
        """Drop the pairing of this name, and its key."""
        self._remove(self._file(name, GOOD))

    def _remove(self, file: Path) -> None:
        try:
            file.unlink(missing_ok=True)
            if self._folder.exists():
                durable.sync(self._folder)
        except OSError as error:
            raise self._failed("removed", error) from None
        self._sweep()

    def _sweep(self) -> None:
        """Remove the keys that no pairing names: left by what was replaced, forgotten or interrupted."""
        docks = [*self.good()[0], *self.pending()[0]]
        if self.good()[1] or self.pending()[1]:
            return  # one that cannot be read may name any of them
        named = {dock.key_file for dock in docks}
        with suppress(OSError):
            for file in (*self._folder.glob(f"*{KEY}"), *self._folder.glob("*.part")):
                if str(file) not in named:
                    file.unlink(missing_ok=True)

    def _read(self, kind: str) -> tuple[list[Dock], list[str]]:
        docks, problems = [], []
        for file in self._files(kind):
            try:
                dock = dock_of(tomllib.loads(file.read_text()), str(file))
                if dock.name != file.name.removesuffix(kind):
                    raise ConfigError(f"{file}: it names the dock {dock.name}; expected the file's own name")
                docks.append(dock)
            except (OSError, ValueError) as error:  # ConfigError and what TOML and UTF-8 raise
                problems.append(f"{error}" if isinstance(error, ConfigError) else f"{file}: {error}")
        return docks, problems

    def _files(self, kind: str) -> Iterator[Path]:
        with suppress(OSError):
            yield from sorted(self._folder.glob(f"*{kind}"))

    def _file(self, name: str, kind: str) -> Path:
        return self._folder / f"{name}{kind}"

    def _failed(self, what: str, error: OSError) -> PairingError:
        return PairingError(
            f"{error.filename or self._folder}: the pairing cannot be {what}: {error.strerror or error}"
        )


def read_key(file: Path, storage_key_file: Path | None = None) -> bytes:
    """A pairing key from its file, which may be encrypted with the storage key.

    Raises:
        PairingError: not readable, readable by others, written by others, not 64 hex digits, or encrypted
            with another storage key.
    """
    try:
        found = file.stat()
        if found.st_uid not in (0, os.geteuid()):
            raise PairingError(
                f"{file}: belongs to user {found.st_uid}, who could put another key there; expected the "
                "agent's own user or root: pair the dock again"
            )
        if found.st_mode & 0o077:
            raise PairingError(f"{file}: other users can read this key; chmod 600 it and pair the dock again")
        text = file.read_text().strip()
        if text.startswith(WRAPPED):
            return _unwrapped(text.removeprefix(WRAPPED), file, storage_key_file)
        key = bytes.fromhex(text)
    except OSError as error:
        raise PairingError(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise PairingError(f"{file}: expected a pairing key of {2 * KEY_BYTES} hex digits")
    return key


def _wrapped(key: bytes, name: str, storage_key_file: Path | None) -> str:
    """What a key's file holds; it is bound to the name of that file."""
    if storage_key_file is None:
        return key.hex()
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # not needed by most

    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = ChaCha20Poly1305(read_key(storage_key_file)).encrypt(nonce, key, name.encode())
    return WRAPPED + (nonce + sealed).hex()


def _unwrapped(text: str, file: Path, storage_key_file: Path | None) -> bytes:
    if storage_key_file is None:
        raise PairingError(
            f"{file}: the key is encrypted; set pairing.storage_key_file, or pair the dock again"
        )
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    try:
        held = bytes.fromhex(text)
        storage = ChaCha20Poly1305(read_key(storage_key_file))
        return storage.decrypt(held[:NONCE_BYTES], held[NONCE_BYTES:], file.name.encode())
    except (ValueError, InvalidTag):
        raise PairingError(
            f"{file}: does not open with the storage key {storage_key_file}; pair the dock again"
        ) from None


def _toml(dock: Dock) -> str:
    """A pairing as the table that ``agent.config`` reads; what is not set is left out."""
    members = msgspec.to_builtins(dock)
    return "".join(
        f"{name} = {_value(value)}\n" for name, value in members.items() if value not in (None, {})
    )


def _value(value: object) -> str:
    """A value of TOML on one line. JSON's strings are TOML's, but for DEL, which JSON leaves bare."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_value(key)} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007F")
