"""A vehicle with no agent in it: what its battery goes through with no tablet, or under plain rules.

The same acts and the same physics as in the world of decisions, without anything that listens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.core.types import MINUTE, SECOND, BootNs, KeyPosition
from simulator.electrics import MAINS_CHARGER
from simulator.tablet import Power, Tablet
from simulator.vehicle import Vehicle, VehicleSpec
from simulator.virtual.acts import Act, Verb

DOCK_MV = 12_000  # as simulator.virtual.physics
AWAKE_STEP_NS = 10 * SECOND  # ours: while something may decide
QUIET_STEP_NS = 10 * MINUTE
# Facts: openpilot's rules, 11.8 V through a 45 s low-pass for 300 s, 30 Wh, 30 h.
PLAIN_MV, PLAIN_FILTER_S, PLAIN_LOW_NS = 11_800, 45, 300 * SECOND
PLAIN_UJ, PLAIN_MAX_NS = 30 * 3600 * 1_000_000, 30 * 3600 * SECOND


class Rules(Protocol):
    """What decides whether the tablet stays on with the ignition off."""

    def stays_on(self, now: BootNs, vehicle: Vehicle, drawn_uj: int) -> bool:
        """``drawn_uj``: taken from the vehicle since the ignition went off."""
        ...


class NoTablet:
    """Nothing is in the dock."""

    def stays_on(self, now: BootNs, vehicle: Vehicle, drawn_uj: int) -> bool:
        return False


class PlainRules:
    """Off below 11.8 V for five minutes, after 30 Wh, or after 30 h."""

    def __init__(self) -> None:
        self._off_at: BootNs | None = None
        self._filtered: float | None = None
        self._at = BootNs(0)
        self._low_since: BootNs | None = None

    def stays_on(self, now: BootNs, vehicle: Vehicle, drawn_uj: int) -> bool:
        mv, seconds = vehicle.vehicle_mv, (now - self._at) / SECOND
        share = min(1.0, seconds / PLAIN_FILTER_S)
        self._filtered = mv if self._filtered is None else self._filtered + share * (mv - self._filtered)
        self._at = now
        if vehicle.kl15:
            self._off_at = self._low_since = None
            return True
        self._off_at = now if self._off_at is None else self._off_at
        if self._filtered >= PLAIN_MV:
            self._low_since = None
        elif self._low_since is None:
            self._low_since = now
        low = self._low_since is not None and now - self._low_since >= PLAIN_LOW_NS
        return not low and drawn_uj < PLAIN_UJ and now - self._off_at < PLAIN_MAX_NS


class BareVehicle:
    """Lives a life; read ``vehicle.failed_starts`` afterwards."""

    def __init__(self, seed: int, spec: VehicleSpec, rules: Rules) -> None:
        self.vehicle = Vehicle(BootNs(0), spec, seed)
        self._tablet = None if isinstance(rules, NoTablet) else Tablet(BootNs(0))
        self._rules = rules
        self._drawn_uj = 0

    def live(self, acts: Sequence[Act], until: BootNs) -> None:
        for act in acts:
            self._pass(BootNs(min(act.at_ns, until)))
            if act.at_ns > until:
                return
            self._do(act)
        self._pass(until)

    def _pass(self, until: BootNs) -> None:
        vehicle = self.vehicle
        while vehicle.at < until:
            step = AWAKE_STEP_NS if self._tablet is not None and self._on else QUIET_STEP_NS
            times = [vehicle.at + step, int(until)]
            if (change := vehicle.next_change()) is not None:
                times.append(max(change, vehicle.at + 1))
            self._step(BootNs(min(times)))

    @property
    def _on(self) -> bool:
        return self._tablet is not None and self._tablet.power is Power.ON

    def _step(self, to: BootNs) -> None:
        vehicle, tablet = self.vehicle, self._tablet
        if not vehicle.kl15:
            seconds = (to - vehicle.at) / SECOND
            self._drawn_uj += round(vehicle.tablet_ma * vehicle.vehicle_mv * seconds)
        else:
            self._drawn_uj = 0
        vehicle.advance(to)
        if tablet is None:
            return
        tablet.advance(to)
        on = self._rules.stays_on(to, vehicle, self._drawn_uj) and (vehicle.kl15 or self._on)
        tablet.power = Power.ON if on else Power.OFF
        tablet.supply_mv = DOCK_MV if on else 0
        vehicle.tablet_ma = tablet.supply_ma

    def _do(self, act: Act) -> None:
        vehicle = self.vehicle
        match act.verb, act.value:
            case Verb.KEY, KeyPosition() as position:
                vehicle.turn_key(position)
            case Verb.PULL_KEY, _:
                vehicle.pull_key()
            case Verb.RUN_LOCK, _:
                vehicle.pull_key(run_lock=True)
            case Verb.CRANK, str() as profile:
                vehicle.crank(profile)
            case (Verb.STOP_ENGINE | Verb.GO_ON) as verb, _:
                vehicle.stop_start(stopped=verb is Verb.STOP_ENGINE)
            case Verb.DRIVE, int() as speed_dkmh:
                vehicle.drive(speed_dkmh)
            case Verb.BLUE_LIGHTS, int() as ma:
                vehicle.blue_lights_ma = ma
            case Verb.CHARGER, on:
                vehicle.charger = MAINS_CHARGER if on else None
            case Verb.ALTERNATOR, works:
                vehicle.alternator_works = bool(works)
            case _:
                return  # what is done to the tablet, which here stays in its dock
        self._step(vehicle.at)
