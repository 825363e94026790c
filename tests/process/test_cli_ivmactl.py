"""ivmactl as a process against a control server with a known state."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.control import ControlServer, Refusal, Verb
from tests.control_rig import EVENTS, QUEUE, STATUS, WHY_IGNITION, served


def ivmactl(path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent.cli", "--socket", str(path), *args],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_json_is_the_agents_answer(tmp_path: Path) -> None:
    with served(tmp_path / "s"):
        for args, expected in (
            (("status",), STATUS),
            (("why", "ignition"), WHY_IGNITION),
            (("queue",), QUEUE),
            (("events",), EVENTS),
        ):
            done = ivmactl(tmp_path / "s", *args, "--json")
            assert json.loads(done.stdout) == expected
            assert (done.returncode, done.stderr) == (0, "")
        assert len(json.loads(ivmactl(tmp_path / "s", "why", "--json").stdout)) == 3


def test_why_ignition_names_each_source_with_value_age_weight_and_the_rule(tmp_path: Path) -> None:
    with served(tmp_path / "s"):
        done = ivmactl(tmp_path / "s", "why", "ignition")
    assert "ignition: running" in done.stdout
    assert "ignition.wire_and_rotation" in done.stdout
    assert "the wire is on and the engine turns" in done.stdout
    rows = [line.split("  ") for line in done.stdout.splitlines()]
    for expected in (["wire", "on", "0.1 s", "100", "yes"], ["voltage", "13.8 V", "5.2 s", "0", "no", "old"]):
        assert any(
            [cell.strip() for cell in row if cell.strip()][: len(expected)] == expected for row in rows
        )


def test_status_is_readable(tmp_path: Path) -> None:
    with served(tmp_path / "s"):
        done = ivmactl(tmp_path / "s", "status")
    assert done.returncode == 0
    for expected in ("tethered", "usable yes", "seated yes (0.1 s ago)", "vehicle 13.80 V", "confidence 95"):
        assert expected in done.stdout


def test_events_and_queue_are_readable(tmp_path: Path) -> None:
    with served(tmp_path / "s"):
        assert "enforcement.changed" in ivmactl(tmp_path / "s", "events").stdout
        assert ivmactl(tmp_path / "s", "events", "--last", "0").returncode == 2
        queue = ivmactl(tmp_path / "s", "queue").stdout
    assert [line.split() for line in queue.splitlines()][2][:4] == ["telemetry", "900", "860", "40"]


@pytest.mark.parametrize(
    ("args", "verb", "answer"),
    [
        (("status",), "status", {**STATUS, "tether": {**STATUS["tether"], "usable": False}}),
        (("status",), "status", {**STATUS, "ignition": {**STATUS["ignition"], "conflicts": ["wire"]}}),
        (("status",), "status", {**STATUS, "enforcement": {"actions": {"logind": {"ok": False}}}}),
        (("why", "ignition"), "why", {**WHY_IGNITION, "conflicts": ["the wire says off"]}),
        (("why", "tether"), "why", {**WHY_IGNITION, "topic": "tether", "verdict": "restricted"}),
        (("queue",), "queue", {"alarm": {**QUEUE["alarm"], "refused": 3}}),
    ],
)
def test_exit_code_1_says_that_it_is_not_well(
    tmp_path: Path, args: tuple[str, ...], verb: str, answer: object
) -> None:
    with served(tmp_path / "s", **{verb: Verb(lambda _args: answer)}):
        assert ivmactl(tmp_path / "s", *args).returncode == 1
        assert ivmactl(tmp_path / "s", *args, "--json").returncode == 1


def test_exit_code_2_is_wrong_usage(tmp_path: Path) -> None:
    assert ivmactl(tmp_path / "s", "dance").returncode == 2
    assert ivmactl(tmp_path / "s", "why", "moon").returncode == 2


def test_exit_code_3_says_what_was_tried_and_how_to_start(tmp_path: Path) -> None:
    done = ivmactl(tmp_path / "nobody", "status")
    assert done.returncode == 3
    assert "the agent is not running" in done.stderr
    assert str(tmp_path / "nobody") in done.stderr
    assert "systemctl start ivma-agent" in done.stderr
    assert done.stdout == ""


def test_exit_code_4_is_a_refusal(tmp_path: Path) -> None:
    def refuse(_args: object) -> object:
        raise Refusal("forbidden", "user 7 may not", "use sudo")

    with served(tmp_path / "s", status=Verb(refuse)):
        done = ivmactl(tmp_path / "s", "status")
    assert (done.returncode, "user 7 may not" in done.stderr, "use sudo" in done.stderr) == (4, True, True)


@pytest.mark.parametrize("answer", [b"hello\n", b"[1]\n", b'{"ok":false}\n', b'{"ok":true,"result":7}\n'])
def test_exit_code_5_is_an_answer_that_cannot_be_understood(tmp_path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def reply() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        done = ivmactl(tmp_path / "s", "status")
        thread.join(10)
    assert done.returncode == 5
    assert "Traceback" not in done.stderr


def test_watch_prints_events_until_interrupted(tmp_path: Path) -> None:
    with served(tmp_path / "s") as (server, loop):
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "agent.cli", "--socket", str(tmp_path / "s"), "watch", "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            _until_subscribed(server, loop)
            event = {"event": "decision", "topic": "tether", "verdict": "restricted"}
            loop.call_soon_threadsafe(server.publish, event)
            assert json.loads(process.stdout.readline()) == event
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.communicate()


def test_watch_ends_with_3_when_the_agent_does(tmp_path: Path) -> None:
    with served(tmp_path / "s") as (server, loop):
        process = subprocess.Popen(
            [sys.executable, "-m", "agent.cli", "--socket", str(tmp_path / "s"), "watch"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        _until_subscribed(server, loop)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, "went away" in errors) == (3, True)


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_reader_that_stops_reading_is_no_error(tmp_path: Path, form: tuple[str, ...]) -> None:
    with served(tmp_path / "s"):
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run(
            [sys.executable, "-m", "agent.cli", "--socket", str(tmp_path / "s"), "status", *form],
            stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
        os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_that_a_device_says_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    evil = {**STATUS, "tether": {**STATUS["tether"], "dock": "\x1b]0;owned\x07"}}
    with served(tmp_path / "s", status=Verb(lambda _args: evil)):
        assert "\x1b" not in ivmactl(tmp_path / "s", "status").stdout


def _until_subscribed(server: ControlServer, loop: asyncio.AbstractEventLoop) -> None:
    """Ask the server's loop until it has a subscriber; each question is a turn of that loop."""

    async def wait() -> None:
        async with asyncio.timeout(20):
            while not server.status()["subscribers"]:
                await asyncio.get_running_loop().run_in_executor(None, os.sched_yield)

    asyncio.run_coroutine_threadsafe(wait(), loop).result(30)
