"""The notice's local address abused: by other sites in a browser, by other users, and by nonsense."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import stat
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from agent.notice.http import BODY_MAX, CLIENTS_MAX, HEAD_MAX, HEADERS, Answer, Request, Server
from tests.aio import looped
from tests.notice_rig import Agent, Notice, notice
from tests.system import lacking

TAKE = {"act": "override", "confirmed": True}


@pytest.fixture(scope="module")
def agent() -> Agent:
    return Agent()


@pytest.fixture(scope="module")
def served(agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notice]:
    with notice(agent, tmp_path_factory.mktemp("notice")) as made:
        yield made


@pytest.fixture(autouse=True)
def asked_nothing(agent: Agent) -> None:
    agent.asked.clear()


def get(served: Notice, path: str = "", **headers: str) -> http.client.HTTPResponse:
    return ask(served, "GET", path, None, **headers)


def ask(
    served: Notice, method: str, path: str, body: Any, *, token: str | None = None, **headers: str
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, f"/{served.token if token is None else token}/{path}", data, given)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def post(served: Notice, body: Any, **headers: str) -> int:
    given = {"Origin": f"http://127.0.0.1:{served.port}", "Content_Type": "application/json", **headers}
    return ask(served, "POST", "do", body, **{name: value for name, value in given.items() if value}).status


def raw(served: Notice, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as sock:
        sock.sendall(data)
        answer = b""
        while more := sock.recv(65536):
            answer += more
        return answer


def test_the_page_itself_may_ask(served: Notice, agent: Agent) -> None:
    assert get(served).status == 200
    assert post(served, TAKE) == 200
    assert agent.asked == [("override", {})]


@pytest.mark.parametrize("path", ["", "events", "notice.js"])
def test_without_the_token_there_is_nothing(served: Notice, path: str) -> None:
    for token in ("", "x", served.token[:-1], f"{served.token}x", served.token.swapcase()):
        assert ask(served, "GET", path, None, token=token).status == 404


def test_another_name_for_our_address_is_not_served(served: Notice) -> None:
    """DNS rebinding: a site's own name is made to lead here, and its page would be of our origin."""
    for host in (f"evil.example:{served.port}", f"localhost:{served.port}", "127.0.0.1", ""):
        assert get(served, Host=host).status == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": ""}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Dest": "empty"}, 403),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": "text/plain"}, 415),
    ],
)
def test_a_page_of_another_site_cannot_ask_though_it_knew_the_address(
    served: Notice, agent: Agent, headers: dict[str, str], status: int
) -> None:
    assert post(served, TAKE, **headers) == status
    assert agent.asked == []


def test_a_page_of_another_site_can_lead_here_but_not_embed_us(served: Notice) -> None:
    assert get(served, Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="document").status == 200
    for how in ("iframe", "script", "image", "empty", "embed"):
        assert get(served, Sec_Fetch_Site="cross-site", Sec_Fetch_Dest=how).status == 403


def test_every_answer_carries_the_policy(served: Notice) -> None:
    for answer in (get(served), get(served, "none"), get(served, "notice.css"), get(served, Host="x")):
        assert {name: answer.getheader(name) for name in HEADERS} == HEADERS


@pytest.mark.parametrize("path", ["../view.py", "..%2fview.py", "page/notice.js", "notice.js/", "do", "%00"])
def test_only_the_pages_own_files_are_served(served: Notice, path: str) -> None:
    assert get(served, path).status == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"[]", b"null", {"act": "shutdown"}, {"act": ["override"]}, {"act": "override"},
     {"act": "override", "confirmed": 1}, {"act": "challenge", "minutes": 100_000}, {"act": "challenge"},
     {"act": "challenge", "minutes": [60]}, {"act": "answer", "answer": ""}, {"act": "answer", "answer": 7},
     {"act": "answer", "answer": "A" * 41}, b"[" * 1000],
)  # fmt: skip
def test_what_is_no_request_of_the_page_is_refused(served: Notice, agent: Agent, body: Any) -> None:
    assert post(served, body) == 400
    assert agent.asked == []


