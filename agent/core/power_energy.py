"""Energy taken from the vehicle since the ignition went off, in uJ: measured by the dock, else from a model.

What the dock reports as the tablet's current at its output is multiplied by its output voltage and divided by
the converter's efficiency. A gap between two reports, and a sleep, count by the model: nobody measured then.
"""

from __future__ import annotations

from agent.core.evolve import evolve
from agent.core.policy import Policy, PowerPolicy
from agent.core.state import Power
from agent.core.types import MS, SECOND, BootNs, DockStatus

WH_UJ = 3_600_000_000
STEP_UJ = WH_UJ // 10  # ours: what is counted is looked at again after each tenth of a watt-hour
TICK_NS = 60 * SECOND  # ours: without reports it is counted anew once a minute


def begun(power: Power, now: BootNs) -> Power:
    """A run-on begins: nothing is taken yet."""
    return evolve(power, spent_uj=0, modelled_uj=0, counted_at=now)


def measured(power: Power, obs: DockStatus, now: BootNs, policy: Policy) -> Power:
    """One report of the dock: what it measures counts for the time since the last one."""
    if power.run_on_since is None:
        return power
    if obs.tablet_ma is None or obs.dock_mv is None:
        return power  # the model's turn comes with the next tick
    gap = now - power.counted_at
    if gap <= 0:
        return power
    if gap > policy.ignition.voltage_fresh_ms * MS:
        return modelled(power, now, policy.power)
    # A tablet that feeds back gives the vehicle nothing: the converter is a one-way street.
    milliwatts = max(0, obs.tablet_ma) * obs.dock_mv * 100 // (1000 * policy.power.efficiency_percent)
    return evolve(power, spent_uj=power.spent_uj + milliwatts * gap // 1_000_000, counted_at=now)


def modelled(power: Power, now: BootNs, policy: PowerPolicy, *, asleep: bool = False) -> Power:
    """The time since the last count by the model."""
    gap = now - power.counted_at
    if power.run_on_since is None or gap <= 0:
        return power
    rate_mw = policy.model_asleep_mw if asleep else policy.model_awake_mw
    taken = rate_mw * gap // 1_000_000
    return evolve(
        power, spent_uj=power.spent_uj + taken, modelled_uj=power.modelled_uj + taken, counted_at=now
    )


def ticked(power: Power, now: BootNs, policy: Policy, *, asleep: bool) -> Power:
    """Without a report for a whole tick the model counts."""
    if power.run_on_since is None or now < power.counted_at + TICK_NS:
        return power
    return modelled(power, now, policy.power, asleep=asleep)


def over(power: Power, policy: PowerPolicy) -> bool:
    """Whether the budget is used up."""
    return power.run_on_since is not None and power.spent_uj >= policy.budget_wh * WH_UJ


def next_tick(power: Power, now: BootNs) -> BootNs | None:
    """When it is looked at again: on a grid that no evidence moves."""
    since = power.run_on_since
    return None if since is None else BootNs(since + ((now - since) // TICK_NS + 1) * TICK_NS)


def words(power: Power, policy: PowerPolicy) -> tuple[str, str]:
    """What was taken, and by what it is known."""
    tenths = power.spent_uj * 10 // WH_UJ
    value = f"{tenths // 10}.{tenths % 10} Wh of {policy.budget_wh} Wh"
    if not power.modelled_uj:
        return value, "measured by the dock"
    if power.modelled_uj == power.spent_uj:
        return value, "by the model; the dock reports no current"
    share = 100 * power.modelled_uj // power.spent_uj
    return value, f"measured by the dock, {share} % by the model"
