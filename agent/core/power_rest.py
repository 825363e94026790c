"""The charge of the vehicle's battery by its voltage at rest, chemistry and temperature, in per cent.

A voltage counts as one at rest only with the ignition off, the policy's time (``rest_s``) after the last
sign of charge or of use, and while the tablet takes little. Until then, and where a chemistry's voltage tells
nothing, the charge is unknown; it is never guessed from a voltage under load.
"""

from __future__ import annotations

from bisect import bisect_right

from agent.core.battery import COLD_MOST_DEGREES, REFERENCE_C, Limits
from agent.core.policy import Policy
from agent.core.power_policy import Chemistry, PowerPolicy
from agent.core.state import IN_USE, Ignition, IgnitionState, Power
from agent.core.types import SECOND, BootNs, DockStatus

REST_MA = 1_400  # ours: what a tablet may take while its battery rests, a fiftieth of 70 Ah in an hour
RISEN_MV = 50  # ours: what stands higher than this after a time without a report was charged meanwhile
COLD_PERMILLE_PER_DEGREE = 6  # ours: what a lead-acid battery gives less for each degree below 25 degC
AGAIN_PERCENT = 3  # ours: a charge that was at its floor is so until it is this much above

# Resting mV of one 12 V battery at per cent, in order. Between two points it is linear.
# Facts (forum figures) down to 12.0 V and 30 %; what lies below is ours, as in the simulator.
_FLOODED = ((11_700, 0), (12_000, 25), (12_200, 50), (12_400, 75), (12_700, 100))
_AGM = ((11_400, 0), (11_800, 30), (12_100, 50), (12_300, 70), (12_700, 100))
# Ours: nearly level from 20 to 90 %, so that a voltage in there says no more than that.
_LIFEPO4 = ((12_000, 0), (12_800, 10), (13_000, 20))
CURVES = {
    Chemistry.FLOODED: _FLOODED, Chemistry.EFB: _FLOODED, Chemistry.AGM: _AGM, Chemistry.LIFEPO4: _LIFEPO4,
}  # fmt: skip


def charge_percent(policy: PowerPolicy, rest_mv: int, celsius: int) -> int | None:
    """What a rested battery has to give, of what it gives full at 25 degC; None: its voltage does not tell.

    ``rest_mv`` is the vehicle's, so of two batteries at 24 V.
    """
    curve = CURVES[policy.chemistry]
    mv = rest_mv // max(1, policy.system_v // 12)
    if policy.chemistry is Chemistry.LIFEPO4:
        if mv > curve[-1][0]:
            return None
        return _between(curve, mv)
    colder = min(max(0, REFERENCE_C - celsius), COLD_MOST_DEGREES)
    return _between(curve, mv) * (1000 - COLD_PERMILLE_PER_DEGREE * colder) // 1000


def _between(curve: tuple[tuple[int, int], ...], mv: int) -> int:
    if mv <= curve[0][0]:
        return curve[0][1]
    if mv >= curve[-1][0]:
        return curve[-1][1]
    at = bisect_right(curve, (mv, 100))
    (low_mv, low), (high_mv, high) = curve[at - 1], curve[at]
    return low + (high - low) * (mv - low_mv) // (high_mv - low_mv)


def unrested_at(
    power: Power, dock: DockStatus | None, mv: int, now: BootNs, ignition: Ignition, policy: Policy
) -> BootNs:
    """When the battery last was not at rest, with one more voltage of the vehicle (mV) at ``now``."""
    unknown = power.unknown_since
    if (
        ignition.state in IN_USE
        or mv >= policy.ignition.charging_mv
        or (dock is not None and dock.tablet_ma is not None and abs(dock.tablet_ma) > REST_MA)
        or power.filtered_uv is None
        or (unknown is not None and now >= unknown + policy.power.unknown_s * SECOND)
    ):
        return now
    unseen = now - power.sampled_at >= policy.ignition.voltage_fresh_ms * 1_000_000
    risen_uv = RISEN_MV * 1000 * max(1, policy.power.system_v // 12)
    if unseen and mv * 1000 > power.filtered_uv + risen_uv:
        return now
    return power.unrested_at


def known(
    unrested: BootNs, filtered_uv: int, now: BootNs, ignition: Ignition, limits: Limits, policy: PowerPolicy
) -> int | None:
    """The charge, in per cent, if the battery has rested for long enough."""
    if ignition.state is not IgnitionState.OFF or now < unrested + policy.rest_s * SECOND:
        return None
    return charge_percent(policy, filtered_uv // 1000, limits.celsius)


def at_floor(power: Power, percent: int | None, policy: PowerPolicy) -> bool:
    """Whether a known charge is at its floor, with hysteresis."""
    if percent is None or not policy.charge_floor_percent:
        return False
    return percent <= policy.charge_floor_percent + (
        AGAIN_PERCENT if power.low_charge_since is not None else 0
    )
