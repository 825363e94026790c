"""The notice in an officer's session: the desktop notification, its browser, and an agent that is none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from agent.clock import boot_now
from agent.notice import feed as feed_
from agent.notice import toast
from agent.notice.feed import Feed, Refused
from agent.notice.kiosk import Kiosk
from agent.notice.toast import Toast
from agent.notice.view import SILENT
from simulator.private_bus import PrivateBus
from tests.aio import looped
from tests.control_rig import serving
from tests.notice_rig import Agent, following
from tests.system import need

WAIT_S = 90.0


class Desktop:
    """A double of the notification daemon (Desktop Notifications Specification 1.2)."""

    def __init__(self, address: str) -> None:
        self.shown: dict[int, tuple[str, str, int]] = {}  # by id: title, body, urgency
        self.changed = asyncio.Event()
        self._address = address
        self._last = 0

    async def start(self) -> None:
        self._bus = await MessageBus(bus_address=self._address).connect()
        self._bus.add_message_handler(self._handle)
        await self._bus.request_name(toast.NAME)

    def stop(self) -> None:
        self._bus.disconnect()
        self.shown.clear()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    def titles(self) -> list[str]:
        return [title for title, _, _ in self.shown.values()]

    def _handle(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL or message.interface != toast.NAME:
            return None
        self.changed.set()
        if message.member == "CloseNotification":
            self.shown.pop(message.body[0], None)
            return Message.new_method_return(message)
        _, replaces, _, title, body, _, hints, timeout = message.body
        assert timeout == 0, "it must not go away by itself"
        if not replaces:
            self._last += 1
        number = replaces or self._last
        self.shown[number] = (title, body, hints["urgency"].value)
        return Message.new_method_return(message, "u", [number])


@contextlib.asynccontextmanager
async def desktop(
    folder: Path, monkeypatch: pytest.MonkeyPatch, page_open: Callable[[], bool] = lambda: False
) -> AsyncIterator[tuple[Desktop, Toast]]:
    need("dbus-daemon")
    monkeypatch.setattr(toast, "SETTLE_S", 0.05)
    async with PrivateBus(folder) as bus:
        double = Desktop(bus.address)
        await double.start()
        made = Toast(page_open, bus.address)
        made.start()
        try:
            yield double, made
        finally:
            await made.close()
            double.stop()


def test_a_notification_is_shown_replaced_and_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @looped
    async def check() -> None:
        async with desktop(tmp_path, monkeypatch) as (double, made):
            made.say("Dock connection lost", "Push the tablet into its dock.")
            await double.until(lambda: double.shown)
            assert double.shown == {1: ("Dock connection lost", "Push the tablet into its dock.", 2)}
            made.say("Tablet locked", "Put it back.")
            await double.until(lambda: double.titles() == ["Tablet locked"])
            assert list(double.shown) == [1], "one notification, not a pile"
            made.hush()
            await double.until(lambda: not double.shown)

    check()


def test_an_open_page_needs_no_notification_and_one_that_closes_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @looped
    async def check() -> None:
        opened = [False]
        async with desktop(tmp_path, monkeypatch, lambda: opened[0]) as (double, made):
            made.say("Tablet locked", "Put it back.")
            await double.until(lambda: double.shown)
            opened[0] = True
            await double.until(lambda: not double.shown)
            opened[0] = False
            await double.until(lambda: double.shown)

    check()


def test_a_desktop_that_starts_late_or_again_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @looped
    async def check() -> None:
        async with desktop(tmp_path, monkeypatch) as (double, made):
            double.stop()
            made.say("Tablet locked", "Put it back.")
            await double.start()
            await double.until(lambda: double.shown)
            double.stop()
            await double.start()
            await double.until(lambda: double.shown)

    check()


# --- the browser ----------------------------------------------------------------------------------


@looped
async def test_the_browser_runs_while_there_is_something_to_show_and_is_ended_with_its_children(
    tmp_path: Path,
) -> None:
    text = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "if not child: time.sleep(60)\n"
        "print(os.getpid(), child, sys.argv[1], file=open(sys.argv[2] + '.part', 'w'), flush=True)\n"
        "os.rename(sys.argv[2] + '.part', sys.argv[2])\n"
        "time.sleep(60)"
    )
    told = tmp_path / "told"
    kiosk = Kiosk([sys.executable, "-c", text, "--app={page}", str(told)], "file:///start.html")
    kiosk.start()
    kiosk.show(True)
    first = await read(told)
    parent, child, page = first.split()
    assert page == "--app=file:///start.html"
    kiosk.show(False)
    await gone(int(parent), int(child))
    told.unlink()
    kiosk.show(True)
    assert await read(told) != first
    again = [int(each) for each in told.read_text().split()[:2]]
    await kiosk.close()
    await gone(*again)


@looped
async def test_a_browser_that_dies_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = tmp_path / "count"
    text = f"open({str(count)!r}, 'a').write('x')"
    kiosk = Kiosk([sys.executable, "-c", text], "")
    kiosk.start()
    kiosk.show(True)
    async with asyncio.timeout(WAIT_S):
        while not count.exists() or len(count.read_text()) < 2:  # noqa: ASYNC110 - another's file
            await asyncio.sleep(0.02)
    await kiosk.close()


async def read(path: Path) -> str:
    """What another process wrote, once it has."""
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(FileNotFoundError):
                if text := path.read_text():  # noqa: ASYNC240
                    return text
            await asyncio.sleep(0.01)


async def gone(*pids: int) -> None:
    """Wait until none of them runs any more."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            ends = os.pidfd_open(pid)
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(ends, ended.set)
            async with asyncio.timeout(WAIT_S):
                await ended.wait()
            asyncio.get_running_loop().remove_reader(ends)
            os.close(ends)


