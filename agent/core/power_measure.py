"""What power decisions rest on: the filtered vehicle supply, the tablet's battery, answers."""

from __future__ import annotations

from agent.core import power_energy as energy
from agent.core import power_rest as rest
from agent.core.battery import limits_now
from agent.core.evolve import evolve
from agent.core.ignition_words import BATTERY, crank_open
from agent.core.policy import Policy, PowerPolicy
from agent.core.state import Ignition, Power, PowerMode
from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CanSignal,
    DockHint,
    DockStatus,
    Drained,
    Observation,
    PowerOutcome,
    PowerVerb,
    ShutdownSignal,
    TabletPower,
)

HOT_LESS_C = 5  # ours: what was hot is so until it is this much cooler
COLD_MORE_C = 3  # ours: what was cold is so until it is this much warmer


def take(power: Power, obs: Observation, now: BootNs, ignition: Ignition, policy: Policy) -> Power:
    """The power state with one more measurement or answer. Decides nothing."""
    match obs:
        case CanSignal():
            return take_signal(power, obs, now, ignition, policy)
        case DockStatus(authenticated=True):
            return take_status(power, obs, now, ignition, policy)
        case DockHint(vehicle_mv=int(mv)) if ignition.mv_hinted:
            return _sample(power, power.dock, mv, now, ignition, policy)
        case TabletPower():
            return _take_tablet(power, obs, now, policy.power)
        case Drained():
            return evolve(power, drained=True)
        case PowerOutcome(ok=False, verb=verb) if verb is not PowerVerb.REBOOT:
            mode = PowerMode.SLEEPING if verb is PowerVerb.SUSPEND else PowerMode.POWERING_OFF
            return evolve(power, failed=power.mode is mode)
        case ShutdownSignal(starting=False):
            return evolve(power, failed=power.mode is PowerMode.POWERING_OFF)
        case _:
            return power


def take_status(power: Power, obs: DockStatus, now: BootNs, ignition: Ignition, policy: Policy) -> Power:
    """What ``take`` does with an authenticated STATUS."""
    power = energy.measured(power, obs, now, policy)
    return _sample(power, obs, obs.vehicle_mv, now, ignition, policy)


def take_signal(power: Power, obs: CanSignal, now: BootNs, ignition: Ignition, policy: Policy) -> Power:
    """The battery as CAN reports it, which counts only where the dock says nothing."""
    if obs.kind is not BATTERY:
        return power
    dock = ignition.dock_mv
    silent = dock is None or not dock.fresh(now, policy.ignition.voltage_fresh_ms * MS)
    if not silent or not isinstance(obs.value, int):
        return power
    return _sample(power, power.dock, obs.value, now, ignition, policy)


def _sample(
    power: Power, dock: DockStatus | None, mv: int | None, now: BootNs, ignition: Ignition, policy: Policy
) -> Power:
    """Low-pass the vehicle supply; the dips of a crank are kept out."""
    if mv is None or (ignition.crank is not None and crank_open(ignition, now, policy.ignition)):
        return evolve(power, dock=dock)
    limits = limits_now(power.limits, policy.power, None if dock is None else dock.temperature_dc)
    gap = now - power.sampled_at
    filtered = mv * 1000
    warn, act, restored = power.below_warn_since, power.below_act_since, power.restored_since
    low = power.low_charge_since
    if power.filtered_uv is None or gap >= policy.ignition.voltage_fresh_ms * MS:
        warn = act = restored = low = None
    else:
        filtered = power.filtered_uv + (filtered - power.filtered_uv) * gap // (
            policy.power.filter_s * SECOND + gap or 1
        )
    # Once below, it is below until it has risen by more than ripple and noise.
    warn_mv = limits.warn_mv + (limits.hysteresis_mv if warn is not None else 0)
    act_mv = limits.act_mv + (limits.hysteresis_mv if act is not None else 0)
    unrested = rest.unrested_at(power, dock, mv, now, ignition, policy)
    charge = rest.known(unrested, filtered, now, ignition, limits, policy.power)
    low_charge = rest.at_floor(power, charge, policy.power)
    return evolve(
        power,
        dock=dock,
        unrested_at=unrested,
        charge_percent=charge,
        low_charge_since=_since(low, now, true=low_charge),
        limits=limits,
        filtered_uv=filtered,
        sampled_at=now,
        below_warn_since=_since(warn, now, true=filtered < warn_mv * 1000),
        below_act_since=_since(act, now, true=filtered < act_mv * 1000),
        restored_since=_since(restored, now, true=filtered >= limits.restore_mv * 1000),
    )


def locked(power: Power, since: BootNs | None) -> Power:
    """The power state of a tablet that is locked since then, or (None) usable."""
    return evolve(power, locked_since=since)


def stirred(before: Power, after: Power) -> bool:
    """Whether the supply, measured once more, passed a threshold, or another piece of energy was taken."""
    return (
        after.below_warn_since != before.below_warn_since
        or after.below_act_since != before.below_act_since
        or after.restored_since != before.restored_since
        or after.low_charge_since != before.low_charge_since
        or after.spent_uj // energy.STEP_UJ != before.spent_uj // energy.STEP_UJ
    )


def _since(before: BootNs | None, now: BootNs, *, true: bool) -> BootNs | None:
    if not true:
        return None
    return now if before is None else before


def _take_tablet(power: Power, obs: TabletPower, now: BootNs, policy: PowerPolicy) -> Power:
    discharging = obs.battery_ma < 0 if obs.battery_ma is not None else obs.external is not True
    percent = 100 if obs.percent is None or not discharging else obs.percent
    hot = obs.temperature_dc is not None and obs.temperature_dc >= (
        (policy.hot_degc - (HOT_LESS_C if power.hot_since is not None else 0)) * 10
    )
    cold = obs.temperature_dc is not None and obs.temperature_dc <= (
        (policy.cold_degc + (COLD_MORE_C if power.cold_since is not None else 0)) * 10
    )
    return evolve(
        power,
        tablet=obs,
        cold_since=_since(power.cold_since, now, true=cold),
        hot_since=_since(power.hot_since, now, true=hot),
        floor_since=_since(power.floor_since, now, true=percent <= policy.floor_percent),
        hard_floor_since=_since(power.hard_floor_since, now, true=percent <= policy.hard_floor_percent),
    )
