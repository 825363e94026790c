"""Challenges and what their answers prove: the paired dock, or provably another one. Tablet side, sans-IO."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from agent.core.types import SECOND, BootNs, ForeignReason
from drivers.docks.reference.auth import (
    KEY_SIZE,
    NONCE_SIZE,
    Direction,
    Session,
    proof_mac,
    same,
    session_key,
)
from drivers.docks.reference.codec import (
    SERIAL_SIZE,
    VEHICLE_ID_SIZE,
    Challenge,
    Ident,
    Proof,
    padded,
)
from drivers.spec import DockSettings, Entropy

PERIOD_NS = 30 * SECOND  # between challenges; docs/dock-link.md
PACE_NS = SECOND  # at most one challenge a second; docs/dock-link.md
BAD_MACS = 3  # running, then the dock is FOREIGN; docs/dock-link.md
# Challenges whose late answer is told apart from a bad mac: a dock four seconds behind; ours.
REMEMBERED_NONCES = 4


class Refusal(enum.Enum):
    """Why a PROOF proved nothing."""

    MAC = "mac"
    LATE = "late"  # answers a challenge that is not the newest, or was answered before


@dataclass(frozen=True, slots=True)
class Proven:
    session: Session
    asked_at: BootNs


@dataclass(frozen=True, slots=True)
class Foreign:
    reason: ForeignReason
    asked_at: BootNs


class Prover:
    """Asks, at the pace of the link, and judges each answer once."""

    def __init__(self, settings: DockSettings, entropy: Entropy) -> None:
        if len(settings.key) != KEY_SIZE:
            raise ValueError(
                f"dock {settings.name}: the key has {len(settings.key)} bytes; expected {KEY_SIZE}"
            )
        self._key = settings.key
        self._serial = padded(settings.serial, SERIAL_SIZE)
        self._vehicle_id = padded(settings.vehicle_id, VEHICLE_ID_SIZE)
        self._entropy = entropy
        self._nonce = b""
        self._older: deque[bytes] = deque(maxlen=REMEMBERED_NONCES)
        self._asked_at: BootNs | None = None
        self._answered = False  # by a PROOF that settled it, for or against
        self._wanted = False
        self._counted_bad = False
        self._bad_macs = 0

    def restart(self) -> None:
        """A new link: nothing is asked, and macs that another device got wrong do not count."""
        self._asked_at = None
        self._bad_macs = 0

    def want(self) -> None:
        """Something came untagged: ask again as soon as the pace allows."""
        self._wanted = True

    def due(self) -> BootNs | None:
        """When to ask next; None until the first challenge of a link, which may go out at any time."""
        if self._asked_at is None:
            return None
        settled = self._answered and not self._wanted
        return BootNs(self._asked_at + (PERIOD_NS if settled else PACE_NS))

    def challenge(self, at: BootNs) -> Challenge:
        """A new challenge, sent at ``at``; from now on it is the only one whose answer counts."""
        self._older.append(self._nonce)
        self._nonce = self._entropy(NONCE_SIZE)
        self._asked_at = at
        self._answered = self._wanted = self._counted_bad = False
        return Challenge(self._nonce)

    def judge(self, proof: Proof, ident: Ident | None, *, in_session: bool) -> Proven | Foreign | Refusal:
        """What an answer proves. ``ident`` is what the dock last said of itself on this link."""
        if self._asked_at is None:
            return Refusal.LATE
        if self._good(proof, self._nonce, self._serial, self._vehicle_id):
            # Once only: opening a session twice from one answer would let its frames be replayed.
            if self._answered:
                return Refusal.LATE
            self._answered, self._wanted, self._bad_macs = True, False, 0
            key = session_key(self._key, self._nonce, proof.dock_nonce)
            return Proven(Session(key, Direction.TO_DOCK), self._asked_at)
        if ident is not None and self._good(proof, self._nonce, ident.dock_serial, ident.vehicle_id):
            if self._answered:
                return Refusal.LATE
            self._answered = True
            other_dock = ident.dock_serial != self._serial
            reason = ForeignReason.OTHER_DOCK if other_dock else ForeignReason.OTHER_VEHICLE
            return Foreign(reason, self._asked_at)
        if any(self._good(proof, nonce, self._serial, self._vehicle_id) for nonce in self._older):
            return Refusal.LATE
        if in_session or self._counted_bad:
            return Refusal.MAC
        self._counted_bad = True
        self._bad_macs += 1
        if self._bad_macs < BAD_MACS:
            return Refusal.MAC
        return Foreign(ForeignReason.BAD_MAC, self._asked_at)

    def _good(self, proof: Proof, nonce: bytes, dock_serial: bytes, vehicle_id: bytes) -> bool:
        mac = proof_mac(self._key, nonce, proof.dock_nonce, dock_serial, vehicle_id, proof.status_counter)
        return same(mac, proof.mac)
