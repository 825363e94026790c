"""What reaches a tablet by hand or by voice, checked by its keys: documents become observations of the core.

The core sees neither a signature nor an answer to a challenge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.core.types import (
    BootNs,
    DocumentRefused,
    GrantsRevoked,
    Observation,
    OverrideRefilled,
    PermitPresented,
    Scope,
)
from sync import codes
from sync.documents import Permit, Refill, Revocation, TabletPaper
from sync.errors import RemoteProtocolError
from sync.keys import Verifier
from sync.signed import unseal

_KINDS: tuple[type[TabletPaper], ...] = (Permit, Revocation, Refill)


class Papers:
    """Reads permits, revocations and refills for one tablet, signed by one of ``keys``."""

    def __init__(self, fleet: str, device: str, keys: Sequence[Verifier]) -> None:
        self._fleet = fleet
        self._device = device
        self._keys = keys

    def read(self, text: str, at: BootNs) -> Observation:
        """What a document asks for; ``DocumentRefused`` if it is not good, or for another tablet."""
        try:
            paper = unseal(text, _KINDS, self._keys)
        except RemoteProtocolError as error:
            return DocumentRefused(at, error.reason, str(error))
        if (paper.fleet, paper.device) != (self._fleet, self._device):
            return DocumentRefused(
                at,
                "other_tablet",
                f"it is for tablet {paper.device} of fleet {paper.fleet}; "
                f"this is {self._device} of {self._fleet}",
            )
        match paper:
            case Permit():
                return PermitPresented(at, paper.id, paper.number, Scope(paper.scope), paper.minutes)
            case Revocation():
                return GrantsRevoked(at, "document", paper.upto)
            case Refill():
                return OverrideRefilled(at, paper.id, paper.number)
            case _:
                raise TypeError(f"no reading of {paper.LABEL}; add one in sync/papers.py")


class ShortCodes:
    """Challenges, and the verdict on answers, under this tablet's code key."""

    def __init__(self, key: bytes, entropy: Callable[[int], bytes]) -> None:
        self._key = key
        self._entropy = entropy

    def challenge(self) -> str:
        return codes.challenge(self._entropy(5))

    def shown(self, challenge: str) -> str:
        """A challenge as it is read out."""
        return codes.grouped(challenge)

    def can_be_one(self, given: str) -> bool:
        """Whether ``given`` has the form of an answer at all: a slip of the finger is no try."""
        return codes.well_formed(codes.plain(given), codes.ANSWER_CHARS)

    def right(self, given: str, challenge: str, scope: str, minutes: int) -> bool:
        return codes.right(given, self._key, challenge, scope, minutes)
