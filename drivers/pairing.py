"""A dock's port while its key is set or cleared: each question of a ``PairingSession`` as a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.core.types import BootNs, DockIdent, PairAnswer
from drivers.ports.serial import SerialLink
from drivers.spec import DockSession, DockSpec, Entropy, PairingSession

# Ours: more than any question takes with all its tries.
PATIENCE_S = 10.0


class PairingPort:
    """One port, from being made until ``close``. Nothing that happens here reaches the core.

    Raises:
        LookupError: the model has no key to be given.
    """

    def __init__(
        self,
        spec: DockSpec,
        locate: Callable[[], str | None],
        now: Callable[[], BootNs],
        entropy: Entropy,
        tapped: Callable[[DockSession], DockSession],
    ) -> None:
        if spec.pairing is None:
            raise LookupError(f"docks of the model {spec.model} hold no key: there is nothing to pair")
        self._answer: asyncio.Future[PairAnswer | DockIdent] | None = None
        self._session: PairingSession = spec.pairing(entropy, self._told)
        self._now = now
        self._link = SerialLink(tapped(self._session), locate, lambda _observation: None, now, spec.baud)
        self._link.start()

    @property
    def path(self) -> str | None:
        """The port that is open; None: it could not be opened."""
        return self._link.path

    def close(self) -> None:
        self._link.close()

    async def identify(self) -> DockIdent | None:
        """Who answers; None: nobody."""
        answer = await self._ask(lambda: self._session.ask_ident(self._now()))
        return answer if isinstance(answer, DockIdent) else None

    async def prove(self, key: bytes, serial: str, vehicle_id: str) -> PairAnswer:
        return await self._verdict(lambda: self._session.ask_proof(key, serial, vehicle_id, self._now()))

    async def pair(self, key: bytes, vehicle_id: str) -> PairAnswer:
        return await self._verdict(lambda: self._session.ask_pair(key, vehicle_id, self._now()))

    async def unpair(self) -> PairAnswer:
        return await self._verdict(lambda: self._session.ask_unpair(self._now()))

    async def _verdict(self, ask: Callable[[], None]) -> PairAnswer:
        answer = await self._ask(ask)
        return answer if isinstance(answer, PairAnswer) else PairAnswer.SILENT

    async def _ask(self, ask: Callable[[], None]) -> PairAnswer | DockIdent:
        self._answer = asyncio.get_running_loop().create_future()
        ask()
        self._link.nudge()
        try:
            return await asyncio.wait_for(self._answer, PATIENCE_S)
        except TimeoutError:
            return PairAnswer.SILENT
        finally:
            self._answer = None

    def _told(self, answer: PairAnswer | DockIdent) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)
