"""What the control room sends to a tablet: ``ivma-depot sign command | configuration | fleet-key``, and
``ivma-depot send``, which publishes any of them on the topic of its purpose."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from sync.depot import config
from sync.depot.keyring import COMMAND, CONFIGURATION, FLEET, PERMIT, SEALING, next_fleet_key
from sync.depot.storage import DepotStorage
from sync.documents import Command, Desired, FleetKey, Permit
from sync.errors import LocalProtocolError
from sync.keys import Signer, load_private, load_public
from sync.mqtt import MqttTransport
from sync.mqtt_types import Confirmed, Down, Endpoint, TransportEvent, Up
from sync.session_types import REFUSED
from sync.signed import Document, seal
from sync.topics import ONLINE, Topics

VERBS = ("lock", "permit", "revoke", "flush", "log-level", "diagnostics", "reboot")
SEND_S = 30.0  # ours: connection and PUBACK
_NS_PER_MS, _NS_PER_S = 1_000_000, 1_000_000_000


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser], common: list[argparse.ArgumentParser],
        run: Callable[[argparse.Namespace], int]) -> None:  # fmt: skip
    """Add what ``sign`` can sign for a tablet; ``run`` signs."""
    what = kinds.add_parser("command", parents=common, help="one thing to do, in the boot that runs now")
    what.add_argument("verb", choices=VERBS)
    what.add_argument("--db", type=Path, required=True, help="the depot's, which knows the tablet's boot")
    what.add_argument("--within", type=int, default=300, metavar="S", help="how late it may come [300]")
    what.add_argument("--level", default="", choices=("debug", "info", "warning", "error"), help="log-level")
    what.add_argument("--minutes", type=int, default=30, help="of a permit [30]")
    what.add_argument("--scope", choices=("undocked", "any"), default="undocked", help="of a permit")
    what.set_defaults(run=run, key=COMMAND, make=_command)
    what = kinds.add_parser("configuration", parents=common, help="what the configuration is to say")
    what.add_argument("file", type=Path, help="TOML: the tables that differ from the tablet's own file")
    what.add_argument("--trial", type=int, default=600, metavar="S", help="tried for so long [600]")
    what.set_defaults(run=run, key=CONFIGURATION, make=_desired)
    what = kinds.add_parser("fleet-key", parents=common, help="another key to seal records to")
    what.add_argument("--generation", type=int, required=True, help="greater than the one in use")
    what.set_defaults(run=run, key=SEALING, make=_fleet_key)


def add_send(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``send`` and ``new-fleet-key``."""
    send = commands.add_parser("send", help="publish a signed command, configuration or fleet key")
    send.add_argument("file", type=Path)
    send.add_argument("--fleet", required=True)
    send.add_argument("--device", required=True)
    send.add_argument("--config", type=Path, help="that of serve: broker and TLS")
    send.add_argument("--broker", help="host:port")
    send.set_defaults(run=_send)
    key = commands.add_parser("new-fleet-key", help="make a later key of the fleet, to be announced by sign")
    key.add_argument("--keys", type=Path, required=True)
    key.add_argument("--generation", type=int, required=True)
    key.set_defaults(run=_new_fleet_key)


def _command(given: argparse.Namespace, id_: str, number: int) -> Document:
    storage = DepotStorage(given.db, read_only=True)
    try:
        birth = storage.birth(given.device)
    finally:
        storage.close()
    if birth is None or birth.state != ONLINE or not birth.nonce:
        said = "has never spoken" if birth is None else f"is {birth.state}" if birth.nonce else "takes none"
        raise LocalProtocolError(
            f"{given.device} {said}; expected it online: a command names the run of the agent that does it"
        )
    if not 1 <= given.within <= 3600:
        raise LocalProtocolError(f"--within {given.within}: expected 1 to 3600 s")
    elapsed_ns = max(0, time.time_ns() - birth.heard_ns)
    latest_ns = birth.boot_ns + elapsed_ns + given.within * _NS_PER_S
    paper = _permit(given, number) if given.verb == "permit" else ""
    return Command(
        id=id_, number=number, fleet=given.fleet, device=given.device, boot_id=birth.boot_id.hex(),
        nonce=birth.nonce.hex(), latest_ms=latest_ns // _NS_PER_MS, verb=given.verb, level=given.level,
        paper=paper,
    )  # fmt: skip


