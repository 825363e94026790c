"""A HID device on the loop, by its hidraw node: each read is one report, each write one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from drivers.ports.descriptor import DescriptorLink

if TYPE_CHECKING:
    from drivers.ports.udev import Udev


class HidrawLink(DescriptorLink):
    """One source behind one hidraw node. Its session has one report at a time to send."""


def locate(udev: Callable[[], Udev], port: str | None, match: Mapping[str, str]) -> str | None:
    """The node by its path, or by properties of its own and of what it hangs on (HID_ID, ID_SERIAL_SHORT)."""
    if port is not None:
        return port
    return min(udev().all("hidraw", match, inherited=True), default=None)
