"""A workshop: the agent as a process, ivmactl, and simulated docks on a pty that tests can look into."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from agent.core.types import BootNs
from drivers.docks.reference.codec import Decoder, Frame, Message
from simulator.docks.reference import Identity, ReferenceDock
from simulator.docks.serial_device import PtyPlug, SerialDevice
from tests.agent_rig import Agent, bare
from tests.dock_port import boot_now

WAIT_S = 90.0
SERIAL, VEHICLE = "DK-000007", "WV1ZZZ7HZNH000007"


class WatchedDock(ReferenceDock):
    """A dock that calls ``met`` with each message before it looks at it; False drops the message."""

    met: Callable[[Message], bool] = staticmethod(lambda _message: True)

    _begun = b""

    def feed(self, data: bytes, at: BootNs) -> None:
        *packets, self._begun = (self._begun + data).split(b"\0")
        for packet in packets:
            frames = [item for item in Decoder().feed(packet + b"\0") if isinstance(item, Frame)]
            if all(self.met(frame.message) for frame in frames):
                super().feed(packet + b"\0", at)


class Workshop:
    """A tablet with the agent on it and docks on the bench."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.agent = Agent(folder)
        self.agent.configure(bare(folder, logging={"level": "debug"}))
        self.port = folder / "ttyDock"
        self.plug = PtyPlug(self.port)
        self.pairings = folder / "state" / "docks"
        self.devices: list[SerialDevice[WatchedDock]] = []

    def dock(self, serial: str = SERIAL, *, key: bytes | None = None) -> SerialDevice[WatchedDock]:
        identity = Identity.of(serial, "" if key is None else VEHICLE, key)
        device = SerialDevice(WatchedDock(identity, os.urandom, boot_now()), boot_now)
        self.devices.append(device)
        return device

    async def pair(self, *more: str) -> tuple[int, Any]:
        words = ("dock", "pair", "--port", str(self.port), "--vehicle", VEHICLE, *more)
        return await self.agent.ask(*words)

    async def says(self, *words: str) -> tuple[int, str]:
        """`ivmactl`, for people: its status and all it wrote."""
        return await cli(self.agent, *words)

    async def tethered(self) -> None:
        """Wait until the tablet is in its dock."""
        await self.until(lambda status: status["tether"]["state"] == "tethered")

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the agent says of itself that it is so."""
        async with asyncio.timeout(WAIT_S):
            reader, writer = await asyncio.open_unix_connection(self.agent.control)
            try:
                writer.write(b'{"id":1,"verb":"subscribe"}\n{"id":2,"verb":"status"}\n')
                while True:
                    said = json.loads(await reader.readline())
                    status = said.get("status") or said.get("result") or {}
                    if "tether" in status and holds(status):
                        return
            finally:
                writer.close()

    async def kinds(self, kind: str) -> list[dict[str, Any]]:
        _, answer = await self.agent.ask("events", "--last", "100")
        return [event["fields"] for event in answer["events"] if event["kind"] == kind]

    def files(self) -> list[str]:
        return sorted(file.suffix for file in self.pairings.iterdir()) if self.pairings.exists() else []


async def cli(agent: Agent, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent.cli", "--socket", str(agent.control), *words,
        cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


def is_paired(dock: SerialDevice[WatchedDock]) -> bool:
    return dock.model.identity.key is not None


@contextlib.asynccontextmanager
async def workshop(folder: Path) -> AsyncIterator[Workshop]:
    shop = Workshop(folder)
    try:
        yield shop
    finally:
        shop.plug.pull()
        for device in shop.devices:
            device.close()
