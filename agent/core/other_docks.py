"""Two docks at once: the one that the tablet is provably in counts; another takes over when it is lost."""

from __future__ import annotations

from agent.core.catalogue import FOREIGN_DOCK
from agent.core.evolve import evolve
from agent.core.policy import TetherPolicy
from agent.core.state import Reading, Tether
from agent.core.types import SECOND, BootNs, DockForeign, Effects, Write


def stand_by(tether: Tether, dock: str, proof_at: BootNs) -> Tether:
    """Another dock proved itself while the tablet is provably in one."""
    return evolve(tether, spare=Reading(dock, proof_at))


def take_over(tether: Tether, dock: str, now: BootNs, policy: TetherPolicy) -> Tether:
    """The dock whose proof stands by is the one from now on, if it is still fresh; its status comes next."""
    spare = tether.spare
    if spare is None or spare.value != dock or spare.at < tether.barrier:
        return tether
    if not spare.fresh(now, policy.proof_fresh_s * SECOND):
        return tether
    return turn_to(tether, dock, spare.at)


def turn_to(tether: Tether, dock: str, proof_at: BootNs) -> Tether:
    """Nothing that another dock said counts for this one."""
    return evolve(
        tether, dock=dock, proof_at=proof_at, good_at=None, word_at=proof_at, unseated=False, status=None,
        spare=None,
    )  # fmt: skip


def meet(tether: Tether, foreign: DockForeign, now: BootNs) -> tuple[Tether, Effects]:
    """A foreign dock beside the one that the tablet is in: one alarm for each, and nothing else."""
    if foreign.dock in tether.strangers:
        return tether, ()
    record = FOREIGN_DOCK.make(now, dock=foreign.dock, reason=foreign.reason.value)
    return evolve(tether, strangers=(*tether.strangers, foreign.dock)), (Write(record),)
