"""The control socket: who may ask, what is answered, and that nothing a client does hurts the agent."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.control import CLIENTS_MAX, LINE_MAX, Caller, ControlError, Verb
from tests.aio import looped
from tests.control_rig import STATUS, Audits, ask, serving
from tests.system import lacking

NOBODY = 65534  # the overflow user and group of the kernel, nobody on every distribution


@looped
async def test_answers_carry_the_requests_id_and_come_in_order(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serving(path):
        status, version = await ask(path, b'{"id":1,"verb":"status"}\n', b'{"id":"b","verb":"version"}\n')
    assert status == {"id": 1, "ok": True, "result": STATUS}
    assert (version["id"], version["result"]["protocol"]) == ("b", 1)


@looped
async def test_a_handler_may_take_its_time(tmp_path: Path) -> None:
    async def slowly() -> dict[str, int]:
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        return {"pending": 3}

    async with serving(tmp_path / "s", later=Verb(lambda _args: slowly())):
        (answer,) = await ask(tmp_path / "s", b'{"id":1,"verb":"later"}\n')
    assert answer["result"] == {"pending": 3}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"not json\n", "bad_request"),
        (b"[]\n", "bad_request"),
        (b'{"id":1}\n', "bad_request"),
        (b'{"verb":3}\n', "bad_request"),
        (b'{"verb":"status","args":[]}\n', "bad_request"),
        (b'{"verb":"status","reason":"two\\nlines"}\n', "bad_request"),
        (b'{"id":1.5,"verb":"status"}\n', "bad_request"),
        (b'{"id":1,"verb":"why","args":{"topic":"moon"}}\n', "bad_request"),
        (b'{"id":1,"verb":"dance"}\n', "unknown_verb"),
        (b"[" * 9000 + b"\n", "bad_request"),
        (b"\xff\xfe\n", "bad_request"),
    ],
)
def test_a_bad_request_is_answered_and_the_connection_goes_on(tmp_path: Path, line: bytes, code: str) -> None:
    @looped
    async def check() -> None:
        async with serving(tmp_path / "s"):
            bad, good = await ask(tmp_path / "s", line, b'{"id":2,"verb":"status"}\n')
        assert (bad["ok"], bad["error"]["code"]) == (False, code)
        assert bad["error"]["message"]
        assert good["ok"]

    check()


@looped
async def test_a_request_without_end_is_refused_and_the_connection_closed(tmp_path: Path) -> None:
    async with serving(tmp_path / "s"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b"x" * (4 * LINE_MAX))
        answer = json.loads(await reader.readline())
        assert answer["error"]["code"] == "too_long"
        assert await reader.read() == b""
        writer.close()


@looped
async def test_a_defect_in_a_handler_is_an_answer_and_not_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", broken=Verb(lambda args: args["missing"])):
        broken, good = await ask(tmp_path / "s", b'{"verb":"broken"}\n', b'{"verb":"status"}\n')
    assert broken["error"]["code"] == "failed"
    assert good["ok"]


@looped
async def test_every_consultation_is_audited_with_who_and_why(tmp_path: Path) -> None:
    audits = Audits()
    async with serving(tmp_path / "s", audits=audits):
        await ask(
            tmp_path / "s",
            b'{"verb":"events","reason":"complaint 7","args":{"last":9}}\n',
            b'{"verb":"status"}\n',
            b'{"verb":"subscribe"}\n',
        )
    assert audits == [(os.geteuid(), "events", "complaint 7"), (os.geteuid(), "subscribe", None)]


@looped
async def test_subscribers_get_events_and_others_do_not(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as server:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        other_reader, other = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b'{"id":1,"verb":"subscribe"}\n')
        other.write(b'{"id":1,"verb":"version"}\n')
        assert json.loads(await reader.readline())["ok"]
        assert json.loads(await other_reader.readline())["ok"]
        server.publish({"event": "decision", "topic": "tether"})
        assert json.loads(await reader.readline()) == {"event": "decision", "topic": "tether"}
        other.write(b'{"id":2,"verb":"version"}\n')
        assert json.loads(await other_reader.readline())["id"] == 2
        writer.close()
        other.close()


@looped
async def test_a_subscriber_that_does_not_read_is_dropped_and_counted(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as server:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s", limit=64)
        writer.write(b'{"id":1,"verb":"subscribe"}\n')
        await reader.readline()
        for _ in range(400):  # far more than a client may leave unread
            server.publish({"event": "noise", "text": "x" * 8192})
        assert server.counts.slow == 1
        (answer,) = await ask(tmp_path / "s", b'{"verb":"status"}\n')
        assert answer["ok"]
        writer.close()


@looped
async def test_there_is_a_most_of_clients(tmp_path: Path) -> None:
    async with serving(tmp_path / "s"):
        many = [await asyncio.open_unix_connection(tmp_path / "s") for _ in range(CLIENTS_MAX)]
        for reader, writer in many:
            writer.write(b'{"verb":"version"}\n')
            await reader.readline()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        assert json.loads(await reader.readline())["error"]["code"] == "busy"
        for _reader, each in [*many, (reader, writer)]:
            each.close()


@looped
async def test_the_socket_is_for_its_owner_and_group(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", group=os.getgid()):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660
    assert not (tmp_path / "s").exists()


@looped
async def test_a_socket_that_a_crash_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))
    async with serving(tmp_path / "s"):
        (answer,) = await ask(tmp_path / "s", b'{"verb":"status"}\n')
    assert answer["ok"]


@looped
async def test_a_socket_that_is_served_is_left_alone(tmp_path: Path) -> None:
    async with serving(tmp_path / "s"):
        with pytest.raises(ControlError, match="another agent is serving it"):
            async with serving(tmp_path / "s"):
                pass
        assert (await ask(tmp_path / "s", b'{"verb":"status"}\n'))[0]["ok"]


@looped
async def test_a_file_in_the_way_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(ControlError, match="remove it"):
        async with serving(tmp_path / "s"):
            pass
    assert (tmp_path / "s").read_text() == "precious"


_AS_NOBODY = f"""
import json, os, socket, sys
os.setgroups([int(g) for g in sys.argv[2:]])
os.setgid({NOBODY}); os.setuid({NOBODY})
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile("rb")
for verb in ("version", "stop"):
    try: s.sendall(json.dumps({{"verb": verb}}).encode() + b"\\n")
    except BrokenPipeError: pass
    print(f.readline().decode(), end="", flush=True)
