"""`ivmactl permit load | code | status | revoke`, `ivmactl override`: use of the tablet without its dock."""

from __future__ import annotations

import argparse
import codecs
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.cli import text
from agent.cli.client import NOT_WELL, OK, REFUSED, USAGE, Client, ClientError

OFFICER_SOCKET = "officer.sock"  # beside the agent's socket; every user may connect
FILE_MAX = 64 * 1024  # bytes that are read of a file, ours: a document in a long mail
TRIES = 3  # answers that one call asks for, ours: a slip of the tongue or of the finger
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    permit = commands.add_parser("permit", help="use without the dock, by leave of the control room")
    verbs = permit.add_subparsers(required=True, metavar="WHAT")
    load = verbs.add_parser(
        "load", parents=[common], help="take in a permit, a revocation or a refill of overrides"
    )
    load.add_argument("file", metavar="FILE", help="the document, also within a mail; - for standard input")
    load.set_defaults(run=_load, connect=officer)
    code = verbs.add_parser("code", parents=[common], help="show a challenge, and take the answer")
    code.add_argument("--minutes", type=int, default=30, help="of powered time [30]")
    code.add_argument("--scope", choices=("undocked", "any"), default="undocked", help="[undocked]")
    code.set_defaults(run=_code, connect=officer)
    status = verbs.add_parser("status", parents=[common], help="what is granted, and what is left of it")
    status.set_defaults(run=_status, connect=officer)
    revoke = verbs.add_parser("revoke", parents=[common], help="end everything that is granted (root)")
    revoke.set_defaults(run=_revoke)
    override = commands.add_parser(
        "override", parents=[common], help="the safety override: use now, on the record; at the tablet only"
    )
    override.set_defaults(run=_override, connect=officer)


def officer(socket: Path, user: str) -> Client:
    """The agent, by the socket that needs no group."""
    return Client(socket.with_name(OFFICER_SOCKET), user=user)


def _load(client: Client, options: argparse.Namespace) -> int:
    return _granted(client.ask("permit.load", options.reason, {"text": _document(options.file)}), options)


def _document(name: str) -> str:
    """The document in a file, whatever made the file."""
    try:
        if name == "-":
            raw = sys.stdin.buffer.read(FILE_MAX + 1)
        else:
            with Path(name).open("rb") as file:
                raw = file.read(FILE_MAX + 1)
    except OSError as error:
        raise ClientError(USAGE, f"{name}: cannot be read: {error.strerror}", "name a file, or -") from error
    if len(raw) > FILE_MAX:
        raise ClientError(USAGE, f"{name}: more than {FILE_MAX} bytes", "give the document alone")
    # Some editors save text in UTF-16. All that counts is ASCII.
    whole = raw.decode("utf-16" if raw.startswith(_MARKS) else "ascii", "replace")
    begin, end = whole.find("-----BEGIN IVMA"), whole.rfind("-----END IVMA")
    return whole[begin:][: end - begin + 100] if 0 <= begin < end else whole[:8192]


def _code(client: Client, options: argparse.Namespace) -> int:
    asked = client.ask(
        "permit.challenge", options.reason, {"minutes": options.minutes, "scope": options.scope}
    )
    if options.json:
        text.show_json(asked)
    else:
        print(f"Tell the control room, within {text.duration(asked['s_left'] * 1000)}:")
        print(f"  tablet     {text.word(asked['device'])}")
        print(f"  challenge  {text.word(asked['challenge'])}")
        print(f"  for        {text.word(asked['minutes'])} minutes, {text.word(asked['scope'])}")
    for left in reversed(range(TRIES)):
        if not options.json:
            print("Answer: ", end="", flush=True)
        given = sys.stdin.readline()
        if not given:
            raise ClientError(USAGE, "no answer was given", "type the 12 characters, then Enter")
        try:
            return _granted(client.ask("permit.answer", options.reason, {"code": given.strip()}), options)
        except ClientError as error:
            again = error.code == USAGE or "grant.code_wrong" in error.hint
            if not again or not left:
                raise
            print(f"ivmactl: {error}", file=sys.stderr)
    return REFUSED


def _status(client: Client, options: argparse.Namespace) -> int:
    result = client.ask("permit.status", options.reason, {})
    if options.json:
        text.show_json(result)
    else:
        _show(result)
    return OK if result["usable"] else NOT_WELL


def _revoke(client: Client, options: argparse.Namespace) -> int:
    return _granted(client.ask("permit.revoke", options.reason, {}), options)


def _override(client: Client, options: argparse.Namespace) -> int:
    return _granted(client.ask("override", options.reason, {}), options)


def _granted(result: Mapping[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        text.show_json(result)
    else:
        print(text.word(result["because"]))
        _show(result)
    return OK


def _show(result: Mapping[str, Any]) -> None:
    permit, asked = result["permit"], result["challenge"]
    none = "none"
    if permit is not None:
        name = f"permit {permit['number']}" if permit["number"] else "short code"
        none = f"{name}, {text.duration(permit['s_left'] * 1000)} left, {text.word(permit['scope'])}"
        none += f", {permit['boots']} boots" if permit["boots"] else ""
        none += "" if permit["holds"] else "; not in force at the moment"
    left_s = result["override_s_left"]
    rows = [
        ("tablet", "usable" if result["usable"] else "locked"),
        ("permit", none),
        ("override", f"{text.duration(left_s * 1000)} left" if left_s else "not taken"),
        ("overrides left", text.word(result["overrides_left"])),
    ]
    if asked is not None:
        rows.append(("challenge", f"{text.word(asked['challenge'])}, for {asked['minutes']} minutes"))
    if result["code_wait_s"]:
        rows.append(("next code", f"in {text.duration(result['code_wait_s'] * 1000)}"))
    if result["void"]:
        rows.append(("void", "nothing is granted until the dock proves itself or the depot is heard"))
    for name, value in rows:
        print(f"  {name:<15} {value}")
