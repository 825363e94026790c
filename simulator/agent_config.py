"""The agent's configuration in a rig: where its simulated hardware is, with short times by policy.

The agent is the same as in a vehicle and so are its clocks: only the policy's numbers are smaller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FLEET, DEVICE = "demo", "tablet-1"
# Short enough for a shift in a minute; each within the policy's bounds. Evidence from the dock keeps the
# times of the field: they bound how fast the real link is.
SHORT_TIMES: Mapping[str, Mapping[str, int]] = {
    "tether": {"return_ms": 200, "start_allowance_s": 10},
    "ignition": {"on_debounce_ms": 200, "off_debounce_ms": 500, "settle_ms": 1000, "crank_quiet_s": 3},
    "power": {
        "run_on_s": 3,
        "max_s": 5,
        "suspend_drain_s": 1,
        "resume_awake_s": 1,
        "drain_s": 2,
        "cut_s": 5,
        "sample_s": 1,
    },
}


@dataclass(frozen=True, slots=True)
class Pairing:
    """What was agreed between tablet and dock in the workshop."""

    serial: str = "DK-000007"
    vehicle_id: str = "WV1ZZZ7HZNH000007"
    key: bytes = bytes(range(32))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a rig keeps what belongs to its tablet and its hardware."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "agent.toml"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def queue(self) -> Path:
        return self.state / "queue.db"

    @property
    def runtime(self) -> Path:
        return self.root / "run"

    @property
    def boot_id(self) -> Path:
        return self.root / "boot_id"

    @property
    def power_supply(self) -> Path:
        return self.root / "power_supply"

    @property
    def dock_port(self) -> Path:
        return self.root / "ttyDOCK"

    @property
    def dock_key(self) -> Path:
        return self.root / "dock.key"

    @property
    def can(self) -> Path:
        return self.root / "can.sock"

    @property
    def guard(self) -> Path:
        return self.root / "run-guard"

    @property
    def control(self) -> Path:
        return self.runtime / "control.sock"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def depot(self) -> Path:
        return self.root / "depot.db"


def tables(layout: Layout, pairing: Pairing, profile: str, broker_port: int) -> dict[str, Any]:
    """The agent's configuration but for enforcement and policy."""
    return {
        "device": {"fleet": FLEET, "name": DEVICE},
        "paths": {
            "state_dir": layout.state,
            "runtime_dir": layout.runtime,
            "boot_id": layout.boot_id,
            "power_supply": layout.power_supply,
        },
        "dock": [
            {
                "port": layout.dock_port,
                "serial": pairing.serial,
                "vehicle_id": pairing.vehicle_id,
                "key_file": layout.dock_key,
            }
        ],
        "can": [{"interface": "simcan", "channel": layout.can}],
        "vehicle": {"profile": profile},
        "sync": {
            "host": "127.0.0.1",
            "port": broker_port,
            "signing_key_file": layout.keys / "devices" / f"{DEVICE}.key",
            "depot_key_file": layout.keys / "depot.pub",
            "fleet_key_file": layout.keys / "fleet.pub",
        },
        "guard": {"enabled": False, "socket": layout.guard / "guard.sock"},
        "store": {"telemetry_commit_s": 1},
    }


def toml(value: Any) -> str:
    """A value of TOML on one line; tables are inline. JSON's strings, numbers and booleans are TOML's."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(inner) for inner in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def document(tables: Mapping[str, Any]) -> str:
    """A TOML file of one line a top-level key."""
    return "".join(f"{key} = {toml(value)}\n" for key, value in tables.items())


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on top, table by table."""
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        result[key] = merged(inner, value) if both and inner is not None else value
    return result
