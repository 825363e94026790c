"""Run under umockdev-wrapper by test_agent_fusion.py: a dock with a key, a hub and a switch beside it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from simulator.agent_config import document, tables
from simulator.compose_bench import Options, Rig
from simulator.docks.dock_switch import DockSwitch
from tests.agent_rig import until_status
from tests.process.hint_ports_program import EVENT, USB, add_switch
from tests.udev_bed import UdevBed

WAIT_S = 90.0
POLICY = {
    "tether": {"refill_after_s": 1, "ride_through_ms": 1500, "hint_hold_ms": 500},
    "power": {"run_on_s": 600, "max_s": 900},
}
HUB = {"DEVTYPE": "usb_device", "PRODUCT": "1209/d0c/100", "ID_SERIAL_SHORT": "HUB-1"}


async def scene(folder: Path) -> dict[str, Any]:
    bed = UdevBed()
    os.environ["UMOCKDEV_DIR"] = str(bed.root)  # the library sets it past Python: for the agent
    bed.add(f"{USB}/1-1", "usb", HUB)
    add_switch(bed)
    bed.answer(EVENT, "EVIOCGSW 8 2000000000000000")
    switch, tray = DockSwitch(docked=True), bed.other_end(EVENT)
    async with Rig(folder, Options(dbus=False, policy=POLICY)) as rig:
        await rig.until_seen(WAIT_S, tether="tethered")
        await rig.agent.stop()
        config = tables(rig.layout, rig.pairing, "vw-mqb", rig.network.port)
        config["dock"] += [
            {"name": "hub", "model": "usb-presence", "usb": {"vendor": "1209", "product": "0d0c"}},
            {"name": "tray", "model": "dock-switch"},
        ]
        rig.layout.config.write_text(
            document(config | {"enforcement": rig.system.enforcement, "policy": POLICY})
        )
        await rig.agent.start()
        await rig.until_seen(WAIT_S, tether="tethered", posture="usable")
        await until_status(rig, lambda status: status["hints"].keys() == {"hub", "tray"})
        status = await rig.control.ask("status")
        result: dict[str, Any] = {
            "hints": {name: said["value"] for name, said in status["hints"].items()},
            "agreed": status["tether"]["conflicts"],
        }
        os.write(tray, switch.move(False))
        bed.remove(f"{USB}/1-1")
        await until_status(rig, lambda status: len(status["tether"]["conflicts"]) == 2)
        await until_status(rig, lambda status: "mated no" in status["hints"]["hub"]["value"])
        await asyncio.sleep(1.0)  # twice the time for which it must last to be recorded
        result["posture"] = (await rig.control.ask("status"))["tether"]["posture"]
        why = await rig.control.ask("why", topic="tether")
        result["sources"] = sorted(
            each["source"] for each in why["evidence"] if each["source"].endswith(("hub", "tray"))
        )
        events = (await rig.control.ask("events"))["events"]
        conflicts = [each["fields"] for each in events if each["kind"] == "tether.conflict"]
        result["recorded"] = sorted([each["source"], each["begins"]] for each in conflicts)
        os.write(tray, switch.move(True))
        bed.add(f"{USB}/1-1", "usb", HUB)
        await until_status(rig, lambda status: not status["tether"]["conflicts"])
        result["still"] = rig.seen()["posture"]
        return result


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        sys.stdout.write(json.dumps(asyncio.run(scene(Path(scratch)))) + "\n")
