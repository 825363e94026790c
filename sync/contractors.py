"""Contractors' tokens, as this tablet takes them: signed by one of its keys, for its fleet, naming it."""

from __future__ import annotations

from collections.abc import Sequence

from sync.documents import ContractorToken
from sync.errors import RemoteProtocolError
from sync.keys import Verifier
from sync.signed import unseal


class ContractorTokens:
    def __init__(self, fleet: str, device: str, keys: Sequence[Verifier]) -> None:
        self._fleet = fleet
        self._device = device
        self._keys = keys

    def read(self, text: str) -> ContractorToken:
        """The token in ``text``.

        Raises:
            ValueError: it is no token, not good, or not for this tablet.
        """
        try:
            token = unseal(text, (ContractorToken,), self._keys)
        except RemoteProtocolError as error:
            raise ValueError(str(error)) from None
        if token.fleet != self._fleet or self._device not in token.devices:
            raise ValueError(
                f"it is for {', '.join(token.devices)} of fleet {token.fleet}; "
                f"this is {self._device} of {self._fleet}"
            )
        return token
