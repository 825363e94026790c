"""Hotplug: one udev monitor on the loop, and finding a device by its properties."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyudev
import structlog

log = structlog.get_logger()

BUDGET = 64  # events worked off in one wake-up; the rest follows in the next; ours


@dataclass(frozen=True, slots=True)
class UdevEvent:
    """What happened to a device. ``action`` is udev's: add, remove, change, ...

    "lost" is ours: the kernel dropped events of every subsystem, so look at the state of things anew.
    """

    action: str
    subsystem: str
    sys_path: str = ""
    devnode: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


Callback = Callable[[UdevEvent], None]


class Udev:
    """Events of the subsystems that were subscribed to before ``start``. A machine without udev has none."""

    def __init__(self) -> None:
        self.overruns = 0
        self._context = pyudev.Context()
        self._monitor = pyudev.Monitor.from_netlink(self._context)
        self._callbacks: dict[str, list[Callback]] = {}

    def subscribe(self, subsystem: str, callback: Callback) -> None:
        """Call back for every event of a subsystem ("tty", "power_supply")."""
        if subsystem not in self._callbacks:
            self._monitor.filter_by(subsystem)
        self._callbacks.setdefault(subsystem, []).append(callback)

    def start(self) -> None:
        self._monitor.start()
        asyncio.get_running_loop().add_reader(self._monitor.fileno(), self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._monitor.fileno())

    def find(self, subsystem: str, wanted: Mapping[str, str]) -> str | None:
        """The device node whose udev properties have all the wanted values; the first by name, or None."""
        found = [
            device.device_node
            for device in self._context.list_devices(subsystem=subsystem)
            if device.device_node and all(device.properties.get(name) == wanted[name] for name in wanted)
        ]
        if len(found) > 1:
            log.warning("udev.ambiguous", wanted=dict(wanted), found=sorted(found))
        return min(found, default=None)

    def all(self, subsystem: str, wanted: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Every device node whose udev properties have all the wanted values, with its properties."""
        return {
            device.device_node: dict(device.properties)
            for device in self._context.list_devices(subsystem=subsystem)
            if device.device_node and all(device.properties.get(name) == wanted[name] for name in wanted)
        }

    def _readable(self) -> None:
        for _ in range(BUDGET):
            try:
                device = self._monitor.poll(timeout=0)
            except OSError as error:  # ENOBUFS: the socket overran
                self.overruns += 1
                log.warning("udev.overrun", error=str(error))
                for subsystem in self._callbacks:
                    self._tell(UdevEvent("lost", subsystem))
                return
            if device is None:
                return
            event = UdevEvent(
                action=device.action or "",
                subsystem=device.subsystem or "",
                sys_path=device.sys_path,
                devnode=device.device_node,
                properties=dict(device.properties),
            )
            self._tell(event)

    def _tell(self, event: UdevEvent) -> None:
        for callback in self._callbacks.get(event.subsystem, ()):
            callback(event)
