"""``ivma-depot``: the far end of the queue. Commands: serve, ledger, gaps, export, keygen, enrol, sign,
code, send, new-fleet-key.

Exit status: 0 done and well; 1 a chain does not verify, a day is not complete, there is a gap, or the service
could not go on; 2 the command line, a setting, a key or a file is not as it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from sync.depot import config, day, enrol, export, ledger, orders, signing
from sync.depot.intake import Intake
from sync.depot.keyring import Keyring, generate
from sync.depot.service import DepotService
from sync.depot.storage import DepotStorage
from sync.errors import LocalProtocolError, StoreError
from sync.keys import KeyFileError, Verifier

OK, UNWELL, MISUSED = 0, 1, 2


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except (config.DepotConfigError, KeyFileError, LocalProtocolError, StoreError, OSError) as error:
        sys.stderr.write(f"ivma-depot: {error}\n")
        return MISUSED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ivma-depot", description="The far end of the tablets' queues.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="take batches from the broker, verify, store, acknowledge")
    serve.add_argument("--config", type=Path, help="TOML file; the options below override it")
    serve.add_argument("--broker", help="host:port")
    serve.add_argument("--db", help="database file; made when it is not there")
    serve.add_argument("--keys", help="folder made by keygen")
    serve.add_argument("--mqtt", choices=["5.0", "3.1.1"], help="protocol version, if it must be fixed")
    serve.add_argument("--verbose", action="store_true", help="log at DEBUG")
    serve.set_defaults(run=_serve)

    show = commands.add_parser("ledger", help="walk every chain again and say what can be proved")
    show.add_argument("--db", type=Path, required=True)
    show.add_argument("--keys", type=Path, help="folder with devices/*.pub: verifies the signatures too")
    show.add_argument("--device", help="this device only")
    show.add_argument(
        "--day", metavar="YYYY-MM-DD", help="what can be proved of that day, UTC; with --device"
    )
    show.add_argument("--json", action="store_true")
    show.set_defaults(run=_ledger)

    gaps = commands.add_parser("gaps", help="every gap with its reason; exit status 1 if there is one")
    gaps.add_argument("--db", type=Path, required=True)
    gaps.add_argument("--device", help="this device only")
    gaps.set_defaults(run=_gaps)

    out = commands.add_parser("export", help="what proves a device's records, as JSON lines")
    out.add_argument("--db", type=Path, required=True)
    out.add_argument("--device", required=True)
    out.set_defaults(run=_export)

    keygen = commands.add_parser("keygen", help="make the keys of a rig; those that are there stay")
    keygen.add_argument("--out", type=Path, required=True)
    keygen.add_argument("--device", action="append", default=[], help="may be given several times")
    keygen.set_defaults(run=_keygen)
    enrol.add(commands)
    signing.add(commands)
    orders.add_send(commands)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.DEBUG if arguments.verbose else logging.INFO
        ),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    given = {key: getattr(arguments, key) for key in ("broker", "db", "keys", "mqtt")}
    settings = config.settings(arguments.config, {key: value for key, value in given.items() if value})
    asyncio.run(_run(settings))
    return OK


async def _run(settings: config.DepotSettings) -> None:
    endpoint = settings.endpoint()
    keyring = Keyring(Path(settings.keys))
    signer = keyring.signer()
    opener = keyring.opener(settings.fleet_key_generation)
    storage = DepotStorage(Path(settings.db))
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    intake = Intake(storage, keyring.verifier, opener)
    service = DepotService(endpoint, storage, intake, signer, secrets.SystemRandom().random)
    service.start()
    await ended.wait()
    await service.close()
    storage.close()


def _ledger(arguments: argparse.Namespace) -> int:
    if arguments.day is not None:
        return _day(arguments)
    found = _build_ledger(arguments.db, arguments.device, arguments.keys)
    if arguments.json:
        _say(json.dumps(found))
    else:
        _print_ledger(found)
    return OK if found["verified"] else UNWELL


def _build_ledger(db: Path, device: str | None, keys: Path | None = None) -> ledger.Ledger:
    storage = DepotStorage(db, read_only=True)
    try:
        return ledger.build(storage, _verifier_of(keys), device)
    finally:
        storage.close()


def _verifier_of(keys: Path | None) -> Callable[[str], Verifier | None]:
    return Keyring(keys).verifier if keys is not None else lambda device: None


def _day(arguments: argparse.Namespace) -> int:
    if arguments.device is None:
        raise LocalProtocolError("--day: expected --device too: a day is proved of one tablet")
    try:
        begin_ns = day.day_of(arguments.day)
    except ValueError as error:
        raise LocalProtocolError(f"--day {arguments.day}: expected YYYY-MM-DD: {error}") from error
    storage = DepotStorage(arguments.db, read_only=True)
    try:
        found = day.build(storage, _verifier_of(arguments.keys), arguments.device, begin_ns)
    finally:
        storage.close()
    if arguments.json:
        _say(json.dumps(found))
    else:
        for entry in found:
            signed = "not signed" if entry["signed_to"] is None else f"signed to {entry['signed_to']}"
            _say(
                f"{entry['stream']:<9} {entry['verdict']}: {entry['first_seq']} to {entry['last_seq']}, "
                f"head {entry['head'] or '-'}; chain {entry['chain']}, {signed}; "
                f"{entry['repaired']} blocks by a synced clock, {entry['undated']} undated"
            )
            for gap in entry["gaps"]:
                _say(f"          gap {gap['first_seq']} to {gap['last_seq']}: {gap['reason']}")
        if not found:
            _say(f"nothing of {arguments.device} is held")
    return OK if found and all(entry["verdict"] == day.COMPLETE for entry in found) else UNWELL


def _gaps(arguments: argparse.Namespace) -> int:
    found = _build_ledger(arguments.db, arguments.device)
    count = 0
    for device, entry in found["devices"].items():
        for stream, chains in entry["streams"].items():
            for chain in chains:
                for gap in chain["gaps"]:
                    count += 1
                    _say(
                        f"{device} {stream} {chain['epoch']} "
                        f"{gap['first_seq']} to {gap['last_seq']}: {gap['reason']}"
                    )
    return UNWELL if count else OK


def _export(arguments: argparse.Namespace) -> int:
    storage = DepotStorage(arguments.db, read_only=True)
    try:
        with storage.reading():
            for line in export.lines(storage, arguments.device):
                _say(json.dumps(line))
    finally:
        storage.close()
    return OK


def _print_ledger(found: ledger.Ledger) -> None:
    for device, entry in found["devices"].items():
        _say(f"{device} ({entry['presence']})")
        for stream, chains in entry["streams"].items():
            for chain in chains:
                signed = "" if chain["signed_to"] is None else f", signed to {chain['signed_to']}"
                _say(
                    f"  {stream:<9} 1 to {chain['last_seq']}: {chain['chain']}{signed}; "
                    f"{chain['records']} records open, {chain['sealed_blocks']} blocks sealed, "
                    f"{chain['duplicates_dropped']} duplicates dropped, {chain['missing_tail']} to come"
                )
                for gap in chain["gaps"]:
                    _say(f"            gap {gap['first_seq']} to {gap['last_seq']}: {gap['reason']}")
    for device, reasons in found["quarantined"].items():
        for reason, number in reasons.items():
            _say(f"quarantined: {number} of {device}: {reason}")


def _keygen(arguments: argparse.Namespace) -> int:
    for path in generate(arguments.out, arguments.device):
        _say(str(path))
    return OK


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
