"""The tablet's own supplies as its agent sees them: what ``drivers.ports.power_supply`` tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from agent.core.types import BootNs, Observation, TabletPower
from simulator.tablet import Tablet
from simulator.virtual.loop import VirtualLoop

POLL_S = 30.0  # as drivers.ports.power_supply
LEAST_INTERVAL_S = 0.5  # as drivers.ports.power_supply


class MemorySupply:
    """Looks every so often, and when udev would say that a supply came or went."""

    def __init__(
        self,
        loop: VirtualLoop,
        body: Tablet,
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
    ) -> None:
        self._loop = loop
        self._body = body
        self._observe = observe
        self._now = now
        self._last: TabletPower | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._look()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def changed(self) -> None:
        """A supply came or went."""
        self._loop.enter(self._soon)

    def _soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(LEAST_INTERVAL_S, self._look)

    def _look(self) -> None:
        body = self._body
        seen = TabletPower(
            self._now(),
            external=body.supply_mv > 0,
            percent=body.percent,
            battery_ma=body.battery_mw * 1000 // body.battery_mv,
            battery_mv=body.battery_mv,
            temperature_dc=body.temperature_dc,
        )
        if self._last is None or replace(self._last, at=seen.at) != seen:
            self._last = seen
            self._observe(seen)
        self._timer = self._loop.call_later(POLL_S, self._look)
