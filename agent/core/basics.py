"""Time and the lease: the words of the vocabulary that the guard needs too, which imports little else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

BootNs = NewType("BootNs", int)
MS = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND


@dataclass(frozen=True, slots=True)
class Lease:
    """Leave to use the tablet until a time, as the guard holds it; the guard locks when it runs out.

    ``decision`` is the change of enforcement that made the tablet usable, ``evidence_at`` the last full
    evidence that the agent had when it gave the lease.
    """

    decision: int
    until: BootNs
    evidence_at: BootNs
