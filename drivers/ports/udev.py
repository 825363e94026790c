"""Hotplug: one udev monitor on the loop, and finding a device by its properties."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
        found = sorted(self.all(subsystem, wanted))
        if len(found) > 1:
            log.warning("udev.ambiguous", wanted=dict(wanted), found=found)
        return min(found, default=None)

    def all(
        self, subsystem: str, wanted: Mapping[str, str], *, inherited: bool = False
    ) -> dict[str, dict[str, str]]:
        """Every device node whose udev properties have all the wanted values, with its properties.

        ``inherited``: what a device does not say itself is looked up in those that it hangs on.
        """
        found = {}
        for device in self._context.list_devices(subsystem=subsystem):
            node = device.device_node
            if not node:
                continue
            said = dict(device.properties)
            if inherited:
                for parent in device.ancestors:
                    said = {**parent.properties, **said}
            if all(said.get(name) == wanted[name] for name in wanted):
                found[node] = said
        return found

    def devices(self, subsystem: str) -> list[UdevEvent]:
        """Every device of a subsystem as if it had just been added, with or without a node."""
        return [_event(device, "add") for device in self._context.list_devices(subsystem=subsystem)]

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
            event = _event(device, device.action or "")
            self._tell(event)

    def _tell(self, event: UdevEvent) -> None:
        for callback in self._callbacks.get(event.subsystem, ()):
            callback(event)


def _event(device: Any, action: str) -> UdevEvent:
    return UdevEvent(
        action=action,
        subsystem=device.subsystem or "",
        sys_path=device.sys_path,
        devnode=device.device_node,
        properties=dict(device.properties),
    )
