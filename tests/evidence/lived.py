"""A vehicle's days, lived on one core: what they cost, with every invariant and the coverage watched."""

from __future__ import annotations

import statistics
import time

from simulator import compose_soak
from simulator.virtual.lives import DAY
from simulator.virtual.plan import Plan


def cpu_s(fidelity: str, habits: str, days: int, seed: int) -> float:
    """CPU seconds of ``days`` without faults, the making of the world included.

    Raises:
        RuntimeError: something was violated; what such a run costs says nothing.
    """
    compose_soak.quieten()
    began = time.process_time()
    drive = compose_soak.Drive(Plan(seed, days, fidelity, (), habits))
    outcome = drive.run(stop=lambda _violations, now: now >= days * DAY)
    spent = time.process_time() - began
    if outcome.violations:
        raise RuntimeError(f"seed {seed} violated {outcome.violations[0]}")
    return spent


def median_cpu_s(fidelity: str, habits: str, days: int, seed: int, trials: int) -> float:
    """Of so many trials of the same life: what else the machine does only ever adds."""
    return statistics.median(cpu_s(fidelity, habits, days, seed) for _ in range(trials))
