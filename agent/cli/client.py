"""The other end of the agent's control socket, and what each of its failures means for the exit code."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

DEFAULT_SOCKET = Path("/run/ivma/control.sock")
SERVICE_USER = "ivma"  # systemd/ivma-agent.sysusers
ANSWER_S = 12.0  # ours: a little longer than the agent gives its own handlers
ANSWER_MAX = 8 << 20  # bytes, ours

OK, NOT_WELL, USAGE, NOT_RUNNING, REFUSED, PROTOCOL = 0, 1, 2, 3, 4, 5
_EXIT_OF = {
    "bad_request": USAGE, "forbidden": REFUSED, "busy": REFUSED, "starting": NOT_RUNNING,
    "not_granted": REFUSED, "no_logind": REFUSED,
    # What was asked for was not done, and the words say why.
    **dict.fromkeys(
        (
            "silent", "which_port", "paired_already", "unproven", "not_kept", "absent", "refused",
            "lines_hold", "configured", "unknown_dock", "name_taken", "no_vehicle", "no_key", "no_pairing",
            "store", "too_many", "bad_token", "used_up",
        ),
        NOT_WELL,
    ),
}  # fmt: skip


class ClientError(Exception):
    """A question without an answer: the exit code, what happened, and what to do."""

    def __init__(self, code: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


class Client:
    """One connection to the agent, whose user the kernel vouches for before anything is sent.

    Args:
        user: the one that the agent runs as; root and our own user are believed as well.

    Raises:
        ClientError: from every method, and from making it.
    """

    def __init__(self, path: Path, timeout_s: float = ANSWER_S, user: str = SERVICE_USER) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        self._lines = self._socket.makefile("rb")
        try:
            self._socket.connect(str(path))
        except PermissionError as error:
            self.close()
            raise ClientError(
                REFUSED,
                f"{path}: permission denied",
                "ask as root, or join the agent's group (control.group)",
            ) from error
        except (OSError, ValueError) as error:
            self.close()
            text = getattr(error, "strerror", None) or str(error)
            raise ClientError(
                NOT_RUNNING,
                f"the agent is not running: tried its socket {path}: {text}",
                "start it with `systemctl start ivma-agent`, see `journalctl -u ivma-agent`, "
                "or name its socket with --socket",
            ) from error
        uid = self.agent_uid()
        if uid not in _believed(user):
            self.close()
            raise ClientError(
                REFUSED,
                f"{path}: user {uid} serves this socket, not {user}, root or yourself: nothing was asked",
                "find out who made it; if the agent does run as another user, name that one with --user",
            )

    def ask(
        self,
        verb: str,
        reason: str | None,
        args: Mapping[str, object],
        progress: Callable[[Mapping[str, Any]], None] = lambda _step: None,
    ) -> Any:
        """Send a request and return its result; ``progress`` gets what the agent tells before that."""
        request = {"id": 1, "verb": verb, "args": dict(args)} | ({"reason": reason} if reason else {})
        # Who is turned away is told so at once, perhaps before this is sent: the answer is there to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        answer = self._read()
        while isinstance(answer.get("progress"), dict):
            progress(answer["progress"])
            answer = self._read()
        if answer.get("ok") is True:
            return answer.get("result")
        error_ = answer.get("error")
        if not isinstance(error_, dict):
            raise ClientError(PROTOCOL, f"not an answer: {answer!r:.200}", "is this the agent's socket?")
        code = _EXIT_OF.get(str(error_.get("code")), PROTOCOL)
        raise ClientError(code, f"{verb}: {error_.get('message')}", str(error_.get("hint", "")))

    def patience(self, timeout_s: float) -> None:
        """How long to wait for the next line of an answer."""
        self._socket.settimeout(timeout_s)

    def agent_uid(self) -> int:
        """The user that the agent runs as, from the kernel."""
        said = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", said)[1])

    def events(self) -> Iterator[dict[str, Any]]:
        """What comes after "subscribe", until the agent ends the connection."""
        self._socket.settimeout(None)
        while True:
            yield self._read()

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline(ANSWER_MAX)
        except TimeoutError as error:
            raise ClientError(
                PROTOCOL, "the agent does not answer", "see `systemctl status ivma-agent`"
            ) from error
        except OSError as error:
            raise _lost(str(error)) from error
        if not line.endswith(b"\n"):
            raise _lost("it ended the connection")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise ClientError(PROTOCOL, f"not JSON: {line!r:.200}", "is this the agent's socket?") from error
        if not isinstance(answer, dict):
            raise ClientError(PROTOCOL, f"not an answer: {answer!r:.200}", "is this the agent's socket?")
        return answer


def _believed(user: str) -> set[int]:
    """Whose answers are the agent's: others could show a tablet as well that is not, or be handed a key."""
    believed = {0, os.geteuid()}
    with contextlib.suppress(KeyError):  # not installed here
        believed.add(pwd.getpwnam(user).pw_uid)
    return believed


def _lost(why: str) -> ClientError:
    return ClientError(NOT_RUNNING, f"the agent went away: {why}", "see `journalctl -u ivma-agent`")
