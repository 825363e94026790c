"""The vehicle's battery as its chemistry, temperature and system voltage make it: when to warn, act, restore.

Figures are for one 12 V battery; two are in series at 24 V. Sources: 2-behaviour for what they depend on, the
resting tables of facts (forum figures) for lead-acid; where the thresholds lie in them is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.power_policy import Chemistry, PowerPolicy

REFERENCE_C = 25
COLD_MV_PER_DEGREE = 8  # ours: a cold engine takes more to crank, so more is left in a lead-acid battery
COLD_MOST_DEGREES = 50  # ours: what is colder than -25 degC counts as that


@dataclass(frozen=True, slots=True)
class Chemical:
    """Thresholds at 25 degC, and how far a supply must rise above one before it is no longer below it."""

    warn_mv: int
    act_mv: int
    restore_mv: int
    hysteresis_mv: int
    cold_mv_per_degree: int


CHEMICALS = {
    # Facts: 12.0 V or less is discharged; restore as 2-behaviour.
    Chemistry.FLOODED: Chemical(12_000, 11_500, 13_200, 100, COLD_MV_PER_DEGREE),
    Chemistry.EFB: Chemical(12_050, 11_600, 13_200, 100, COLD_MV_PER_DEGREE),
    # Facts: an AGM battery at 12.1 V is half full, at 11.8 V 30 %.
    Chemistry.AGM: Chemical(12_000, 11_700, 13_200, 100, COLD_MV_PER_DEGREE),
    # Ours: flat around 13 V, and empty soon below 12.5 V; its voltage hardly follows temperature.
    Chemistry.LIFEPO4: Chemical(12_900, 12_500, 13_700, 50, 0),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds in force. ``policy`` and ``celsius`` are what they were made for."""

    policy: PowerPolicy
    celsius: int
    warn_mv: int
    act_mv: int
    restore_mv: int
    hysteresis_mv: int


def limits_at(policy: PowerPolicy, celsius: int) -> Limits:
    """The thresholds at a temperature; what policy names itself is taken as it is."""
    chemical = CHEMICALS[policy.chemistry]
    batteries = max(1, policy.system_v // 12)
    colder = min(max(0, REFERENCE_C - celsius), COLD_MOST_DEGREES)
    cold_mv = colder * chemical.cold_mv_per_degree
    return Limits(
        policy,
        celsius,
        warn_mv=policy.warn_mv or (chemical.warn_mv + cold_mv) * batteries,
        act_mv=policy.act_mv or (chemical.act_mv + cold_mv) * batteries,
        restore_mv=policy.restore_mv or chemical.restore_mv * batteries,
        hysteresis_mv=chemical.hysteresis_mv * batteries,
    )


def limits_now(standing: Limits | None, policy: PowerPolicy, temperature_dc: int | None) -> Limits:
    """The thresholds for a measured temperature (0.1 degC), or without one as they stand."""
    if temperature_dc is None:
        celsius = REFERENCE_C if standing is None else standing.celsius
    else:
        celsius = temperature_dc // 10
    if standing is not None and standing.policy is policy and standing.celsius == celsius:
        return standing
    return limits_at(policy, celsius)
