"""The local socket: `ivmactl` and other software on the tablet ask here, and subscribe. docs/operating.md.

One JSON object a line, each way. Who asks is what the kernel says (SO_PEERCRED, SO_PEERGROUPS): root and
the agent's own user may do everything, members of the configured group may read, nobody else anything.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import inspect
import json
import os
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger()

LINE_MAX = 16 * 1024  # bytes a request, ours
OUTPUT_MAX = 1 << 20  # bytes that a client may leave unread, ours
CLIENTS_MAX = 32  # ours
PER_USER_MAX = 4  # of them where everybody may connect, ours: nobody can keep the others out alone
REASON_MAX = 200  # characters, ours
HANDLER_S = 10.0  # ours: `ivmactl` itself waits a little longer
SO_PEERGROUPS = 59  # asm-generic/socket.h, since Linux 4.13

Audit = Callable[[int, str, str | None], None]  # uid, verb, reason


class ControlError(Exception):
    """The socket cannot be served; the text says what to do."""


class Refusal(Exception):
    """A handler's answer that it will not: a stable code, words, and what to do."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, by the kernel, at the time of the connection."""

    pid: int
    uid: int
    groups: frozenset[int]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for a verb, and the way to tell them how far it is before its answer comes."""

    peer: Peer
    tell: Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: ``run`` takes the request's arguments and returns JSON-able data, or an awaitable of it.

    ``changes``: not for mere readers. ``consults``: it shows records, so each use is itself recorded.
    ``within_s``: how long it may take. ``with_caller``: ``run`` also takes the ``Caller``.
    """

    run: Callable[..., object]
    changes: bool = False
    consults: bool = False
    within_s: float = HANDLER_S
    with_caller: bool = False


@dataclass(eq=False)
class _Client:
    peer: Peer
    writer: asyncio.StreamWriter
    subscribed: bool = False


@dataclass
class Counts:
    """What was turned away, since the start."""

    refused_peers: int = 0
    too_many: int = 0
    slow: int = 0
    bad_requests: int = 0
    by_verb: dict[str, int] = field(default_factory=dict)  # bounded by the verbs there are


class ControlServer:
    """Serves ``verbs`` on a Unix socket at ``path``; "subscribe" is its own and streams ``publish``.

    Args:
        group: gid whose members may read; None: nobody but root and our own user.
        audited: called before each verb that consults records is run.
        anybody: every local user may connect, and each verb looks who asks; there is no "subscribe".
    """

    def __init__(
        self,
        path: Path,
        verbs: Mapping[str, Verb],
        *,
        group: int | None,
        audited: Audit,
        anybody: bool = False,
    ) -> None:
        self._path = path
        self._verbs = dict(verbs)
        if not anybody:
            self._verbs["subscribe"] = Verb(lambda _args: {}, consults=True)
        self._anybody = anybody
        self._group = group
        self._audited = audited
        self._own_uid = os.geteuid()
        self._server: asyncio.Server | None = None
        self._inode = -1
        self._clients: set[_Client] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.counts = Counts()

    async def start(self) -> None:
        """Listen.

        Raises:
            ControlError: another agent serves the path, or it cannot be made.
        """
        sock = _listen(self._path, self._group, 0o666 if self._anybody else 0o660)
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._connected, sock=sock, limit=LINE_MAX)

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:  # it may be another agent's by now
                self._path.unlink()
        self._server = None

    def publish(self, event: Mapping[str, Any]) -> None:
        """Send an event to every subscriber; one that does not read is dropped."""
        if any(client.subscribed for client in self._clients):
            line = _line(event)
            for client in list(self._clients):
                if client.subscribed:
                    self._send(client, line)

    def status(self) -> dict[str, object]:
        """What `ivmactl status` shows of it, as JSON."""
        counts = self.counts
        return {
            "clients": len(self._clients),
            "subscribers": sum(client.subscribed for client in self._clients),
            "dropped": {
                "refused_peers": counts.refused_peers,
                "too_many": counts.too_many,
                "slow": counts.slow,
                "bad_requests": counts.bad_requests,
            },
        }

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - narrowing: asyncio runs this as a task
        self._tasks.add(task)
        client = _Client(peer_of(writer.get_extra_info("socket")), writer)
        try:
            if refusal := self._turned_away(client.peer):
                self._send(client, _failure(None, refusal))
                return
            self._clients.add(client)
            await self._serve(client, reader)
        except asyncio.CancelledError:
            pass  # we are closing; asyncio's stream code would log a cancelled handler as an error
        finally:
            self._clients.discard(client)
            self._tasks.discard(task)
            writer.close()

    def _turned_away(self, peer: Peer) -> Refusal | None:
        if len(self._clients) >= CLIENTS_MAX:
            self.counts.too_many += 1
            return Refusal(
                "busy", f"{CLIENTS_MAX} clients are connected already", "close one, then try again"
            )
        theirs = sum(client.peer.uid == peer.uid for client in self._clients)
        if self._anybody and theirs >= PER_USER_MAX:
            self.counts.too_many += 1
            return Refusal("busy", f"user {peer.uid} has {theirs} connections already", "close one")
        if not self._may_read(peer):
            self.counts.refused_peers += 1
            return Refusal("forbidden", f"user {peer.uid} may not ask the agent", "join the agent's group")
        return None

    async def _serve(self, client: _Client, reader: asyncio.StreamReader) -> None:
        while not client.writer.is_closing():
            try:
                line = await reader.readline()
            except ConnectionError:
                return
            except ValueError:
                self.counts.bad_requests += 1
                refusal = Refusal("too_long", f"a request has at most {LINE_MAX} bytes", "send less")
                self._send(client, _failure(None, refusal))
                return  # where the next request begins is lost
            if not line.endswith(b"\n"):
                return
            self._send(client, await self._answer(client, line))
            await asyncio.sleep(0)  # a client that sends without pause must not hold the loop

    async def _answer(self, client: _Client, line: bytes) -> bytes:
        request_id: object = None
        within_s = HANDLER_S
        try:
            request = _parse(line)
            request_id = request.get("id")
            name = request["verb"]
            verb = self._verb(name, client.peer)
            self.counts.by_verb[name] = self.counts.by_verb.get(name, 0) + 1
            if verb.consults:
                self._audited(client.peer.uid, name, request.get("reason"))
            within_s = verb.within_s
            result = self._run(verb, client, request)
            if inspect.isawaitable(result):
                async with asyncio.timeout(within_s):
                    result = await result
            answer = _line({"id": request_id, "ok": True, "result": result})
        except Refusal as refusal:
            self.counts.bad_requests += 1
            return _failure(request_id, refusal)
        except TimeoutError:
            return _failure(request_id, Refusal("timeout", f"no result in {within_s:g} s", "try again"))
        except Exception as error:
            log.error("control.handler_failed", exc_info=True)
            return _failure(request_id, Refusal("failed", repr(error), "this is a defect; see the journal"))
        client.subscribed = client.subscribed or name == "subscribe"
        return answer

    def _run(self, verb: Verb, client: _Client, request: Mapping[str, Any]) -> object:
        args = request.get("args", {})
        if not verb.with_caller:
            return verb.run(args)
        request_id = request.get("id")

        def tell(progress: Mapping[str, Any]) -> None:
            self._send(client, _line({"id": request_id, "progress": progress}))

        return verb.run(args, Caller(client.peer, tell))

    def _verb(self, name: str, peer: Peer) -> Verb:
        verb = self._verbs.get(name)
        if verb is None:
            raise Refusal(
                "unknown_verb", f"there is no verb {name!r}", f"known: {', '.join(sorted(self._verbs))}"
            )
        if verb.changes and peer.uid not in (0, self._own_uid):
            raise Refusal("forbidden", f"{name} is for root and the agent's own user", "use sudo")
        return verb

    def _may_read(self, peer: Peer) -> bool:
        return self._anybody or peer.uid in (0, self._own_uid) or self._group in peer.groups

    def _send(self, client: _Client, line: bytes) -> None:
        if client.writer.is_closing():
            return
        client.writer.write(line)
        transport = client.writer.transport
        if transport.get_write_buffer_size() > OUTPUT_MAX:
            self.counts.slow += 1
            log.warning("control.slow_client_dropped", pid=client.peer.pid, uid=client.peer.uid)
            self._clients.discard(client)
            transport.abort()


