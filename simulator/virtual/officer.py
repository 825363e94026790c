"""What an officer asks a tablet for, as the agent hears of it once sessions and signatures were checked."""

from __future__ import annotations

from agent.core.types import SECOND, BootNs, Observation, OverrideTaken, PermitPresented, Scope
from simulator.faults.knobs import Wish

LOG_IN_NS = 3 * SECOND  # ours: from the answer on the screen to the session
UID = 1000


def asked(wish: Wish, at: BootNs) -> Observation:
    """The observation that a wish becomes, at a boot time."""
    if not wish.number:
        return OverrideTaken(at, UID)
    return PermitPresented(at, f"permit-{wish.number}", wish.number, Scope.UNDOCKED, wish.minutes)
