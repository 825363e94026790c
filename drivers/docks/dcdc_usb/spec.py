"""The Mini-Box DCDC-USB as the registry offers it."""

from __future__ import annotations

from drivers.docks.dcdc_usb.session import DcdcUsbSession
from drivers.spec import Capability, DockSpec, PortKind, keep_all

SPEC = DockSpec(
    model="dcdc-usb",
    build=DcdcUsbSession,
    baud=0,
    capabilities=frozenset({Capability.KL15, Capability.VEHICLE_VOLTAGE}),
    scrub=keep_all,  # voltages
    port=PortKind.HIDRAW,
)
