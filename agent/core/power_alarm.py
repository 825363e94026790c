"""When a tablet that goes to sleep in its run-on is to wake by itself, to sync or to power off in time.

Pure. An alarm is planned only if what the sleep and the time awake take, by the model, fits into what is left
of the energy budget, and the vehicle's battery is not known to be low.
"""

from __future__ import annotations

from agent.core.policy import PowerPolicy
from agent.core.power_energy import WH_UJ
from agent.core.state import Power
from agent.core.types import SECOND, BootNs

LEAST_S = 60  # ours: an alarm sooner than this could pass before the machine sleeps


def planned(power: Power, now: BootNs, policy: PowerPolicy) -> BootNs | None:
    """The time of the alarm for a sleep that begins now; None: none, it sleeps until somebody wakes it."""
    since = power.run_on_since
    if not policy.wake_sync_s or since is None or _weak(power):
        return None
    off_at = max(since + policy.max_s * SECOND, now + LEAST_S * SECOND)
    at = BootNs(min(now + policy.wake_sync_s * SECOND, off_at))
    return at if power.spent_uj + needs_uj(at - now, policy) <= policy.budget_wh * WH_UJ else None


def needs_uj(asleep_ns: int, policy: PowerPolicy) -> int:
    """What a sleep of that length and the time awake after it take from the vehicle, uJ, by the model."""
    awake_ns = (policy.resume_awake_s + max(policy.suspend_drain_s, policy.drain_s)) * SECOND
    return (policy.model_asleep_mw * asleep_ns + policy.model_awake_mw * awake_ns) // 1_000_000


def _weak(power: Power) -> bool:
    return power.shedding or any(
        since is not None for since in (power.below_warn_since, power.below_act_since, power.low_charge_since)
    )
