"""A tablet with a fleet: the agent, Mosquitto and the depot as processes, and the control room's commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from simulator.broker import Broker
from tests.agent_rig import ROOT
from tests.brokers import peer, running
from tests.permit_rig import DEVICE, FLEET, Tablet
from tests.sync_rig import Depot, depot, until


class Obeying(Tablet):
    """A tablet that obeys the keys of its folder, and the depot that it reports to."""

    def __init__(self, folder: Path, broker: Broker, far_end: Depot) -> None:
        keys = far_end.keys
        super().__init__(
            folder,
            sync={
                "host": "127.0.0.1", "port": broker.port, "keepalive_s": 5,
                "signing_key_file": keys / "devices" / f"{DEVICE}.key", "depot_key_file": keys / "depot.pub",
                "fleet_key_file": keys / "fleet.pub",
            },
            orders={
                "command_key_files": [keys / "command.pub"],
                "configuration_key_files": [keys / "configuration.pub"],
                "sealing_key_files": [keys / "sealing.pub"],
            },
        )  # fmt: skip
        self.broker = broker
        self.depot = far_end

    async def online(self) -> None:
        """Wait until the depot has heard of this boot, and the tablet of the depot."""
        boot_id = self.boot_id.replace("-", "")

        def heard() -> bool:
            rows = self.depot.rows("SELECT state, hex(boot_id) FROM presence") if self.depot.ready else []
            return rows == [("online", boot_id.upper())]

        await until(heard)

    async def sign(self, *arguments: str) -> str:
        """`ivma-depot sign ...` for this tablet."""
        return await asyncio.to_thread(
            self.control_room, "sign", *arguments, "--fleet", FLEET, "--device", DEVICE
        )

    async def command(self, verb: str, *arguments: str) -> str:
        """A signed command; it is not sent yet."""
        return await self.sign("command", verb, "--db", str(self.depot.db), *arguments)

    async def send(self, text: str) -> None:
        """`ivma-depot send`."""
        await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "sync.depot", "send", self.file(text), "--fleet", FLEET,
             "--device", DEVICE, "--broker", f"127.0.0.1:{self.broker.port}"],
            cwd=ROOT, check=True, timeout=60,
        )  # fmt: skip

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """What anybody at the broker may do."""
        async with peer(self.broker, "somebody") as it:
            it.transport.publish(1, f"ivma/1/{FLEET}/{DEVICE}/{topic}", payload, retain=retain)
            from sync.mqtt_types import Confirmed

            await it.next(Confirmed)

    def at_depot(self, kind: str) -> list[dict[str, Any]]:
        """Records of a kind that the depot has, oldest first."""
        rows = self.depot.rows("SELECT kind, body FROM record ORDER BY chain, seq")
        return [json.loads(body) for name, body in rows if name == kind]

    async def answered(self, number: int = 1) -> list[dict[str, Any]]:
        """Wait until the depot has so many answers."""
        await until(lambda: len(self.at_depot("command.answered")) >= number)
        return self.at_depot("command.answered")

    async def desired(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the depot knows so of the configuration that was wanted."""

        def reported() -> dict[str, Any]:
            rows = self.depot.rows("SELECT accepted, generation, state, detail FROM reported")
            names = ("accepted", "generation", "state", "detail")
            return dict(zip(names, rows[0], strict=True)) if rows else {}

        await until(lambda: bool(found := reported()) and holds(found))
        return reported()


@contextlib.asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[Obeying]:
    """A tablet that does not run yet, with its broker and its depot."""
    from sync.depot.keyring import generate

    generate(folder / "keys", [DEVICE, "tablet-2"])
    with running("mosquitto", folder) as broker, depot(folder, folder / "keys", broker.port) as far_end:
        yield Obeying(folder, broker, far_end)