"""


@pytest.mark.parametrize(("groups", "answers"), [([], ["forbidden"]), ([4242], [None, "forbidden"])])
def test_a_reader_reads_a_stranger_does_nothing(
    tmp_path: Path, groups: list[int], answers: list[str | None]
) -> None:
    if os.geteuid() != 0:
        lacking("needs root to be another user for a moment")

    @looped
    async def check() -> None:
        async with serving(tmp_path / "s", group=4242):
            # The kernel's file permissions are the first gate; opened here, the second one is tested.
            (tmp_path / "s").chmod(0o666)
            shared = Path(tempfile.gettempdir())
            for folder in (tmp_path, *(each for each in tmp_path.parents if each.is_relative_to(shared))):
                folder.chmod(folder.stat().st_mode | 0o011)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _AS_NOBODY, str(tmp_path / "s"), *map(str, groups),
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            out, _ = await process.communicate()
            codes = [json.loads(line).get("error", {}).get("code") for line in out.splitlines()]
            assert codes == answers

    check()


@looped
async def test_a_long_verb_tells_how_far_it_is_and_knows_who_asks(tmp_path: Path) -> None:
    async def slowly(args: Mapping[str, Any], caller: Caller) -> dict[str, int]:
        caller.tell({"step": "half"})
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        return {"uid": caller.peer.uid, **args}

    async with serving(tmp_path / "s", long=Verb(slowly, with_caller=True)):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b'{"id":7,"verb":"long","args":{"n":3}}\n')
        assert json.loads(await reader.readline()) == {"id": 7, "progress": {"step": "half"}}
        answer = json.loads(await reader.readline())
        writer.close()
    assert answer == {"id": 7, "ok": True, "result": {"uid": os.getuid(), "n": 3}}


@looped
async def test_a_verb_has_its_own_patience(tmp_path: Path) -> None:
    async def never() -> None:
        await asyncio.get_running_loop().create_future()

    async with serving(tmp_path / "s", stuck=Verb(lambda _args: never(), within_s=0.05)):
        (answer,) = await ask(tmp_path / "s", b'{"id":1,"verb":"stuck"}\n')
    assert (answer["error"]["code"], answer["error"]["message"]) == ("timeout", "no result in 0.05 s")
