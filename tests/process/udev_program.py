"""Run under umockdev-wrapper by test_udev_hotplug.py: a dock is found by its properties, not its name."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from agent.core.types import DockLinkLost, DockLinkUp, DockProof
from drivers.ports.serial import SerialLink
from drivers.ports.udev import Udev, UdevEvent
from tests.dock_port import PATIENCE_S, Bench, Seen, boot_now
from tests.udev_bed import UdevBed

USB = "/sys/devices/pci0000:00/usb1/1-1"
MATCH = {"ID_VENDOR_ID": "1209", "ID_SERIAL_SHORT": "DK-000042"}


async def hotplug(folder: Path) -> dict[str, object]:
    bed = UdevBed()
    udev = Udev()
    tty: list[UdevEvent] = []
    supply: asyncio.Queue[UdevEvent] = asyncio.Queue()
    seen = Seen()
    told = asyncio.Event()
    result: dict[str, object] = {}
    async with Bench(folder) as bench:
        link = SerialLink(bench.session, lambda: udev.find("tty", MATCH), seen.observe, boot_now)

        def on_tty(event: UdevEvent) -> None:
            tty.append(event)
            link.poke()
            told.set()

        udev.subscribe("tty", on_tty)
        udev.subscribe("power_supply", supply.put_nowait)
        udev.start()
        link.start()
        result["open_before"] = link.is_open

        stranger = {"DEVNAME": "/dev/ttyACM0", "ID_VENDOR_ID": "1209", "ID_SERIAL_SHORT": "DK-000099"}
        bed.add(f"{USB}.1/ttyACM0", "tty", stranger, leads_to="/dev/null")
        async with asyncio.timeout(PATIENCE_S):
            await told.wait()
        result["open_for_a_stranger"] = link.is_open

        device = bench.dock()
        for name in ("ttyACM1", "ttyUSB7"):
            bench.plug.plug(device)
            properties = {"DEVNAME": f"/dev/{name}", **MATCH}
            bed.add(f"{USB}.2/{name}", "tty", properties, leads_to=str(bench.port.resolve()))
            await seen.next(DockLinkUp)
            await seen.next(DockProof)
            bed.remove(f"{USB}.2/{name}", properties["DEVNAME"])
            await seen.next(DockLinkLost)
            bench.plug.pull()
        result["opened"] = link.counters().values["opened"]
        result["found_after"] = udev.find("tty", MATCH)

        bed.add("/sys/devices/platform/ac/power_supply/AC", "power_supply", {"POWER_SUPPLY_ONLINE": "1"})
        bed.change("/sys/devices/platform/ac/power_supply/AC")
        async with asyncio.timeout(PATIENCE_S):
            events = [await supply.get() for _ in range(2)]
        result["power_supply"] = [event.action for event in events]
        result["tty"] = [(event.action, event.devnode) for event in tty]
        link.close()
        udev.close()
    return result


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        sys.stdout.write(json.dumps(asyncio.run(hotplug(Path(scratch)))) + "\n")
