"""The guard alone: who may speak to it, what it weighs, and what it does with the worst that comes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.core.types import SECOND, BootNs, Lease
from agent.guard import wire
from agent.guard.posture import Posture, PostureError, read
from simulator.logind import SimSession
from tests.aio import looped
from tests.logind_rig import Rig, boot_now, logind_rig
from tests.system import lacking

ROOT = Path(__file__).parents[2]
WAIT_S = 90.0
NOBODY = 65534
RSS_MAX_KIB = 18 * 1024


@dataclass
class Guard:
    """A guard on the bus of a rig."""

    folder: Path
    rig: Rig
    process: asyncio.subprocess.Process
    opened: list[socket.socket] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "guard.sock"

    async def connect(self) -> socket.socket:
        """As the agent: a connection that was greeted; closed with the guard."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        sock.connect(os.fspath(self.path))
        hello = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 2000), WAIT_S)
        assert isinstance(wire.decode(hello), wire.Hello)
        self.opened.append(sock)
        return sock

    def lend(self, sock: socket.socket, seconds: float, decision: int = 2) -> None:
        now = boot_now()
        sock.send(wire.encode(Lease(decision, BootNs(now + int(seconds * SECOND)), now)))

    def shown(self) -> Posture | None:
        with contextlib.suppress(PostureError):
            return read(self.folder, {os.geteuid()})
        return None

    async def until_shown(self, *, usable: bool) -> None:
        async with asyncio.timeout(WAIT_S):
            while (shown := self.shown()) is None or shown.usable is not usable:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # a file has nobody who tells of it

    def memory_kib(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")


async def start(folder: Path, address: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent.guard", "--folder", str(folder), "--exempt", str(folder / "none"),
        *arguments, cwd=ROOT, env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def guarded(tmp_path: Path, *arguments: str) -> AsyncIterator[Guard]:
    folder = tmp_path / "guard"
    folder.mkdir(mode=0o755)
    async with logind_rig(tmp_path) as rig:
        guard = Guard(folder, rig, await start(folder, rig.address, *arguments))
        try:
            await guard.until_shown(usable=False)
            yield guard
        finally:
            with contextlib.suppress(ProcessLookupError):
                guard.process.kill()
            for sock in guard.opened:
                sock.close()
            await guard.process.communicate()


def locked(guard: Guard) -> bool:
    return all(session.locked for session in guard.rig.logind.sessions.values())


@looped
async def test_it_weighs_little_also_after_work(tmp_path: Path) -> None:
    async with guarded(tmp_path) as guard:
        guard.rig.logind.add(SimSession("1"))
        sock = await guard.connect()
        for _ in range(200):
            guard.lend(sock, 5)
        await guard.until_shown(usable=True)
        sock.send(wire.encode(wire.End(3, "out")))
        await guard.rig.until(lambda: locked(guard))
        assert guard.memory_kib() <= RSS_MAX_KIB


def let_through(folder: Path) -> None:
    """Other users may pass through to it; pytest's folders are their owner's alone."""
    for each in (folder, *folder.parents[:-2]):
        each.chmod(each.stat().st_mode | 0o011)


@looped
async def test_nobody_but_the_agent_and_root_is_heard(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        lacking("needs root to speak as another user")
    let_through(tmp_path)
    async with guarded(tmp_path, "--agent", "4711") as guard:
        guard.rig.logind.add(SimSession("1"))
        program = (
            "import os, socket, sys\n"
            "uid = int(sys.argv[1])\n"
            "os.setgroups([]); os.setgid(uid); os.setuid(uid)\n"
            "sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            f"sock.connect({str(guard.path)!r})\n"
            "try:\n"
            f"    sock.send({wire.encode(Lease(2, BootNs(boot_now() + 60 * SECOND), boot_now()))!r})\n"
            "    sys.exit(1 if sock.recv(2000) else 0)\n"
            "except OSError:\n"
            "    sys.exit(0)\n"
        )

        async def as_user(uid: int) -> int:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-c", program, str(uid),
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            return await asyncio.wait_for(process.wait(), WAIT_S)

        assert guard.path.stat().st_mode & 0o777 == 0o660
        assert await as_user(NOBODY) == 1, "the socket's mode keeps it out: connect fails"
        guard.path.chmod(0o666)
        assert await as_user(NOBODY) == 0, "connected, and hung up on without a word"
        shown = guard.shown()
        assert shown is not None
        assert not shown.usable
        assert await as_user(4711) == 1, "the agent's user is greeted"
        await guard.until_shown(usable=True)


@looped
async def test_garbage_floods_and_many_connections_keep_no_lock_from_being_made(tmp_path: Path) -> None:
    async with guarded(tmp_path) as guard:
        guard.rig.logind.add(SimSession("1"))
        sock = await guard.connect()
        guard.lend(sock, 1.5)
        await guard.until_shown(usable=True)
        guard.rig.logind.unlock(guard.rig.logind.sessions["1"])
        crowd = []
        for number in range(200):
            other = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            crowd.append(other)
            with contextlib.suppress(OSError):
                other.connect(os.fspath(guard.path))
                other.send([b"\xff" * 1000, b"lease 1 2", b"x" * 4000][number % 3])
        await guard.rig.until(lambda: locked(guard), WAIT_S)
        for other in crowd:
            other.close()
        await guard.connect()
        assert guard.process.returncode is None


@looped
async def test_an_agent_that_reads_nothing_does_not_stop_it(tmp_path: Path) -> None:
    async with guarded(tmp_path) as guard:
        guard.rig.logind.add(SimSession("1"))
        sock = await guard.connect()
        for number in range(400):  # each is answered by "locked", and never read
            with contextlib.suppress(BlockingIOError):
                guard.lend(sock, 0.001, decision=number)
                sock.send(wire.encode(wire.End(number, "x" * 200)))
        await guard.rig.until(lambda: locked(guard), WAIT_S)
        await guard.connect()


@looped
async def test_of_two_guards_the_second_ends_and_an_open_folder_is_refused(tmp_path: Path) -> None:
    async with guarded(tmp_path) as guard:
        second = await start(guard.folder, guard.rig.address)
        _, said = await asyncio.wait_for(second.communicate(), WAIT_S)
        assert second.returncode == 75
        assert b"another guard" in said
        open_folder = tmp_path / "open"
        open_folder.mkdir()
        open_folder.chmod(0o777)
        third = await start(open_folder, guard.rig.address)
        _, said = await asyncio.wait_for(third.communicate(), WAIT_S)
        assert third.returncode == 73
        assert b"others can write" in said


@looped
async def test_the_maintenance_accounts_session_is_left_alone(tmp_path: Path) -> None:
    exempt = tmp_path / "maintenance"
    exempt.write_text("fitter\n")
    async with guarded(tmp_path, "--exempt", str(exempt)) as guard:
        session = guard.rig.logind.add(SimSession("7", user="fitter"))
        guard.rig.logind.add(SimSession("1"))
        await guard.rig.until(lambda: guard.rig.logind.sessions["1"].locked)
        assert not session.locked


@pytest.mark.slow
@looped
async def test_idle_it_sleeps(tmp_path: Path) -> None:
    """Locked and verified, nothing wakes it; with a lease only what is said to it does."""
    async with guarded(tmp_path) as guard:
        guard.rig.logind.add(SimSession("1"))
        sock = await guard.connect()
        await guard.rig.until(lambda: locked(guard))
        await asyncio.sleep(1.5)  # it looks once more after that: time that has to pass
        before = switches(guard)
        await asyncio.sleep(3)
        assert switches(guard) == before
        for _ in range(3):
            guard.lend(sock, 60)
            await asyncio.sleep(0.2)
        assert switches(guard) - before <= 3 * 2


def switches(guard: Guard) -> int:
    for line in Path(f"/proc/{guard.process.pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise AssertionError("no count")
