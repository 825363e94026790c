"""The officer's socket: leave is for whoever sits at the tablet, by the kernel's and logind's word."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.control import PER_USER_MAX
from simulator.logind import SimSession
from tests.agent_rig import WAIT_S
from tests.aio import looped
from tests.logind_rig import Rig, logind_rig
from tests.permit_rig import Tablet

OFFICER = 65534  # somebody without any right on this machine
AT_THE_SCREEN = SimSession("2", user="officer", uid=OFFICER)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="asks as another user, which takes root")


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that others may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


@contextlib.contextmanager
def as_user(uid: int) -> Iterator[None]:
    """What the kernel says of who connects is the effective user of that moment."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


async def ask(path: Path, verb: str, *, user: int = OFFICER, **args: Any) -> dict[str, Any]:
    """Ask, and ask again where the answer is that logind is not reached yet, as just after a start."""
    async with asyncio.timeout(WAIT_S):
        while code(answer := await _asked(path, verb, user, args)) == "no_logind":
            pass
    return answer


async def _asked(path: Path, verb: str, user: int, args: dict[str, Any]) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WAIT_S)
        with as_user(user):
            sock.connect(str(path))  # taken by the kernel, whatever the agent is at
        return await asyncio.to_thread(_say, sock, json.dumps({"verb": verb, "args": args}).encode())


def _say(sock: socket.socket, request: bytes) -> dict[str, Any]:
    with contextlib.suppress(BrokenPipeError):  # who is turned away is told so before it is asked
        sock.sendall(request + b"\n")
    with sock.makefile("rb") as lines:
        answer = json.loads(lines.readline())
    assert isinstance(answer, dict)
    return answer


def code(answer: dict[str, Any]) -> str:
    return "ok" if answer["ok"] else str(answer["error"]["code"])


@contextlib.asynccontextmanager
async def at_work(folder: Path) -> AsyncIterator[tuple[Rig, Tablet, Path]]:
    """An agent that enforces through logind's double; the last is the officer's socket."""
    bus, home = folder / "bus", folder / "home"
    for each in (bus, home):
        each.mkdir()
        each.chmod(0o755)
    async with logind_rig(bus) as rig:
        tablet = Tablet(home, enforcement={"actions": ["logind"], "power": "logind"})
        tablet.environment = {"DBUS_SYSTEM_BUS_ADDRESS": rig.address}
        async with tablet.running():
            (home / "run").chmod(0o755)
            yield rig, tablet, home / "run" / "officer.sock"


@looped
async def test_the_officer_at_the_screen_takes_the_override_without_root(public: Path) -> None:
    async with at_work(public) as (rig, tablet, door):
        rig.logind.add(replace(AT_THE_SCREEN))
        answer = await ask(door, "override")
        assert answer["ok"], answer
        assert answer["result"]["usable"]
        [taken] = await tablet.records("grant.override")
        assert taken["uid"] == OFFICER


@pytest.mark.parametrize(
    "session",
    [
        None,
        replace(AT_THE_SCREEN, remote=True),
        replace(AT_THE_SCREEN, active=False),
        replace(AT_THE_SCREEN, kind="greeter"),
        replace(AT_THE_SCREEN, kind="background"),
        replace(AT_THE_SCREEN, uid=1000),
    ],
    ids=["none", "over the network", "in the background of its seat", "greeter", "background", "another's"],
)
@looped
async def test_whoever_is_not_at_the_screen_is_refused(public: Path, session: SimSession | None) -> None:
    async with at_work(public) as (rig, tablet, door):
        if session is not None:
            rig.logind.add(replace(session))
        permit = tablet.permit()
        for verb, args in (
            ("override", {}),
            ("override", {"uid": 1000}),
            ("permit.load", {"text": permit}),
            ("permit.challenge", {"minutes": 5}),
            ("permit.answer", {"code": "0" * 12}),
        ):
            assert code(await ask(door, verb, **args)) == "forbidden", verb
        grants = await tablet.grants()
        assert (grants["state"], grants["wrong_answers"], grants["overrides_left"]) == ("none", 0, 2)


@looped
async def test_the_officer_loads_a_permit_and_revokes_nothing(public: Path) -> None:
    async with at_work(public) as (rig, tablet, door):
        rig.logind.add(replace(AT_THE_SCREEN))
        assert code(await ask(door, "permit.load", text=tablet.permit())) == "ok"
        for verb in ("permit.revoke", "status", "events", "subscribe", "dock.pair", "trace"):
            assert code(await ask(door, verb)) == "unknown_verb", verb
        assert (await ask(door, "permit.status"))["result"]["usable"]
        assert code(await ask(tablet.control, "status")) == "forbidden"


@looped
async def test_root_takes_an_override_for_whoever_has_the_screen_and_for_nobody_else(public: Path) -> None:
    """The way of the page over the lock screen: the daemon's own user asks for the officer."""
    async with at_work(public) as (rig, tablet, door):
        assert code(await ask(door, "override", user=0)) == "forbidden", "root is not at the screen"
        rig.logind.add(replace(AT_THE_SCREEN))
        assert code(await ask(door, "override", user=0, uid=1000)) == "forbidden"
        assert code(await ask(door, "override", user=0, uid=OFFICER)) == "ok"
        [taken] = await tablet.records("grant.override")
        assert taken["uid"] == OFFICER


@looped
async def test_no_user_keeps_the_others_out(public: Path) -> None:
    async with at_work(public) as (_rig, _tablet, door), contextlib.AsyncExitStack() as stack:
        for _ in range(PER_USER_MAX):
            with as_user(OFFICER):
                reader, writer = await asyncio.open_unix_connection(door)
            stack.callback(writer.close)
            writer.write(b'{"verb": "permit.status"}\n')
            assert json.loads(await reader.readline())["ok"]
        with as_user(OFFICER):
            reader, writer = await asyncio.open_unix_connection(door)
        stack.callback(writer.close)
        assert code(json.loads(await reader.readline())) == "busy"  # told before anything is asked
        assert code(await ask(door, "permit.status", user=0)) == "ok"
