"""udev's list of USB devices as the wire of a source that is known by one of them.

Only devices of the wanted vendor and product are passed on. The list is read anew every half minute and when
udev lost events, so that the age of what is said stays honest and nothing missed stays missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from agent.core.types import BootNs, Counters, DriveOutputs, LinkLoss, Observation
from drivers.docks.usb_presence.codec import BEGIN, END, Gone, There
from drivers.spec import DockSession

if TYPE_CHECKING:
    from drivers.ports.udev import Udev, UdevEvent

LIST_S = 30.0  # ours
GONE, LOST = "remove", "lost"


class UsbList:
    """The interface of ``drivers.ports.serial.SerialLink``. Give ``happened`` to udev before it starts."""

    path: str | None = None  # it holds no port

    def __init__(
        self,
        session: DockSession,
        udev: Callable[[], Udev],
        vendor: str,
        product: str,
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
    ) -> None:
        self._session = session
        self._udev = udev
        self._kind = (vendor, product)
        self._observe = observe
        self._now = now
        self._known: set[str] = set()
        self._up = False
        self._again: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._up = True
        self._tell(self._session.link_up(self._now()))
        self._list()

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._up:
            self._up = False
            self._tell(self._session.link_lost(self._now(), LinkLoss.CLOSED))

    def happened(self, event: UdevEvent) -> None:
        """A USB device came, went or changed."""
        if not self._up:
            return
        if event.action == LOST:
            self._list()
            return
        path = event.sys_path.rpartition("/")[2]
        device = _device(event)
        if event.action == GONE:
            if path in self._known and event.properties.get("DEVTYPE", "usb_device") == "usb_device":
                self._known.discard(path)
                self._feed(Gone(path).encode())
        elif device is not None and (device.vendor, device.product) == self._kind:
            self._known.add(path)
            self._feed(device.encode())

    def _list(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(LIST_S, self._list)
        there = [_device(event) for event in self._udev().devices("usb")]
        wanted = [each for each in there if each is not None and (each.vendor, each.product) == self._kind]
        self._known = {each.path for each in wanted}
        self._feed(BEGIN.encode() + b"".join(each.encode() for each in wanted) + END.encode())

    def _feed(self, data: bytes) -> None:
        self._tell(self._session.feed(data, self._now()))

    def _tell(self, observations: Iterable[Observation]) -> None:
        for observation in observations:
            self._observe(observation)

    def counters(self) -> Counters:
        return self._session.counters()

    # --- what it has nothing for ---

    def poke(self, gone: str | None = None) -> None:
        """Serial ports are none of its business."""

    def drive(self, outputs: DriveOutputs) -> None:
        self._session.drive(outputs, self._now())

    def cut_power(self, seconds: int | None) -> None:
        self._session.cut_power(seconds, self._now())

    def prove(self) -> None:
        self._session.prove(self._now())


def _device(event: UdevEvent) -> There | None:
    """A device, not one of its interfaces. ``PRODUCT`` is vendor/product/release in bare hex."""
    said = event.properties
    vendor, _, rest = said.get("PRODUCT", "").partition("/")
    if said.get("DEVTYPE") != "usb_device" or not rest:
        return None
    path = event.sys_path.rpartition("/")[2]
    serial = said.get("ID_SERIAL_SHORT", "")
    return There(vendor.zfill(4), rest.partition("/")[0].zfill(4), path, serial)
