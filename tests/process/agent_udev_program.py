"""Run under umockdev-wrapper by test_agent_udev.py: the daemon finds its dock by udev properties."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from simulator.agent_config import document, tables
from simulator.compose_bench import Options, Rig
from tests.udev_bed import UdevBed

SYS = "/sys/devices/pci0000:00/usb1/1-1.2"
MATCH = {"ID_VENDOR_ID": "1209", "ID_SERIAL_SHORT": "DK-000007"}
WAIT_S = 90.0
# The node is found under another name each time; every state is passed through.
POLICY = {"tether": {"refill_after_s": 1, "ride_through_ms": 1500}, "power": {"run_on_s": 600, "max_s": 900}}


async def scene(folder: Path) -> dict[str, object]:
    bed = UdevBed()
    os.environ["UMOCKDEV_DIR"] = str(bed.root)  # the library sets it past Python: for the agent
    async with Rig(folder, Options(dbus=False, policy=POLICY)) as rig:
        await rig.until_seen(WAIT_S, tether="tethered")
        await rig.agent.stop()
        config = tables(rig.layout, rig.pairing, "vw-mqb", rig.network.port)
        (dock,) = config["dock"]
        del dock["port"]
        dock["match"] = MATCH
        rig.layout.config.write_text(
            document(config | {"enforcement": rig.system.enforcement, "policy": POLICY})
        )
        stranger = {"DEVNAME": "/dev/ttyACM0", "ID_VENDOR_ID": "1209", "ID_SERIAL_SHORT": "DK-000099"}
        bed.add(f"{SYS}/ttyACM0", "tty", stranger, leads_to="/dev/null")
        await rig.agent.start()
        await rig.until_seen(WAIT_S, posture="locked")
        result: dict[str, object] = {"opened_a_stranger": (await rig.control.ask("status"))["docks"]}
        for name in ("ttyACM1", "ttyUSB7"):
            device = {"DEVNAME": f"/dev/{name}", **MATCH}
            bed.add(f"{SYS}/{name}", "tty", device, leads_to=str(rig.layout.dock_port.resolve()))
            await rig.until_seen(WAIT_S, tether="tethered", posture="usable")
            bed.remove(f"{SYS}/{name}", device["DEVNAME"])
            await rig.until_seen(WAIT_S, tether="restricted", posture="locked")
        result["opened"] = (await rig.control.ask("status"))["docks"]["dock"]["opened"]
        result["session"] = rig.system.session
        return result


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        sys.stdout.write(json.dumps(asyncio.run(scene(Path(scratch)))) + "\n")