def peer_of(sock: socket.socket) -> Peer:
    """The other end's process, user and groups, as the kernel noted them when it connected."""
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    groups = array.array("I")
    # Python's getsockopt gives 1024 bytes at most, and the kernel refuses rather than cuts: a user with
    # more than 256 groups, or a kernel that does not tell, counts as being in their own group only.
    with contextlib.suppress(OSError):
        groups.frombytes(sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024))
    return Peer(pid, uid, frozenset({gid, *groups}))


def _listen(path: Path, group: int | None, mode: int) -> socket.socket:
    """A socket that listens at ``path``, in place of one that a crash left; nobody meets it half made."""
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise ControlError(f"{path}: expected a socket or nothing, found another kind of file; remove it")
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
            probe.connect(str(path))
            raise ControlError(f"{path}: another agent is serving it; stop that one first")
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        fresh.unlink(missing_ok=True)
        sock.bind(str(fresh))
        if group is not None and fresh.stat().st_gid != group:
            os.chown(fresh, -1, group)
        fresh.chmod(mode)
        sock.listen(CLIENTS_MAX)
        fresh.rename(path)
    except OSError as error:
        sock.close()
        fresh.unlink(missing_ok=True)
        raise ControlError(f"{path}: cannot make the control socket: {error}") from error
    return sock


def _parse(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Refusal("bad_request", f"not JSON: {error}", 'send {"id": 1, "verb": "status"}') from error
    if not isinstance(request, dict):
        raise Refusal("bad_request", "a request is an object", 'send {"id": 1, "verb": "status"}')
    reason = request.get("reason", "")
    checks = {
        "verb: expected text": isinstance(request.get("verb"), str),
        "args: expected an object": isinstance(request.get("args", {}), dict),
        "id: expected a whole number, text or nothing": isinstance(request.get("id"), int | str | None),
        f"reason: expected one line of at most {REASON_MAX} characters": (
            isinstance(reason, str) and len(reason) <= REASON_MAX and reason.isprintable()
        ),
    }
    wrong = [what for what, right in checks.items() if not right]
    if wrong:
        raise Refusal("bad_request", "; ".join(wrong), "see docs/operating.md")
    return request


def _failure(request_id: object, refusal: Refusal) -> bytes:
    error = {"code": refusal.code, "message": str(refusal), "hint": refusal.hint}
    return _line({"id": request_id, "ok": False, "error": error})


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
