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


def ford() -> Profile:
    """Ford with BodyInfo_3_FD1."""
    return _shipped("ford.toml")


def hyundai_kia() -> Profile:
    """Hyundai and Kia with classic CAN."""
    return _shipped("hyundai_kia.toml")


def psa() -> Profile:
    """PSA's AEE2010 architecture."""
    return _shipped("psa.toml")


def gm() -> Profile:
    """General Motors Global A."""
    return _shipped("gm.toml")


def bmw_e9x() -> Profile:
    """BMW E8x and E9x."""
    return _shipped("bmw_e9x.toml")


def obd2() -> Profile:
    """OBD-II answers that another device asked for."""
    return _shipped("obd2.toml")


def generic() -> Profile:
    """No CAN at all."""
    return _shipped("generic.toml")


def _shipped(file: str) -> Profile:
    from drivers.vehicles.profile import load  # only what the configuration names is imported

    return load(HERE / file)
