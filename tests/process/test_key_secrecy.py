"""No key leaves its place: every byte that comes out of pairing, use, tests and unpairing is searched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from agent.core.types import BootNs, LinkLoss
from drivers.docks.reference.codec import Message, Pair
from simulator.docks.serial_device import SerialDevice
from sync import codes
from sync.codes import load_code_key
from tests.agent_rig import bare, stop
from tests.control_rig import ask
from tests.key_search import finds
from tests.pairing_rig import VEHICLE, WatchedDock, Workshop, workshop


class Overheard:
    """What was said on the control socket, both ways, and what every process showed meanwhile."""

    def __init__(self) -> None:
        self.socket = bytearray()
        self.processes: set[bytes] = set()
        self.core_limits: set[str] = set()

    @contextlib.asynccontextmanager
    async def on(self, shop: Workshop) -> AsyncIterator[Path]:
        """A socket that passes everything on to the agent's."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            theirs, ours = await asyncio.open_unix_connection(shop.agent.control)
            await asyncio.gather(self._pipe(reader, ours), self._pipe(theirs, writer))

        path = shop.agent.control.with_name("overheard.sock")
        async with await asyncio.start_unix_server(connected, path):
            yield path

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            self.socket += data
            writer.write(data)
        writer.close()

    def look_at_limits(self, pid: int) -> None:
        limits = Path(f"/proc/{pid}/limits").read_text()
        (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        self.core_limits.add(" ".join(core.split()[4:6]))

    def look(self) -> None:
        """Command line and environment of every process that there is."""
        for process in Path("/proc").iterdir():
            if process.name.isdecimal():
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        self.processes.add((process / name).read_bytes())


async def lived_through(shop: Workshop, heard: Overheard, key_file: Path) -> bytes:
    """Pair with a given key and with a new one, use, test, take a short code, unpair; what ivmactl wrote."""
    wrote = b""
    dock = shop.dock()
    watch(dock, heard)
    bad = key_file.with_name("bad.key")
    bad.write_text(bytes(range(20)).hex())
    shop.plug.plug(dock)
    async with shop.agent.running() as process, heard.on(shop) as path:
        heard.look_at_limits(process.pid)

        async def ivmactl(*words: str) -> None:
            nonlocal wrote
            said = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent.cli", "--socket", str(path), *words,
                cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            heard.look()
            out, _ = await said.communicate()
            wrote += out

        pair = ("dock", "pair", "--port", str(shop.port), "--vehicle", VEHICLE)
        await ivmactl(*pair, "--key-file", str(key_file))
        await shop.tethered()
        for words in (["dock", "test"], ["dock", "show"], ["status"], ["why"], ["events"], ["queue"]):
            await ivmactl(*words)
        await ivmactl(*pair)  # refused: its service contact is open
        dock.model.service_contact = True
        await ivmactl(*pair, "--json")
        await ivmactl(*pair, "--key-file", str(bad))
        await permits(path, key_file.parent)
        await ivmactl("permit", "status")
        await ivmactl("trace", "export", str(shop.folder / "all.trace"))
        await ivmactl("trace", "show", "--last", "500")
        await ivmactl("dock", "unpair", "dock")
        assert await stop(process) == 0
    return wrote


async def permits(path: Path, folder: Path) -> None:
    """A challenge, a wrong answer, and the right one."""
    code_key = load_code_key(folder / "code.key")
    (asked,) = await ask(path, b'{"id":1,"verb":"permit.challenge","args":{"minutes":5}}\n')
    assert asked["ok"], asked
    challenge, scope = asked["result"]["challenge"], asked["result"]["scope"]
    right = codes.answer(code_key, codes.plain(challenge), scope, 5)
    for answer in ("0" * 12, right):
        request = {"id": 2, "verb": "permit.answer", "args": {"code": answer}}
        (answered,) = await ask(path, json.dumps(request).encode() + b"\n")
    assert answered["ok"], answered


def watch(dock: SerialDevice[WatchedDock], heard: Overheard) -> None:
    def met(message: Message) -> bool:
        if isinstance(message, Pair):
            KEYS.add(message.key)
        heard.look()
        return True

    dock.model.met = met


KEYS: set[bytes] = set()


async def everything(folder: Path, heard: Overheard, key_file: Path) -> bytes:
    async with workshop(folder) as shop:
        shop.agent.log = folder / "journal"
        shop.agent.configure(
            bare(
                folder,
                logging={"level": "debug"},
                permits={"code_key_file": folder / "code.key"},
                pairing={"storage_key_file": folder / "storage.key"},
            )
        )
        return await lived_through(shop, heard, key_file)


def test_no_key_comes_out_anywhere(tmp_path: Path) -> None:
    KEYS.clear()
    given = random.Random(11).randbytes(32)
    key_file = tmp_path / "given.key"
    key_file.write_text(given.hex())
    for name in ("code", "storage"):
        held = random.Random(name).randbytes(32)
        (tmp_path / f"{name}.key").write_text(held.hex() + "\n")
        (tmp_path / f"{name}.key").chmod(0o600)
        KEYS.add(held)
    heard = Overheard()
    wrote = asyncio.run(everything(tmp_path, heard, key_file))
    assert given in KEYS
    # Of codes, of the pairings on disk, the given one, one that the dock refused, and a new one.
    assert len(KEYS) == 5

    outputs = {
        "ivmactl": wrote,
        "control socket": bytes(heard.socket),
        "journal": (tmp_path / "journal").read_bytes(),
        "trace": (tmp_path / "all.trace").read_bytes(),
        "processes": b"\n".join(heard.processes),
    }
    for folder in ("state", "run"):
        outputs |= {str(file): file.read_bytes() for file in (tmp_path / folder).rglob("*") if file.is_file()}
    assert {name: finds(data, KEYS) for name, data in outputs.items() if finds(data, KEYS)} == {}

    # Each place was really looked at, while there was something to see.
    assert b"it proved its key" in outputs["ivmactl"]
    assert b"dock.pair" in outputs["control socket"]
    assert b"dock.opened" in outputs["journal"]
    assert b"\0agent\0run" in outputs["processes"]
    assert any("queue.db" in name for name in outputs)
    shown = subprocess.run(
        [sys.executable, "-m", "agent.cli", "trace", "show", "--folder", str(tmp_path / "state" / "trace"),
         "--last", "10000"],
        cwd=Path(__file__).parents[2], capture_output=True, check=False,
    ).stdout  # fmt: skip
    assert b"pairing" in shown  # the wire of a pairing is in the black box, blanked
    assert finds(shown, KEYS) == []
    assert heard.core_limits == {"0 0"}


def test_a_process_that_holds_keys_leaves_no_core_dump() -> None:
    program = (
        "import ctypes, resource\n"
        "from agent.secrecy import no_core_dumps\n"
        "no_core_dumps()\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
        text=True,
    )
    assert said.stdout == "0 (0, 0)\n"  # PR_GET_DUMPABLE


def test_what_holds_a_key_does_not_show_it() -> None:
    """In reprs, and so in exceptions, in logs of locals, in failures of tests."""
    from agent.pairing_wish import Wish
    from drivers.docks.reference.pairing import ReferencePairing
    from drivers.docks.reference.session import ReferenceSession
    from drivers.spec import DockSettings
    from simulator.docks.reference import Identity

    key = random.Random(12).randbytes(32)
    settings = DockSettings("dock", "DK-1", VEHICLE, key)
    session = ReferenceSession(settings, random.Random(1).randbytes)
    pairing = ReferencePairing(random.Random(1).randbytes, lambda _answer: None)
    pairing.ask_pair(key, VEHICLE, BootNs(0))
    pairing.link_lost(BootNs(0), LinkLoss.CLOSED)
    pairing.ask_proof(key, "DK-1", VEHICLE, BootNs(0))
    shown = [settings, session, pairing, vars(pairing), Wish(key=key), Pair(key, bytes(17))]
    shown += [Identity.of("DK-1", VEHICLE, key)]
    leaks = [type(each).__name__ for each in shown if finds(repr(each).encode(), [key])]
    assert leaks == []
