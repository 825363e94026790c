"""The one line of JSON that a program of evidence prints."""

from __future__ import annotations

import json
import os
import platform
import sqlite3

NOT_NOW = 75  # EX_TEMPFAIL of sysexits.h: a time did not hold; something else may have had the machine


def state(
    claim: str,
    value: float,
    unit: str,
    goal: float,
    *,
    holds: bool,
    seed: int | None = None,
    timed: bool = False,
) -> int:
    """Print the line; return the exit status: 0 when the claim holds, else 1, NOT_NOW if it is ``timed``."""
    line = {
        "claim": claim,
        "value": round(value, 4),
        "unit": unit,
        "goal": goal,
        "holds": holds,
        "machine": machine(),
        "seed": seed,
    }
    print(json.dumps(line), flush=True)
    if holds:
        return 0
    return NOT_NOW if timed else 1


def not_measured(claim: str, why: str) -> int:
    """Print that this machine cannot say, and why; the exit status is 0: nothing was shown not to hold."""
    print(json.dumps({"claim": claim, "holds": None, "why": why, "machine": machine()}), flush=True)
    return 0


def machine() -> str:
    """Enough of the machine to read a figure by: cores, Python, SQLite, kernel."""
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} {platform.release()} {platform.machine()}"
    )
