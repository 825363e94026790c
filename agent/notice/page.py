"""The notice as a page: its files, its stream of what is to be shown, and what an officer asks by touch.

Whoever knows the address with this start's token may ask; it is in a file that only our own user can read,
and never on a command line. What is asked goes to the agent under our own user id, and the agent decides.
"""

from __future__ import annotations

import asyncio
import html
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog

from agent.core.types import BootNs
from agent.notice.feed import Feed, Refused
from agent.notice.http import Answer, Refusal, Request, Server
from agent.notice.view import SILENT, render
from agent.notice.words import Words

FILES = Path(__file__).parent / "page"
BEAT_S = 2.0  # ours: the page counts the agent as silent after three times that
SEND_S = 5.0  # ours: a page that does not read is dropped
CODE_MAX = 40  # characters, ours: twelve, with whatever a person puts in between

log = structlog.get_logger()

_ASSETS = {
    "notice.css": "text/css; charset=utf-8",
    "notice.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Page:
    """Serves the notice; ``changed`` is to be called when what is shown may be another."""

    def __init__(self, feed: Feed, words: Words, now: Callable[[], BootNs]) -> None:
        self._feed = feed
        self.words = words
        self._now = now
        self._token = secrets.token_urlsafe(32)
        self._server = Server(self._handle, self._stream)
        self._open: set[asyncio.Event] = set()  # one for each page that is open
        self._acts: Mapping[str, Callable[[Mapping[str, Any]], Awaitable[str]]] = {
            "override": self._override,
            "challenge": self._challenge,
            "answer": self._answer,
        }

    @property
    def url(self) -> str:
        return f"{self._server.origin}/{self._token}/"

    @property
    def seen(self) -> int:
        """How many pages are open."""
        return len(self._open)

    async def start(self, port: int) -> None:
        """Listen. Raises OSError."""
        await self._server.start(port)

    async def close(self) -> None:
        await self._server.close()

    def changed(self) -> None:
        for event in self._open:
            event.set()

    def write_start_page(self, folder: Path) -> Path:
        """A file that leads a browser here: the token is on no command line, where others could read it."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        file = folder / "start.html"
        part = folder / "start.part"
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(
                f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={self.url}">'
            )
        part.replace(file)
        return file

    # --- requests -------------------------------------------------------------------------------

    async def _handle(self, request: Request) -> Answer | None:
        _, token, *rest = request.path.split("/", 2)
        if not secrets.compare_digest(token.encode(), self._token.encode()) or not rest:
            raise Refusal(HTTPStatus.NOT_FOUND)
        wanted = rest[0]
        if request.method == "POST":
            if wanted != "do":
                raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED)
            return _json(await self.do(request.body))
        if wanted == "":
            return Answer(HTTPStatus.OK, "text/html; charset=utf-8", self._index())
        if wanted == "events":
            return None
        if wanted in _ASSETS:
            return Answer(HTTPStatus.OK, _ASSETS[wanted], (FILES / wanted).read_bytes())
        raise Refusal(HTTPStatus.NOT_FOUND)

    def _index(self) -> bytes:
        """The page, with what it shows when it hears nothing from us any more."""
        silent = json.dumps(render(SILENT, self.words, self._now()))
        text = (FILES / "index.html").read_text()
        for name, value in {
            "language": self.words.language,
            "heading": self.words.heading,
            "what_to_do": self.words.what_to_do,
            "silent": silent,
            "failure": self.words.failure.silent,
            "beat_ms": str(round(BEAT_S * 1000)),
        }.items():
            text = text.replace("{{" + name + "}}", html.escape(value, quote=True))
        return text.encode()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        stirred = asyncio.Event()
        self._open.add(stirred)
        try:
            while True:
                stirred.clear()
                view = render(self._feed.said, self.words, self._now())
                writer.write(b"data: " + json.dumps(view).encode() + b"\n\n")
                async with asyncio.timeout(SEND_S):
                    await writer.drain()
                try:
                    async with asyncio.timeout(BEAT_S):
                        await stirred.wait()
                except TimeoutError:
                    pass  # again, with what is left now
        finally:
            self._open.discard(stirred)

    # --- what an officer asks -------------------------------------------------------------------

    async def do(self, body: bytes) -> dict[str, Any]:
        """What an officer asked by touch, as the page's script sends it; what is to be said to that."""
        try:
            asked = json.loads(body)
            act = self._acts[asked["act"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise Refusal(HTTPStatus.BAD_REQUEST) from None
        try:
            says = await act(asked)
        except Refused as refused:
            return {"ok": False, "says": self._why_not(refused, str(asked["act"]))}
        return {"ok": True, "says": says}

    async def _override(self, asked: Mapping[str, Any]) -> str:
        if asked.get("confirmed") is not True:
            raise Refusal(HTTPStatus.BAD_REQUEST)
        log.info("notice.override_asked")
        await self._feed.ask("override", {})
        return self.words.override.taken

    async def _challenge(self, asked: Mapping[str, Any]) -> str:
        minutes = asked.get("minutes")
        if minutes not in [option[0] for option in self.words.code.options]:
            raise Refusal(HTTPStatus.BAD_REQUEST)
        scope = "any" if self._feed.said.kind == "foreign" else "undocked"
        await self._feed.ask("permit.challenge", {"scope": scope, "minutes": minutes})
        return ""

    async def _answer(self, asked: Mapping[str, Any]) -> str:
        code = asked.get("answer")
        if not isinstance(code, str) or not 0 < len(code) <= CODE_MAX or not code.isascii():
            raise Refusal(HTTPStatus.BAD_REQUEST)
        await self._feed.ask("permit.answer", {"code": code})
        return self.words.code.accepted

    def _why_not(self, refused: Refused, act: str) -> str:
        if refused.code == "silent":
            return self.words.failure.silent
        if refused.code == "forbidden" and act == "override":
            return self.words.override.log_in
        return f"{self.words.failure.refused}{refused}"


def _json(value: Mapping[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, "application/json", json.dumps(value).encode())
