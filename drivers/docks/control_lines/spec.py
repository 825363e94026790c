"""A dock that has control lines only, as the registry offers it."""

from __future__ import annotations

from drivers.docks.control_lines.session import ControlLinesSession
from drivers.spec import Capability, DockSpec, PortKind, keep_all

SPEC = DockSpec(
    model="control-lines",
    build=ControlLinesSession,
    baud=0,  # nothing is sent
    capabilities=frozenset({Capability.LATCH, Capability.POWER_CUT, Capability.KL15}),
    scrub=keep_all,  # levels: nothing on such a wire is secret
    port=PortKind.LINES,
)