def _permit(given: argparse.Namespace, number: int) -> str:
    """The leave itself has its own authority: whoever may only command cannot give it."""
    permit = Permit(
        id=secrets.token_hex(16), number=number, fleet=given.fleet, device=given.device, scope=given.scope,
        minutes=given.minutes,
    )  # fmt: skip
    return seal(permit, Signer(load_private(given.keys / f"{PERMIT}.key")))


def _desired(given: argparse.Namespace, id_: str, number: int) -> Document:
    text = given.file.read_text()
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LocalProtocolError(f"{given.file}: not valid TOML: {error}") from error
    return Desired(
        id=id_, number=number, fleet=given.fleet, device=given.device, trial_s=given.trial, toml=text
    )


def _fleet_key(given: argparse.Namespace, id_: str, number: int) -> Document:
    key = load_public(given.keys / f"{FLEET}-{given.generation}.pub")
    return FleetKey(
        id=id_,
        number=number,
        fleet=given.fleet,
        device=given.device,
        generation=given.generation,
        key=key.hex(),
    )


def _new_fleet_key(given: argparse.Namespace) -> int:
    sys.stdout.write(f"{next_fleet_key(given.keys, given.generation)}\n")
    return 0


# --- sending --------------------------------------------------------------------------------------


def _send(given: argparse.Namespace) -> int:
    text = given.file.read_text()
    topics = Topics(given.fleet, given.device)
    ways = {Command.TITLE: (topics.command, False), Desired.TITLE: (topics.desired, True),
            FleetKey.TITLE: (topics.fleet_key, True)}  # fmt: skip
    way = next((way for title, way in ways.items() if f"BEGIN IVMA {title}-" in text), None)
    if way is None:
        raise LocalProtocolError(f"{given.file}: expected one of {', '.join(ways)}; permits travel by hand")
    wanted = {"broker": given.broker} if given.broker else {}
    unused = {} if given.config else {"db": "-", "keys": "-"}
    settings = config.settings(
        given.config, {**unused, **wanted, "client_id": f"ivma-send-{secrets.token_hex(4)}"}
    )
    asyncio.run(publish(settings.endpoint(), [(*way, text.encode())]))
    return 0


async def publish(endpoint: Endpoint, messages: Sequence[tuple[str, bool, bytes]]) -> None:
    """Publish (topic, retained, payload), each confirmed by the broker.

    Raises:
        LocalProtocolError: the broker cannot be reached, or does not take one.
    """
    events: asyncio.Queue[TransportEvent] = asyncio.Queue()
    transport = MqttTransport(endpoint, [], events.put_nowait, asyncio.get_running_loop())
    transport.connect()
    left = set(range(len(messages)))
    try:
        async with asyncio.timeout(SEND_S):
            while left:
                match await events.get():
                    case Up():
                        for number, (topic, retain, payload) in enumerate(messages):
                            transport.publish(number, topic, payload, retain=retain)
                    case Down(detail):
                        raise LocalProtocolError(f"{endpoint.host}:{endpoint.port}: {detail}")
                    case Confirmed(number, code) if code < REFUSED:
                        left.discard(number)
                    case Confirmed(_, code):
                        raise LocalProtocolError(f"the broker refuses it: {code:#x}")
    except TimeoutError as error:
        raise LocalProtocolError(
            f"no answer of {endpoint.host}:{endpoint.port} within {SEND_S:g} s"
        ) from error
    finally:
        await transport.close(5.0)
