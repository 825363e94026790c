"""The port that a dock model is reached through, made for one dock of a configuration."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.core.types import BootNs, Observation
from drivers.ports.link import Link
from drivers.spec import DockSession, PortKind

if TYPE_CHECKING:
    from drivers.ports.udev import Udev, UdevEvent
    from drivers.ports.usb_list import UsbList

MINIBOX = {"HID_ID": "0003:000004D8:0000D003"}  # bus, vendor, product as the kernel's hid core writes them


@dataclass(frozen=True, slots=True)
class Where:
    """What a configuration says of the way to a dock."""

    port: str | None
    match: Mapping[str, str]
    baud: int
    options: Mapping[str, Any]


def make(
    kind: PortKind,
    session: DockSession,
    where: Where,
    udev: Callable[[], Udev],
    observe: Callable[[Observation], None],
    now: Callable[[], BootNs],
) -> Link | UsbList:
    """A link for a session. Events of udev that it needs, but for those of ttys, it is subscribed to.

    Modules of ports that a configuration has no use for are not imported.
    """
    match kind:
        case PortKind.SERIAL:
            from drivers.ports.serial import SerialLink

            return SerialLink(session, _tty(where, udev), observe, now, where.baud)
        case PortKind.LINES:
            from drivers.ports.modem_lines import ModemLines

            return ModemLines(session, _tty(where, udev), observe, now, where.options["poll_ms"] / 1000)
        case PortKind.USB:
            from drivers.ports.usb_list import UsbList

            usb = UsbList(session, udev, where.options["vendor"], where.options["product"], observe, now)
            udev().subscribe("usb", usb.happened)
            return usb
        case PortKind.SWITCH:
            from drivers.ports import input_switch

            find = functools.partial(input_switch.locate, udev, where.port, where.match)
            return _followed(input_switch.SwitchLink(session, find, observe, now), "input", where, udev)
        case PortKind.HIDRAW:
            from drivers.ports import hidraw

            find = functools.partial(hidraw.locate, udev, where.port, where.match or MINIBOX)
            return _followed(hidraw.HidrawLink(session, find, observe, now), "hidraw", where, udev)


def _tty(where: Where, udev: Callable[[], Udev]) -> Callable[[], str | None]:
    port = where.port
    if port is not None:
        return lambda: port
    return functools.partial(udev().find, "tty", where.match)


def _followed(link: Link, subsystem: str, where: Where, udev: Callable[[], Udev]) -> Link:
    """The link, poked when a device of its subsystem comes or goes."""

    def changed(event: UdevEvent) -> None:
        link.poke(event.devnode if event.action == "remove" else None)

    if where.port is None:
        udev().subscribe(subsystem, changed)
    return link
