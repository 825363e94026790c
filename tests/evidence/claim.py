"""The one line of JSON that a program of evidence prints."""

from __future__ import annotations

import json
import os
import platform
import sqlite3


def state(claim: str, value: float, unit: str, goal: float, *, holds: bool, seed: int | None = None) -> int:
    """Print the line; return the exit status, 0 when the claim holds."""
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
    return 0 if holds else 1


def machine() -> str:
    """Enough of the machine to read a figure by: cores, Python, SQLite, kernel."""
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} {platform.release()} {platform.machine()}"
    )
