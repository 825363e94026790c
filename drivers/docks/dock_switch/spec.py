"""The tablet's own dock switch, as the registry offers it."""

from __future__ import annotations

from drivers.docks.dock_switch.session import DockSwitchSession
from drivers.spec import DockSpec, PortKind, keep_all

SPEC = DockSpec(
    model="dock-switch",
    build=DockSwitchSession,
    baud=0,
    capabilities=frozenset(),
    scrub=keep_all,  # the state of a switch; the port passes on no key that anybody types
    port=PortKind.SWITCH,
)
