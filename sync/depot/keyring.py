"""The keys of a depot, in one folder: its own, the fleet's, and the public key of each device.

depot.key  depot.pub                  signs acknowledgements
fleet.key  fleet.pub                  opens sealed records; fleet.key may be kept elsewhere
devices/<device>.pub                  verifies batches; <device>.key belongs on the tablet
permit.key  permit.pub                signs permits, revocations and refills: the control room's
contractor.key  contractor.pub        signs contractors' tokens: the workshop's
command.key  command.pub              signs commands: the control room's
configuration.key  configuration.pub  signs desired configurations
sealing.key  sealing.pub              signs changes of the fleet's key
fleet-<generation>.key  .pub          later keys of the fleet; those before them open what is older
codes/<device>.code                   answers challenges; the same file belongs on the tablet
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sync.keys import (
    KEY_BYTES,
    KeyFileError,
    Signer,
    Verifier,
    load_private,
    load_public,
    write_pair,
    write_secret,
)
from sync.sealing import Opener
from sync.topics import Topics

log = structlog.get_logger()

CACHED_DEVICES = 100_000  # ours: 30 MB
DEPOT, FLEET, DEVICES = "depot", "fleet", "devices"
PERMIT, CONTRACTOR, CODES = "permit", "contractor", "codes"
COMMAND, CONFIGURATION, SEALING = "command", "configuration", "sealing"
_LATER = re.compile(rf"{FLEET}-([1-9][0-9]{{0,4}})\.key")


class Keyring:
    """Reads the keys of a folder, a device's when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._devices: dict[str, Verifier] = {}

    def signer(self) -> Signer:
        """The depot's key.

        Raises:
            KeyFileError: it cannot be used.
        """
        return Signer(load_private(self._folder / f"{DEPOT}.key"))

    def opener(self, generation: int) -> Opener | None:
        """Opens what is sealed to the fleet; None when no private key of the fleet is here.

        ``generation`` is that of ``fleet.key``; later ones say theirs in their names.
        """
        files = {generation: self._folder / f"{FLEET}.key"}
        for path in self._folder.glob(f"{FLEET}-*.key"):
            if later := _LATER.fullmatch(path.name):
                files[int(later.group(1))] = path
        keys = {number: load_private(path) for number, path in files.items() if path.exists()}
        return Opener(keys) if keys else None

    def verifier(self, device: str) -> Verifier | None:
        """A device's key; None when there is none that can be used. ``device`` is a valid name."""
        known = self._devices.get(device)
        if known is not None:
            return known
        path = self._folder / DEVICES / f"{device}.pub"
        if not path.exists():
            return None
        if len(self._devices) >= CACHED_DEVICES:
            self._devices.clear()
        try:
            verifier = self._devices[device] = Verifier(load_public(path))
        except KeyFileError as error:
            log.error("device key cannot be used", device=device, detail=str(error))
            return None
        return verifier


def generate(folder: Path, devices: list[str]) -> list[Path]:
    """Make the keys that are not there yet; the private ones written so far.

    Raises:
        LocalProtocolError: a device's name cannot be part of a topic.
        OSError: the folder cannot be written.
    """
    for device in devices:
        Topics("fleet", device)
    for inner in (DEVICES, CODES):
        (folder / inner).mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    made = []
    own = (DEPOT, FLEET, PERMIT, CONTRACTOR, COMMAND, CONFIGURATION, SEALING)
    for name in (*own, *(f"{DEVICES}/{device}" for device in devices)):
        private = folder / f"{name}.key"
        if not private.exists():
            key = X25519PrivateKey.generate() if name == FLEET else Ed25519PrivateKey.generate()
            write_pair(private, folder / f"{name}.pub", key)
            made.append(private)
    for device in devices:
        code = folder / CODES / f"{device}.code"
        if not code.exists():
            write_secret(code, f"{secrets.token_hex(KEY_BYTES)}\n".encode())
            made.append(code)
    return made


def next_fleet_key(folder: Path, generation: int) -> Path:
    """Make the fleet's key pair of a later generation; its private file.

    Raises:
        OSError: it is there already, or cannot be written.
    """
    private = folder / f"{FLEET}-{generation}.key"
    write_pair(private, private.with_suffix(".pub"), X25519PrivateKey.generate())
    return private
