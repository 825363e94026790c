"""Run under umockdev-wrapper by test_hint_ports.py: sources without a key, found and followed by udev."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tty
from collections.abc import Awaitable, Callable
from typing import Any

from agent.core.types import DockHint, DockLinkLost, DockLinkUp
from drivers.docks.dcdc_usb.session import DcdcUsbSession
from drivers.docks.dock_switch.codec import Event
from drivers.docks.dock_switch.session import DockSwitchSession
from drivers.docks.usb_presence.session import UsbPresenceSession
from drivers.links import Where, make
from drivers.ports.udev import Udev
from drivers.spec import DockSession, DockSettings, PortKind
from simulator.docks.dcdc_usb import DcdcUsb
from simulator.docks.dock_switch import DockSwitch
from simulator.docks.serial_device import SerialDevice
from tests.dock_port import Seen, boot_now
from tests.udev_bed import UdevBed

SW = "/sys/devices/platform/button/input/input7"
EVENT = "/dev/input/event7"
USB = "/sys/devices/pci0000:00/usb1"
HID = f"{USB}/1-1.3/1-1.3:1.0/0003:04D8:D003.0001"


class Bench:
    """A link made as the agent makes it, on umockdev's machine."""

    def __init__(self, kind: PortKind, session: DockSession, options: dict[str, Any]) -> None:
        self.bed = UdevBed()
        self.udev = Udev()
        self.seen = Seen()
        where = Where(None, {}, 0, options)
        self.link = make(kind, session, where, lambda: self.udev, self.seen.observe, boot_now)

    async def hint(self, fits: Callable[[DockHint], bool]) -> DockHint:
        return await self.seen.next(DockHint, fits)


def add_switch(bed: UdevBed) -> None:
    bed.add(SW, "input", {"SW": "21", "NAME": '"Tablet buttons"'})
    bed.add(f"{SW}/event7", "input", {"DEVNAME": EVENT, "ID_INPUT_SWITCH": "1"})


async def switch() -> dict[str, Any]:
    bench = Bench(PortKind.SWITCH, DockSwitchSession(DockSettings("tray"), os.urandom), {})
    bed, model = bench.bed, DockSwitch(docked=True)
    lid = "/sys/devices/platform/lid/input/input3"
    bed.add(lid, "input", {"SW": "1"})
    bed.add(f"{lid}/event3", "input", {"DEVNAME": "/dev/input/event3", "ID_INPUT_SWITCH": "1"})
    bench.udev.start()
    bench.link.start()
    result: dict[str, Any] = {"opened_a_lid": bench.link.path}

    add_switch(bed)
    bed.answer(EVENT, "EVIOCGSW 8 2000000000000000")
    bed.change(f"{SW}/event7")
    await bench.seen.next(DockLinkUp)
    result["at_first"] = (await bench.hint(lambda _: True)).seated
    device = bed.other_end(EVENT)
    os.write(device, Event(0x01, 30, 1).encode())  # a key of the same device: somebody types
    os.write(device, model.move(False))
    result["out"] = (await bench.hint(lambda hint: hint.seated is not True)).seated
    os.write(device, model.bounce(3) + model.move(True))
    result["back"] = (await bench.hint(lambda hint: hint.seated is True)).seated
    os.write(device, model.move(False))
    await bench.hint(lambda hint: hint.seated is False)
    os.write(device, model.overrun(True))  # it moved back, and the event that says so was lost
    result["unknown_then"] = (await bench.hint(lambda _: True)).seated
    result["after_an_overrun"] = (await bench.hint(lambda _: True)).seated
    bed.remove(f"{SW}/event7", EVENT)
    await bench.seen.next(DockLinkLost)
    result["counters"] = bench.link.counters().values
    bench.link.close()
    return result


async def usb() -> dict[str, Any]:
    options = {"vendor": "1209", "product": "0d0c", "serial": "HUB-1", "port_path": "1-1", "means": "mated"}
    session = UsbPresenceSession(DockSettings("hub", options=options), os.urandom)
    bench = Bench(PortKind.USB, session, options)
    bed = bench.bed

    def plug(path: str, product: str, serial: str) -> None:
        said = {"DEVTYPE": "usb_device", "PRODUCT": product, "ID_SERIAL_SHORT": serial}
        bed.add(f"{USB}/{path}", "usb", said)

    plug("1-1", "1209/d0c/100", "HUB-1")
    bench.udev.start()
    bench.link.start()
    result: dict[str, Any] = {"at_first": (await bench.hint(lambda _: True)).mated}
    bed.remove(f"{USB}/1-1")
    result["pulled"] = (await bench.hint(lambda _: True)).mated
    plug("1-4", "46d/c31c/110", "a keyboard")
    plug("1-2", "1209/d0c/100", "HUB-1")
    wrong = await bench.hint(lambda _: True)
    result["elsewhere"] = [wrong.mated, wrong.detail]
    plug("1-1", "1209/d0c/100", "HUB-9")
    wrong = await bench.hint(lambda _: True)
    result["another"] = [wrong.mated, wrong.detail]
    bed.remove(f"{USB}/1-1")
    await bench.hint(lambda _: True)
    plug("1-1", "1209/d0c/100", "HUB-1")
    result["back"] = (await bench.hint(lambda _: True)).mated
    bench.link.close()
    result["lost"] = isinstance(bench.seen.all[-1], DockLinkLost)
    return result


async def supply() -> dict[str, Any]:
    options = {"ignition": True, "ignition_on_mv": 6000, "poll_ms": 100}
    session = DcdcUsbSession(DockSettings("psu", options=options), os.urandom)
    bench = Bench(PortKind.HIDRAW, session, options)
    bed = bench.bed
    bench.udev.start()
    bench.link.start()

    model = DcdcUsb(boot_now())
    device = SerialDevice(model, boot_now)
    result: dict[str, Any] = {}
    for node in ("hidraw0", "hidraw3"):
        bed.add(HID, "hid", {"HID_ID": "0003:000004D8:0000D003", "DRIVER": "hid-generic"})
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        device.attach(master)
        bed.add(f"{HID}/hidraw/{node}", "hidraw", {"DEVNAME": f"/dev/{node}"}, leads_to=os.ttyname(slave))
        await bench.seen.next(DockLinkUp)
        hint = await bench.hint(lambda _: True)
        result[node] = [hint.kl15, hint.vehicle_mv, hint.seated, hint.supply_ok]
        model.ignition_mv += 12_600
        await bench.hint(lambda hint: hint.kl15 is True)
        model.deaf = True
        result[f"{node} deaf"] = (await bench.seen.next(DockLinkLost)).reason.value
        model.deaf = False
        await bench.seen.next(DockLinkUp)
        bed.remove(f"{HID}/hidraw/{node}", f"/dev/{node}")
        result[f"{node} gone"] = (await bench.seen.next(DockLinkLost)).reason.value
        bed.remove(HID)
        device.detach()
        os.close(master)
        os.close(slave)
    result["refused"] = model.refused
    bench.link.close()
    device.close()
    return result


SCENES: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {"switch": switch, "usb": usb, "supply": supply}


async def play(scene: str) -> dict[str, Any]:
    return await SCENES[scene]()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(play(sys.argv[1]))) + "\n")