# --- the agent's socket ---------------------------------------------------------------------------


@looped
async def test_an_agent_that_comes_goes_and_comes_is_followed(tmp_path: Path) -> None:
    path, agent = tmp_path / "officer.sock", Agent()
    async with following(path) as (feed, until):
        assert feed.said == SILENT
        for state in ("restricted", "foreign"):
            agent.becomes(state)
            async with serving(path, group=None, audits=None, **agent.verbs()):
                await until(state)
            await until("silent")


@looped
async def test_what_is_asked_of_an_agent_that_is_not_there_is_refused_as_silent(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        await Feed(tmp_path / "none", boot_now, lambda: None).ask("override", {})
    assert refused.value.code == "silent"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no json\n",
        b"[]\n",
        b'{"id": null, "ok": false, "error": {"code": "forbidden", "message": "join the group"}}\n',
        b'{"id": 1, "ok": true, "result": {}}\n',
        b'{"id": 1, "ok": true}\n',
        b'{"id": 2, "ok": true, "result": {}}\n',
        b"x" * (1 << 20) + b"\n",
    ],
)
def test_a_socket_that_is_no_agents_is_silence(
    answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_, "ANSWER_S", 0.5)
    monkeypatch.setattr(feed_, "RETRY_S", 0.05)

    @looped
    async def check() -> None:
        asked = asyncio.Semaphore(0)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                await reader.readline()
                writer.write(answer)
                await writer.drain()
                await reader.read()
            writer.close()
            asked.release()

        server = await asyncio.start_unix_server(serve, tmp_path / "officer.sock")
        async with following(tmp_path / "officer.sock") as (feed, _), asyncio.timeout(WAIT_S):
            await asked.acquire()
            assert feed.said == SILENT
            await asked.acquire()  # and it is tried again
            assert feed.said == SILENT
        server.close()
        await server.wait_closed()

    check()


# --- the whole ------------------------------------------------------------------------------------


@looped
async def test_the_process_ends_its_browser_and_itself_at_sigterm(tmp_path: Path) -> None:
    """With an agent that is not there: the notice shows that, and so runs the browser."""
    told = tmp_path / "told"
    script = tmp_path / "browser.py"
    script.write_text(f"import os, time\nopen({str(told)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n")
    show = f"{sys.executable} {script}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent.notice", "--socket", str(tmp_path / "none"), "--folder", str(tmp_path),
        "--show", show, "--notify", "never", stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        pid = await read(told)
        process.send_signal(signal.SIGTERM)
        _, log = await asyncio.wait_for(process.communicate(), WAIT_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0
    await gone(int(pid))
    events = [json.loads(line)["event"] for line in log.decode().splitlines()]
    assert events.count("notice.agent_silent") == 1, (
        "the first failure of a kind is told, repetitions are not"
    )
