"""`ivmactl dock show | pair | unpair | test`: the docks of this tablet, for whoever installs them."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.cli import text
from agent.cli.client import NOT_WELL, OK, USAGE, Client, ClientError

LONGEST_S = 100.0  # ours: a little longer than the agent gives a pairing or a test


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    dock = commands.add_parser("dock", help="show, pair, unpair or test the docks of this tablet")
    verbs = dock.add_subparsers(required=True, metavar="WHAT")
    show = verbs.add_parser("show", parents=[common], help="every dock, and which one the tablet is in")
    show.set_defaults(run=_show)
    pair = verbs.add_parser(
        "pair", parents=[common], help="bind the connected dock to this tablet and its vehicle (root)"
    )
    pair.add_argument("--vehicle", metavar="ID", help="vehicle id, up to 17 characters [what the dock says]")
    pair.add_argument("--name", help="the dock's name on this tablet [dock, dock-2, ...]")
    pair.add_argument("--port", metavar="PATH", help="serial port [the one dock that is not paired yet]")
    pair.add_argument("--model", default="reference", help="dock model [reference]")
    pair.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="a key made elsewhere [a new one]",
    )
    pair.add_argument(
        "--replace", action="store_true", help="the dock of that name is gone: this one takes its place"
    )
    pair.set_defaults(run=_pair)
    unpair = verbs.add_parser("unpair", parents=[common], help="dock and tablet forget their key (root)")
    unpair.add_argument("dock", help="its name")
    unpair.add_argument("--forget", action="store_true", help="on this tablet only: the dock is gone")
    unpair.set_defaults(run=_unpair)
    test = verbs.add_parser("test", parents=[common], help="every output and sense, and the link (root)")
    test.add_argument("dock", nargs="?", help="its name; may be left out where there is one dock")
    test.set_defaults(run=_test)
    for verb in (pair, unpair, test):
        verb.add_argument("--token", type=Path, metavar="FILE", help="a contractor's token, in place of root")


def _token(options: argparse.Namespace) -> dict[str, str]:
    """A contractor's token, read from its file; `-` is standard input."""
    if options.token is None:
        return {}
    try:
        return {"token": sys.stdin.read() if str(options.token) == "-" else options.token.read_text()}
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(
            USAGE, f"{options.token}: cannot be read: {error}", "name the token's file"
        ) from None


def _show(client: Client, options: argparse.Namespace) -> int:
    result: dict[str, Any] = client.ask("dock.show", options.reason, {})
    if options.json:
        text.show_json(result)
    else:
        for dock in result["docks"]:
            _one(dock)
        for begun in result["pending"]:
            print(f"begun and not proved: {text.word(begun['dock'])}, dock {text.word(begun['serial'])}")
        print(f"the tablet is in: {text.word(result['in'])}")
        for problem in result["problems"]:
            print(f"problem: {text.word(problem)}")
    return OK if result["in"] is not None and not result["problems"] else NOT_WELL


def _one(dock: Mapping[str, Any]) -> None:
    print(f"{text.word(dock['dock'])}: {'the tablet is in it' if dock['here'] else 'not here'}")
    round_trip = dock["round_trip"]
    rows = (
        ("serial, vehicle", f"{text.word(dock['serial'])}, {text.word(dock['vehicle_id'])}"),
        ("dock", f"{text.word(dock['model'])}, firmware {text.word(dock['firmware'])}"),
        ("driver, link", f"{text.word(dock['driver'])}, version {text.word(dock['link_version'])}"),
        ("port", f"{text.word(dock['port'])}, found by {text.word(dock['found_by'])}"),
        ("named in", text.word(dock["source"])),
        ("last proof", _ago(dock["proof_ms_ago"])),
        ("proved foreign", _ago(dock["foreign_ms_ago"])),
        ("round trip", _round_trip(round_trip)),
        ("counted", text.details(dock["errors"]) or "nothing"),
    )
    for name, value in rows:
        print(f"  {name:<16} {value}")


def _ago(milliseconds: object) -> str:
    return "never" if milliseconds is None else f"{text.duration(milliseconds)} ago"


def _round_trip(figures: Mapping[str, Any]) -> str:
    if figures["p50_us"] is None:
        return text.UNKNOWN
    return f"{figures['p50_us'] / 1000:.1f} ms, longest {figures['max_us'] / 1000:.1f} ms"


def _pair(client: Client, options: argparse.Namespace) -> int:
    wanted = {
        "model": options.model, "port": options.port, "name": options.name, "vehicle_id": options.vehicle,
    }  # fmt: skip
    args: dict[str, object] = {name: value for name, value in wanted.items() if value is not None}
    args |= _token(options) | ({"replace": True} if options.replace else {})
    client.patience(LONGEST_S)
    with _handed_over(client, options.key_file, options.socket.parent) as handed:
        result = client.ask("dock.pair", options.reason, {**args, **handed}, _progress(options))
    if options.json:
        text.show_json(result)
    else:
        print(
            f"paired: {text.word(result['dock'])} is dock {text.word(result['serial'])} "
            f"in vehicle {text.word(result['vehicle_id'])}; it proved its key"
        )
        print(f"next: `ivmactl dock test {text.word(result['dock'])}`, with the tablet in its place")
    return OK


@contextmanager
def _handed_over(client: Client, key_file: Path | None, runtime_dir: Path) -> Iterator[dict[str, str]]:
    """Give the agent a key in a file of its own: no key goes over the socket, or into a command line."""
    if key_file is None:
        yield {}
        return
    name = f"handover-{secrets.token_hex(8)}"
    file = runtime_dir / name
    try:
        key = key_file.read_bytes()
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            os.fchown(descriptor, client.agent_uid(), -1)
            out.write(key)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise ClientError(
            USAGE, f"{error.filename or key_file}: the key cannot be handed over: {error.strerror}",
            "run this as root, with a file that holds 64 hex digits",
        ) from None  # fmt: skip
    try:
        yield {"handover": name}
    finally:
        file.unlink(missing_ok=True)


def _unpair(client: Client, options: argparse.Namespace) -> int:
    client.patience(LONGEST_S)
    args = {"dock": options.dock, "forget": options.forget, **_token(options)}
    result = client.ask("dock.unpair", options.reason, args, _progress(options))
    if options.json:
        text.show_json(result)
    else:
        both = "" if result["dock_cleared"] else "; the dock still holds its key until it is paired anew"
        print(f"unpaired: {text.word(result['dock'])}, dock {text.word(result['serial'])}{both}")
    return OK


def _test(client: Client, options: argparse.Namespace) -> int:
    client.patience(LONGEST_S)
    args = ({"dock": options.dock} if options.dock else {}) | _token(options)
    result = client.ask("dock.test", options.reason, args, _progress(options))
    if options.json:
        text.show_json(result)
    else:
        mark = {True: "ok", False: "FAILED", None: "-"}
        text.table(
            ("what", "", "found"),
            [
                (text.word(each["what"]), mark[each["ok"]], text.word(each["text"]))
                for each in result["findings"]
            ],
        )
        print(f"round trip: {_round_trip(result['round_trip'])}")
        print(f"counted: {text.details(result['errors']) or 'nothing'}")
        print("all that was tested works" if result["ok"] else "something is not well: see FAILED above")
    return OK if result["ok"] else NOT_WELL


def _progress(options: argparse.Namespace) -> Any:
    def show(step: Mapping[str, Any]) -> None:
        if not options.json:
            print(f"  {text.word(step.get('text'))}", file=sys.stderr, flush=True)

    return show
