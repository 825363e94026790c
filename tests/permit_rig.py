"""A tablet with keys for permits and codes, without a dock, as a process; and the control room beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agent import memory
from agent.core.types import GrantMemory, Remembered
from sync.clock import SystemClock, parse_boot_id
from sync.depot.keyring import generate
from sync.store import Store
from tests.agent_rig import ROOT, WAIT_S, Agent, bare

FLEET, DEVICE = "test", "tablet-1"


class Tablet(Agent):
    """An agent that knows that nothing was granted yet; ``boot`` begins another boot."""

    def __init__(self, folder: Path, **over: Any) -> None:
        super().__init__(folder)
        self.keys = folder / "keys"
        self.boot_file = folder / "boot_id"
        generate(self.keys, [DEVICE, "tablet-2"])
        self.boot()
        permits = {
            "authority_key_files": [self.keys / "permit.pub"],
            "code_key_file": self.keys / "codes" / f"{DEVICE}.code",
        }
        tables = bare(folder, **{"permits": permits, **over})
        tables["paths"]["boot_id"] = self.boot_file
        self.configure(tables)
        self.remember(Remembered(self.boot_id, "restricted", grants=GrantMemory()))

    def boot(self) -> None:
        self.boot_id = str(uuid.uuid4())
        self.boot_file.write_text(f"{self.boot_id}\n")

    def remember(self, what: Remembered | bytes) -> None:
        """Put a memory into the store, as a run before would have left it."""
        (self.folder / "state").mkdir(exist_ok=True)
        store = Store(
            self.folder / "state" / "queue.db", DEVICE, parse_boot_id(self.boot_id), SystemClock(),
            secrets.token_bytes,
        )  # fmt: skip
        store.append((), what if isinstance(what, bytes) else memory.encode(what))
        store.close()

    def control_room(self, *arguments: str) -> str:
        """`ivma-depot ...` with the control room's keys; what it wrote on standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "sync.depot", *arguments, "--keys", str(self.keys)],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def permit(self, minutes: int = 45, device: str = DEVICE, scope: str = "undocked") -> str:
        return self.control_room(
            "sign",
            "permit",
            "--fleet",
            FLEET,
            "--device",
            device,
            "--minutes",
            str(minutes),
            "--scope",
            scope,
        )

    def file(self, text: str) -> str:
        path = self.folder / f"{uuid.uuid4()}.txt"
        path.write_text(text)
        return str(path)

    async def load(self, text: str) -> tuple[int, str]:
        return await self.say("permit", "load", self.file(text))

    async def say(self, *arguments: str, given: str | None = None) -> tuple[int, str]:
        """`ivmactl` as a person uses it: (exit status, all that it wrote)."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent.cli", "--socket", str(self.control), *arguments,
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(WAIT_S):
            out, _ = await process.communicate(None if given is None else given.encode())
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def usable(self) -> bool:
        _, status = await self.ask("status")
        return bool(status["tether"]["usable"])

    async def grants(self) -> dict[str, Any]:
        _, status = await self.ask("permit", "status")
        assert isinstance(status, dict)
        return status

    async def records(self, kind: str) -> list[dict[str, Any]]:
        _, answer = await self.ask("events", "--last", "500")
        return [event["fields"] for event in answer["events"] if event["kind"] == kind]

    @contextlib.asynccontextmanager
    async def conversation(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """`ivmactl` that goes on to talk."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-u", "-m", "agent.cli", "--socket", str(self.control), *arguments,
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def answered(process: asyncio.subprocess.Process, *answers: str) -> tuple[int, str]:
    """Type the answers and read to the end."""
    async with asyncio.timeout(WAIT_S):
        out, _ = await process.communicate("".join(f"{answer}\n" for answer in answers).encode())
    assert process.returncode is not None
    return process.returncode, out.decode()


async def shown(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """What `permit code --json` shows first."""
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        line = await process.stdout.readline()
    challenge = json.loads(line)
    assert isinstance(challenge, dict)
    return challenge
