"""A dock that is known by a USB device only, as the registry offers it."""

from __future__ import annotations

from drivers.docks.usb_presence.session import UsbPresenceSession
from drivers.spec import DockSpec, PortKind, keep_all

SPEC = DockSpec(
    model="usb-presence",
    build=UsbPresenceSession,
    baud=0,
    capabilities=frozenset(),
    scrub=keep_all,  # ids that anybody with the device can read, of devices of the dock's kind only
    port=PortKind.USB,
)
