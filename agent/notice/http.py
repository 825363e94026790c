"""A very small HTTP server for one page on loopback: every size, time and number of clients is bounded.

One request a connection. What it serves is decided elsewhere; here it is only made sure that the request
came by our own address (no DNS rebinding), and, where it changes something, from our own page.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from agent.notice.peer import uid_of

HEAD_MAX = 8192  # bytes of request line and headers, ours
BODY_MAX = 1024  # bytes, ours
CLIENTS_MAX = 16  # ours; a browser opens six at most
REQUEST_S = 5.0  # ours: to send a whole request
SEND_S = 5.0  # ours: a client that does not read what it asked for
HOST = "127.0.0.1"

# Nothing from elsewhere, nothing inline, in no frame, kept nowhere.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
    "Connection": "close",
}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    status: HTTPStatus
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""


class Refusal(Exception):
    """A request that gets no more than a status."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


Handler = Callable[[Request], Awaitable[Answer | None]]  # None: it is the stream of events
Stream = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Counts:
    """What was turned away, since the start."""

    refused: dict[int, int] = field(default_factory=dict)  # by status
    turned_away: int = 0  # too many, or another user's


class Server:
    """Serves ``handle``; ``stream`` goes on writing to a connection until it ends."""

    def __init__(self, handle: Handler, stream: Stream) -> None:
        self._handle = handle
        self._stream = stream
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._own_uid = os.geteuid()
        self.counts = Counts()
        self.port = 0

    async def start(self, port: int) -> None:
        """Listen on 127.0.0.1; port 0 takes a free one. Raises OSError."""
        self._server = await asyncio.start_server(self._connected, HOST, port, limit=HEAD_MAX)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - narrowing: asyncio runs this as a task
        if len(self._tasks) >= CLIENTS_MAX or self._is_a_stranger(writer):
            self.counts.turned_away += 1
            writer.close()
            return
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # it went, it was too slow, or we are closing
        finally:
            self._tasks.discard(task)
            writer.close()

    def _is_a_stranger(self, writer: asyncio.StreamWriter) -> bool:
        """Another user's. Where the kernel does not say whose it is, the address has to be known anyway."""
        uid = uid_of(writer.get_extra_info("peername"), writer.get_extra_info("sockname"))
        return uid not in (None, 0, self._own_uid)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_S):
                request = await self._read(reader)
            answer = await self._handle(request)
        except Refusal as refusal:
            counted = self.counts.refused
            counted[refusal.status] = counted.get(refusal.status, 0) + 1
            answer = Answer(refusal.status, body=refusal.status.phrase.encode())
        if answer is None:
            writer.write(_head(HTTPStatus.OK, "text/event-stream; charset=utf-8"))
            await self._until_gone(reader, writer)
            return
        writer.write(_head(answer.status, answer.content_type, len(answer.body)) + answer.body)
        async with asyncio.timeout(SEND_S):
            await writer.drain()

    async def _until_gone(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Stream until the client hangs up; it has nothing more to say."""
        streaming = asyncio.ensure_future(self._stream(writer))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({streaming, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (streaming, gone):
                each.cancel()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.gather(streaming, gone, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("hung up in the middle of a request") from error
        method, path, headers = _parse(head)
        if headers.get("host") != f"{HOST}:{self.port}":
            raise Refusal(HTTPStatus.MISDIRECTED_REQUEST)
        # A page of another site must not embed or fetch us: the browser says so. To be led here by one, as by
        # the start page, is what a document in its own window is; it must know the address.
        own = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        if not own and headers.get("sec-fetch-dest") != "document":
            raise Refusal(HTTPStatus.FORBIDDEN)
        if method == "GET":
            return Request(method, path)
        if method != "POST":
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        if headers.get("origin") != self.origin:
            raise Refusal(HTTPStatus.FORBIDDEN)
        if headers.get("content-type") != "application/json":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        return Request(method, path, await _body(reader, headers))


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()) or "transfer-encoding" in headers:
        raise Refusal(HTTPStatus.LENGTH_REQUIRED)
    if len(length) > len(str(BODY_MAX)) or int(length) > BODY_MAX:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    try:
        return await reader.readexactly(int(length))
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("hung up in the middle of a request") from error


def _parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, path and headers. A header that comes twice, or is folded, is no header of a browser's."""
    try:
        first, *lines = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
    except UnicodeDecodeError:
        raise Refusal(HTTPStatus.BAD_REQUEST) from None
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or not words[1].startswith("/"):
        raise Refusal(HTTPStatus.BAD_REQUEST)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or not name or name != name.strip() or key in headers:
            raise Refusal(HTTPStatus.BAD_REQUEST)
        headers[key] = value.strip()
    return words[0], words[1], headers


def _head(status: HTTPStatus, content_type: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", f"Content-Type: {content_type}"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    lines += [f"{name}: {value}" for name, value in HEADERS.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
