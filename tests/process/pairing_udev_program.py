"""Run under umockdev-wrapper by test_contractor.py: docks found by udev, paired by root and under a token."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from simulator.agent_config import document
from sync.depot.__main__ import main as depot
from sync.depot.keyring import generate
from tests.agent_rig import ROOT, bare
from tests.pairing_rig import VEHICLE, Workshop, workshop
from tests.udev_bed import UdevBed

SYS = "/sys/devices/pci0000:00/usb1/1-1.2"
READERS, CONTRACTORS = "games", "users"  # groups that every distribution has
# Another user in those groups, who runs ivmactl; everything is imported before the change.
AS_CONTRACTOR = """
import grp, os, sys
from agent.cli.__main__ import main, parser
parser()
os.setgroups([grp.getgrnam(name).gr_gid for name in sys.argv[1].split(",")])
os.setgid(65534); os.setuid(65534)
sys.exit(main(sys.argv[2:]))
"""


async def contractor(shop: Workshop, token: str, *words: str, groups: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", AS_CONTRACTOR, groups, "--socket", str(shop.agent.control), *words,
        "--token", "-",
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate(token.encode())
    assert process.returncode is not None
    return process.returncode, out.decode()


def signed(keys: Path, *more: str) -> str:
    out = keys / "token.txt"
    words = ["sign", "contractor", "--keys", str(keys), "--fleet", "test", "--contractor", "Smith Ltd"]
    assert depot([*words, "--out", str(out), *more]) == 0
    return out.read_text()


def altered(text: str) -> str:
    """With one letter of its third line changed."""
    lines = text.splitlines()
    lines[2] = lines[2][:-1] + ("A" if lines[2][-1] != "A" else "B")
    return "\n".join(lines)


async def scene(folder: Path) -> dict[str, Any]:
    bed = UdevBed()
    os.environ["UMOCKDEV_DIR"] = str(bed.root)  # the library sets it past Python: for the agent
    keys = folder / "keys"
    generate(keys, ["tablet-1"])
    good = signed(keys, "--device", "tablet-1", "--action", "pair", "--action", "test", "--minutes", "60")
    theirs = signed(keys, "--device", "tablet-2", "--action", "pair", "--minutes", "60")
    result: dict[str, Any] = {}
    for each in (folder, *folder.parents):
        if each.is_relative_to(tempfile.gettempdir()):
            each.chmod(each.stat().st_mode | 0o011)
    async with workshop(folder) as shop:
        tables = bare(
            folder,
            control={"group": READERS},
            contractors={"key_files": [keys / "contractor.pub"], "group": CONTRACTORS},
        )
        shop.agent.config.write_text(document(tables))
        dock = shop.dock()
        shop.plug.plug(dock)
        port = str(shop.plug.path.readlink())
        both = f"{READERS},{CONTRACTORS}"
        async with shop.agent.running():
            pair = ("dock", "pair", "--vehicle", VEHICLE)
            result["no dock"] = (await shop.says(*pair))[1].splitlines()[0]
            bed.add(
                f"{SYS}/ttyACM0", "tty",
                {"DEVNAME": "/dev/ttyACM0", "IVMA_DOCK": "1", "ID_VENDOR_ID": "1209", "ID_MODEL_ID": "0001",
                 "ID_SERIAL_SHORT": "A-77"},
                leads_to=port,
            )  # fmt: skip
            _, result["outsider"] = await contractor(shop, good, *pair, groups=READERS)
            _, result["other tablet"] = await contractor(shop, theirs, *pair, groups=both)
            _, result["altered"] = await contractor(shop, altered(good), *pair, groups=both)
            # A port that he could have made himself.
            _, result["own port"] = await contractor(shop, good, *pair, "--port", str(shop.port), groups=both)
            _, result["not allowed"] = await contractor(shop, good, "dock", "unpair", "dock", groups=both)
            code, text = await contractor(shop, good, *pair, groups=both)
            assert code == 0, text
            result["paired"] = text.splitlines()[-2]
            await shop.tethered()
            (found,) = (await shop.agent.ask("dock", "show"))[1]["docks"]
            result["found by"] = found["found_by"]
            code, text = await contractor(shop, good, "dock", "test", groups=both)
            assert code == 0, text
            # The dock is broken and another takes its place.
            shop.plug.pull()
            fresh = shop.dock("DK-000008")
            shop.plug.plug(fresh)
            await shop.until(lambda status: status["tether"]["state"] != "tethered")
            bed.remove(f"{SYS}/ttyACM0", "/dev/ttyACM0")
            bed.add(
                f"{SYS}/ttyACM1", "tty",
                {"DEVNAME": "/dev/ttyACM1", "IVMA_DOCK": "1", "ID_VENDOR_ID": "1209", "ID_MODEL_ID": "0001"},
                leads_to=str(shop.plug.path.readlink()),
            )  # fmt: skip
            code, text = await contractor(shop, good, *pair, "--name", "dock", "--replace", groups=both)
            assert code == 0, text
            await shop.tethered()
            result["swapped to"] = (await shop.agent.ask("dock", "show"))[1]["docks"][0]["serial"]
            # This tablet is a new one: the dock has the key of the one before, which is gone.
            shop.plug.pull()
            kept = shop.dock("DK-000009", key=bytes(32))
            shop.plug.plug(kept)
            await shop.until(lambda status: status["tether"]["state"] != "tethered")
            bed.remove(f"{SYS}/ttyACM1", "/dev/ttyACM1")
            bed.add(
                f"{SYS}/ttyACM2", "tty",
                {"DEVNAME": "/dev/ttyACM2", "IVMA_DOCK": "1", "ID_VENDOR_ID": "1209", "ID_MODEL_ID": "0001"},
                leads_to=str(shop.plug.path.readlink()),
            )  # fmt: skip
            swap = (*pair, "--name", "dock", "--replace")
            _, result["contact open"] = await contractor(shop, good, *swap, groups=both)
            kept.model.service_contact = True
            code, text = await contractor(shop, good, *swap, groups=both)
            assert code == 0, text
            kept.model.service_contact = False
            await shop.tethered()
            assert kept.model.identity.key != bytes(32)
            result["used"] = [record["action"] for record in await shop.kinds("contractor.used")]
            result["by"] = sorted({record["contractor"] for record in await shop.kinds("contractor.used")})
            result["refused"] = len(await shop.kinds("contractor.refused"))
    return result


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        sys.stdout.write(json.dumps(asyncio.run(scene(Path(scratch)))) + "\n")
