"""The daemon, unmodified, with the dock in C on the other end of a pty: built by gcc, run as a process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.docks.reference.codec import (
    Ack,
    Decoder,
    Frame,
    Message,
    Nak,
    NakReason,
    Pair,
    Unpair,
    encode,
    padded,
)
from simulator.agent_config import SHORT_TIMES, Layout, Pairing, merged
from simulator.control_client import ControlClient
from tests.agent_rig import BUDGET_MS, WAIT_S, Agent, bare, stop
from tests.aio import looped
from tests.firmware_rig import BOARD_C, DOCK_C, SANITIZED, compiled, needs_gcc

pytestmark = needs_gcc
PAIRING = Pairing()
ASK_S = 0.1
# Bits of its outputs.
LED, SUPPLY = 2, 16


class Dock:
    """The process, told what to do line by line; what it says of itself can be waited for."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.outputs, self.session = 0, "ended"
        self._answers: asyncio.Queue[str] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def line(self) -> str:
        async with asyncio.timeout(WAIT_S):
            return await self._answers.get()

    async def tell(self, command: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())
        return await self.line()

    async def until(self, holds: Callable[[Dock], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds(self):
                self._changed.clear()
                await self._changed.wait()

    async def ended(self) -> None:
        await self._reading

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode().strip():
            match line.split():
                case ["outputs", outputs]:
                    self.outputs = int(outputs)
                case ["session", state]:
                    self.session = state
                case _:
                    self._answers.put_nowait(line)
            self._changed.set()


@contextlib.asynccontextmanager
async def docked(folder: Path) -> AsyncIterator[Dock]:
    """Built with sanitizers; an unpaired dock in a session's first minute, its pty at the layout's place."""
    program = compiled(folder / "dock", BOARD_C, DOCK_C, flags=SANITIZED)
    layout = Layout(folder)
    process = await asyncio.create_subprocess_exec(
        program, "--pty", layout.dock_port, "--serial", PAIRING.serial, "--state", folder / "flash",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        # PIE and LeakSanitizer's ptrace are not what is looked at here.
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
    )  # fmt: skip
    dock = Dock(process)
    try:
        assert "unpaired" in await dock.line()
        yield dock
        assert process.returncode is None, "the dock ended"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await dock.ended()
        _, errors = await process.communicate()
        assert errors == b"", errors.decode()


async def exchange(port: Path, message: Message, sequence: int) -> list[Message]:
    """What the dock answers to an untagged frame, told apart from its STATUS by naming the sequence."""
    fd = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    decoder, found = Decoder(), list[Message]()
    readable = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, readable.set)
    try:
        os.write(fd, encode(Frame(message, sequence, ack_wanted=True)))
        async with asyncio.timeout(WAIT_S):
            while not found:
                await readable.wait()
                readable.clear()
                with contextlib.suppress(BlockingIOError):
                    read = decoder.feed(os.read(fd, 4096))
                    found += [item.message for item in read if isinstance(item, Frame) if answers(item)]
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    return found


def answers(frame: Frame) -> bool:
    return isinstance(frame.message, Ack | Nak)


class Watch:
    """What the agent says of itself, with a wait for what it is to say."""

    def __init__(self, control: Path) -> None:
        self.states: list[str] = []
        self._status: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._client = ControlClient(control, self._said)

    async def __aenter__(self) -> Watch:
        self._client.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.stop()

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Looked at when it says that something changed, and asked again: not every measurement is told."""
        async with asyncio.timeout(WAIT_S):
            while not (self._status and holds(self._status)):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ASK_S):
                        await self._changed.wait()
                self._changed.clear()
                with contextlib.suppress(ConnectionError):
                    self._status = await self._client.ask("status")
        return self._status

    async def tether(self, state: str) -> dict[str, Any]:
        return await self.until(lambda status: bool(status["tether"]["state"] == state))

    async def retransmitted(self) -> int:
        status = await self._client.ask("status")
        return int(status["docks"]["dock"].get("retransmitted", 0))

    def _said(self, event: dict[str, Any]) -> None:
        if event["event"] == "status":
            self._status = event["status"]
            self.states.append(self._status["tether"]["state"])
        self._changed.set()


def configured(folder: Path) -> Agent:
    layout = Layout(folder)
    layout.dock_key.write_text(PAIRING.key.hex())
    layout.dock_key.chmod(0o600)
    agent = Agent(folder)
    dock = {
        "port": layout.dock_port, "serial": PAIRING.serial, "vehicle_id": PAIRING.vehicle_id,
        "key_file": layout.dock_key,
    }  # fmt: skip
    agent.configure(bare(folder, dock=[dock], policy=merged(SHORT_TIMES, {"tether": {"refill_after_s": 1}})))
    return agent


@pytest.mark.slow
@looped
async def test_the_daemon_lives_with_the_dock_in_c(tmp_path: Path) -> None:
    """Pairing, proof, STATUS, undock, return, a stall, a reset, the dead man, a power cut: one life."""
    port = Layout(tmp_path).dock_port
    async with docked(tmp_path) as dock:
        pair = Pair(PAIRING.key, padded(PAIRING.vehicle_id, 17))
        assert await exchange(port, pair, 1) == [Ack(1)]
        assert await exchange(port, Unpair(), 2) == [Nak(2, NakReason.NOT_AUTHENTICATED)]
        agent = configured(tmp_path)
        await dock.tell("kl15 on")
        async with agent.running() as process, Watch(agent.control) as watch:
            await proof_and_status(dock, watch)
            await undocked_and_returned(dock, watch)
            await stalled(dock, watch)
            await reset_in_mid_session(dock, watch)
            await power_cut(dock, process)
            assert await stop(process) == 0
        await dead_man(dock)


async def proof_and_status(dock: Dock, watch: Watch) -> None:
    status = await watch.tether("tethered")
    assert status["tether"]["usable"]
    await dock.tell("vehicle_mv 13400")
    await watch.until(lambda status: bool(status["power"]["vehicle_mv"] > 13_000))
    await watch.until(lambda status: bool(status["tether"]["budget_ms"] == BUDGET_MS))
    assert dock.session == "open"


async def undocked_and_returned(dock: Dock, watch: Watch) -> None:
    """The dock's word locks at once, not by the ride-through; the LED shows it, and goes out at return."""
    await dock.tell("seated off")
    status = await watch.tether("restricted")
    assert not status["tether"]["usable"]
    assert "uncertain" not in watch.states
    await dock.until(lambda dock: bool(dock.outputs & LED))
    await dock.tell("seated on")
    await watch.tether("tethered")
    await dock.until(lambda dock: not dock.outputs & LED)


async def stalled(dock: Dock, watch: Watch) -> None:
    """A dock that is not scheduled for longer than all tries of a command is missed, and back in time."""
    seen, before = len(watch.states), await watch.retransmitted()
    dock.process.send_signal(signal.SIGSTOP)
    await watch.tether("uncertain")
    dock.process.send_signal(signal.SIGCONT)
    await watch.tether("tethered")
    assert await watch.retransmitted() >= before + 4
    assert "restricted" not in watch.states[seen:]


async def reset_in_mid_session(dock: Dock, watch: Watch) -> None:
    """Within the ride-through: the tablet stays usable, and a new session is proved."""
    seen = len(watch.states)
    assert await dock.tell("reset") == "ok"
    await dock.until(lambda dock: dock.session == "ended")
    await dock.until(lambda dock: dock.session == "open")
    await watch.tether("tethered")
    assert not {"restricted", "foreign"} & set(watch.states[seen:])


async def power_cut(dock: Dock, agent: asyncio.subprocess.Process) -> None:
    """Ignition off: it sleeps, wakes to find its time over, and asks for the cut."""
    await dock.tell("kl15 off")
    assert agent.stdout is not None
    async with asyncio.timeout(WAIT_S):
        while b'"power_off"' not in (line := await agent.stdout.readline()):
            if b'"suspend"' in line:
                agent.send_signal(signal.SIGCONT)  # what a resume is to a rig without logind
    await dock.until(lambda dock: not dock.outputs & SUPPLY)


async def dead_man(dock: Dock) -> None:
    """Nobody leases any more: the session ends by itself, and with ignition on the supply comes back."""
    await dock.tell("kl15 on")
    await dock.until(lambda dock: dock.session == "ended" and bool(dock.outputs & LED))
    await dock.until(lambda dock: bool(dock.outputs & SUPPLY))
