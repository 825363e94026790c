"""Runs the core's effects: each goes to the one part that can do it. Nothing here decides or waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from agent.core.types import (
    AllowSleep,
    Announce,
    BeginLease,
    BootNs,
    CutPowerIn,
    Decision,
    Drain,
    Drained,
    DriveOutputs,
    Effect,
    EndLease,
    Explain,
    GrantKept,
    KeepGrant,
    Lease,
    Lock,
    Observation,
    Prove,
    Release,
    RenewLease,
    RequestPower,
    Shed,
    WakeAt,
)
from agent.enforcement.chain import Chain
from agent.power_actions import PowerActions

# A sleep waits so long for the lock to be verified; within logind's InhibitDelayMaxSec of 5 s (logind.conf).
SLEEP_WAIT_S = 2.0


class DockPort(Protocol):
    """One dock's wire, as far as effects go."""

    def drive(self, outputs: DriveOutputs) -> None: ...
    def cut_power(self, seconds: int | None) -> None: ...
    def prove(self) -> None: ...


class FleetLink(Protocol):
    """The way to the fleet, as far as effects go."""

    def announce(self, what: str) -> None: ...
    def shed(self, on: bool) -> None: ...

    def drain(self, until: BootNs) -> asyncio.Future[int]:
        """Send what can be sent until then; the number of records that are left."""


class LeaseHolder(Protocol):
    """The way to the guard, as far as effects go."""

    def begin(self, lease: Lease) -> None: ...
    def renew(self, lease: Lease) -> None: ...
    def end(self, decision: int, because: str) -> None: ...


class NoFleet:
    """A tablet without a configured broker: records stay, a drain is over at once."""

    def start(self) -> None:
        """Nothing to connect to."""

    async def close(self, timeout_s: float) -> bool:
        return True

    def announce(self, what: str) -> None:
        """Nobody to tell."""

    def shed(self, on: bool) -> None:
        """Nothing to save."""

    def report(self, at: BootNs, accepted: int, generation: int, state: str, detail: str) -> None:
        """Nobody to tell."""

    def drain(self, until: BootNs) -> asyncio.Future[int]:
        drained: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        drained.set_result(0)
        return drained


class Effector:
    """The runtime's hands."""

    def __init__(
        self,
        *,
        chain: Chain,
        power: PowerActions,
        docks: Sequence[DockPort],
        fleet: FleetLink,
        guard: LeaseHolder,
        explained: Callable[[Decision], None],
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
    ) -> None:
        self._chain = chain
        self._power = power
        self._docks = docks
        self._fleet = fleet
        self._guard = guard
        self._explained = explained
        self._observe = observe
        self._now = now

    def run(self, effect: Effect) -> None:
        """Start an effect; what comes of it returns as an observation."""
        match effect:
            case Lock():
                self._chain.lock(effect)
            case Release():
                self._chain.release(effect)
            case RenewLease(lease=lease):
                self._guard.renew(lease)
            case BeginLease(lease=lease):
                self._guard.begin(lease)
            case EndLease(decision=number, cause=cause):
                self._guard.end(number, cause.because)
            case DriveOutputs():
                for dock in self._docks:
                    dock.drive(effect)
            case Prove():
                for dock in self._docks:
                    dock.prove()
            case CutPowerIn(seconds=seconds):
                for dock in self._docks:
                    dock.cut_power(seconds)
            case RequestPower(verb=verb):
                self._power.request(verb)
            case WakeAt(at=at):
                self._power.wake_at(at)
            case AllowSleep():
                self._chain.once_verified(self._power.allow_sleep, SLEEP_WAIT_S)
            case Announce(what=what):
                self._fleet.announce(what)
            case Shed(on=on):
                self._fleet.shed(on)
            case Drain(until=until):
                self._fleet.drain(until).add_done_callback(self._drained)
            case KeepGrant(number=number, kept=kept):
                self._observe(GrantKept(self._now(), number, kept))
            case Explain(decision=decision):
                self._explained(decision)
            case _:
                raise TypeError(f"no runner for {type(effect).__name__}; add one in agent/effects.py")

    def _drained(self, future: asyncio.Future[int]) -> None:
        if not future.cancelled():
            self._observe(Drained(self._now(), future.result()))