def test_sizes_are_bounded(served: Notice) -> None:
    assert post(served, b"x" * (BODY_MAX + 1)) == 413
    host = f"Host: 127.0.0.1:{served.port}\r\n"
    head = f"GET /{served.token}/ HTTP/1.1\r\n{host}X: {'x' * HEAD_MAX}\r\n\r\n"
    assert b" 431 " in raw(served, head.encode()).split(b"\r\n")[0]
    origin = f"Origin: http://127.0.0.1:{served.port}\r\nContent-Type: application/json\r\n"
    for length in ("Transfer-Encoding: chunked\r\n", "Content-Length: -1\r\n", "Content-Length: ²\r\n", ""):
        text = f"POST /{served.token}/do HTTP/1.1\r\n{host}{origin}{length}\r\n0\r\n\r\n"
        assert raw(served, text.encode())[9:12] in (b"411", b"400")


@pytest.mark.parametrize(
    "head",
    [b"\x16\x03\x01 tls\r\n\r\n", b"GET\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n", b"GET / HTTP/9\r\n\r\n",
     b"GET http://x/ HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http_of_a_browser_is_refused(served: Notice, head: bytes) -> None:
    assert raw(served, head)[9:12] == b"400"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_other_methods_are_refused(served: Notice, method: str) -> None:
    assert ask(served, method, "do", None).status == 405


def test_clients_are_bounded_and_the_silent_ones_are_dropped(served: Notice) -> None:
    address = ("127.0.0.1", served.port)
    held = [socket.create_connection(address, timeout=20) for _ in range(CLIENTS_MAX)]
    try:
        with socket.create_connection(address, timeout=20) as one_more:
            assert one_more.recv(1) == b""
        for sock in held:
            assert sock.recv(1) == b""  # who sends nothing goes, after five seconds
    finally:
        for sock in held:
            sock.close()
    assert get(served).status == 200


def test_the_address_is_on_loopback_and_its_token_only_in_a_file_of_our_own(served: Notice) -> None:
    assert stat.S_IMODE(served.start_page.stat().st_mode) == 0o600
    assert stat.S_IMODE(served.start_page.parent.stat().st_mode) == 0o700
    process = Path(f"/proc/{served.process.pid}")
    for name in ("cmdline", "environ"):
        assert served.token.encode() not in (process / name).read_bytes()
    bound = [line.split()[1] for line in (process / "net/tcp").read_text().splitlines()[1:]]
    assert f"0100007F:{served.port:04X}" in bound
    assert f"00000000:{served.port:04X}" not in bound


def test_another_users_connection_is_closed_before_a_word() -> None:
    """With the token too: so nobody else can keep the officer's page out by holding connections."""
    if os.geteuid():
        lacking("needs root to be two users")

    @looped
    async def check() -> None:
        heard: list[Request] = []

        async def handle(request: Request) -> Answer:
            heard.append(request)
            return Answer(HTTPStatus.OK)

        server = Server(handle, _no_stream)
        await server.start(0)
        text = (
            "import os, socket, sys; os.setuid(int(sys.argv[1])); s = socket.socket(); "
            f"s.connect(('127.0.0.1', {server.port})); "
            f"s.sendall(b'GET / HTTP/1.1\\r\\nHost: 127.0.0.1:{server.port}\\r\\n\\r\\n'); "
            "print(s.recv(100)[9:12].decode())"
        )
        for user, expected in (("0", b"200"), ("65534", b"")):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-ISc", text, user,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            out, _ = await process.communicate()
            assert out.strip() == expected
        assert (len(heard), server.counts.turned_away) == (1, 1)
        await server.close()

    check()


async def _no_stream(_writer: asyncio.StreamWriter) -> None:
    raise AssertionError("nobody asked for events")


def test_each_start_has_another_token_and_a_link_put_in_its_place_is_not_followed(
    served: Notice, tmp_path: Path
) -> None:
    (tmp_path / "notice").mkdir(mode=0o777)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("start.part", "start.html"):
        (tmp_path / "notice" / name).symlink_to(victim)
    with notice(Agent(), tmp_path) as second:
        assert second.token != served.token
        assert not second.start_page.is_symlink()
        assert stat.S_IMODE(second.start_page.parent.stat().st_mode) == 0o700
    assert victim.read_text() == "mine"


def test_nothing_of_the_token_or_of_a_code_is_logged(tmp_path: Path) -> None:
    agent = Agent()
    with notice(agent, tmp_path, "--notify", "never", "--log-level", "debug") as made:
        assert get(made).status == 200
        assert post(made, {"act": "answer", "answer": "0123ABCDXY01"}) == 200
        log = made.stop()
    assert made.token not in log
    assert "0123" not in log
