"""Vehicle profiles: which CAN frame carries which signal. docs/adding-a-vehicle.md says how to add one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivers.vehicles.codec import Profile

HERE = Path(__file__).parent


def vw_mqb() -> Profile:
    """Volkswagen group, MQB platform."""
    return _shipped("vw_mqb.toml")


def j1939() -> Profile:
    """Heavy vehicles that speak SAE J1939."""
    return _shipped("j1939.toml")


def _shipped(file: str) -> Profile:
    from drivers.vehicles.profile import load  # only what the configuration names is imported

    return load(HERE / file)
