"""``ivma-depot enrol``: certificates for tablets, the broker and the depot, and the folders to carry to them.

Run again it renews what is due and leaves the rest alone. A certificate always comes with a new key. Files
are replaced one by one, each whole; the private key first, so that a run cut short is put right by the next.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding

from sync.depot import access
from sync.depot.authority import (
    CERTIFICATE_DAYS,
    Authority,
    Subject,
    Use,
    due,
    fleet_of,
    hosts_of,
    issued_by,
    key_pem,
    load_certificate,
    load_key,
)
from sync.depot.keyring import (
    CODES,
    COMMAND,
    CONFIGURATION,
    CONTRACTOR,
    DEPOT,
    DEVICES,
    FLEET,
    PERMIT,
    SEALING,
    generate,
)
from sync.errors import LocalProtocolError
from sync.keys import KeyFileError, replace_file
from sync.topics import Topics

BROKER_FOLDER = "/etc/mosquitto/ivma"
CREDENTIALS = "/run/credentials/ivma-agent.service"
# What a tablet gets beside its certificate: where it is in the folder of keys, and its name on the tablet.
_FOR_TABLET = (
    (f"{DEVICES}/{{device}}.key", "device.pem", 0o600),
    (f"{CODES}/{{device}}.code", "code.key", 0o600),
    (f"{DEPOT}.pub", "depot.pub", 0o644),
    (f"{FLEET}.pub", "fleet.pub", 0o644),
    (f"{PERMIT}.pub", "permit.pub", 0o644),
    (f"{CONTRACTOR}.pub", "contractor.pub", 0o644),
    (f"{COMMAND}.pub", "command.pub", 0o644),
    (f"{CONFIGURATION}.pub", "configuration.pub", 0o644),
    (f"{SEALING}.pub", "sealing.pub", 0o644),
    ("ca.crt", "ca.crt", 0o644),
)
SETTINGS = """\
# Made by ivma-depot enrol: part of /etc/ivma/agent.toml. The files beside this one go to /etc/ivma/keys.
[device]
fleet = "{fleet}"
name = "{device}"

[sync]
host = "{host}"
signing_key_file = "{at}/keys_device.pem"
depot_key_file = "{at}/keys_depot.pub"
fleet_key_file = "{at}/keys_fleet.pub"

[sync.tls]
ca_file = "{at}/keys_ca.crt"
cert_file = "{at}/keys_tablet.crt"
key_file = "{at}/keys_tablet-tls.pem"

[orders]
command_key_files = ["{at}/keys_command.pub"]
configuration_key_files = ["{at}/keys_configuration.pub"]
sealing_key_files = ["{at}/keys_sealing.pub"]
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    enrol = commands.add_parser(
        "enrol", help="certificates for tablets, broker and depot; renews what is due"
    )
    enrol.add_argument("--keys", type=Path, required=True, help="folder of keys; made when it is not there")
    enrol.add_argument("--fleet", required=True)
    enrol.add_argument(
        "--broker", action="append", required=True, metavar="HOST",
        help="name or address by which the broker is reached; may be given several times, first what "
        "tablets use",
    )  # fmt: skip
    enrol.add_argument("--device", action="append", default=[], help="may be given several times")
    enrol.add_argument("--days", type=int, default=CERTIFICATE_DAYS, help="validity; default 397")
    enrol.add_argument("--renew", action="store_true", help="new certificates although none is due")
    enrol.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    now = datetime.datetime.now(datetime.UTC)
    for line in enrol(
        given.keys, given.fleet, given.broker, given.device, now, days=given.days, renew=given.renew
    ):
        sys.stdout.write(f"{line}\n")
    return 0


def enrol(
    keys: Path,
    fleet: str,
    hosts: list[str],
    devices: list[str],
    now: datetime.datetime,
    *,
    days: int = CERTIFICATE_DAYS,
    renew: bool = False,
) -> Iterator[str]:
    """Make or renew everything; a line for people about each certificate.

    Raises:
        LocalProtocolError: a name cannot be used, is the depot's, or belongs to a tablet of another fleet.
        KeyFileError: a file that is there cannot be used.
        OSError: the folder cannot be written.
    """
    if not 1 <= days <= 3650:
        raise LocalProtocolError(f"--days {days}: expected 1 to 3650")
    for device in devices:
        _check(keys, fleet, device)
    generate(keys, devices)
    authority = Authority(keys, now)
    if authority.made:
        yield f"{authority.path}: a new authority; keep {keys / 'ca.key'} where nobody else can read it"

    def ensure(subject: Subject, certificate: Path, key: Path) -> str:
        return _ensure(authority, subject, certificate, key, now, days, renew)

    certificates = keys / DEVICES
    for device in devices:
        folder = _folder(keys / "tablets" / device)
        yield ensure(
            Subject(device, Use.CLIENT, fleet), certificates / f"{device}.crt", folder / "tablet-tls.pem"
        )
        replace_file(folder / "tablet.crt", (certificates / f"{device}.crt").read_bytes(), 0o644)
        for source, name, mode in _FOR_TABLET:
            replace_file(folder / name, (keys / source.format(device=device)).read_bytes(), mode)
        settings = SETTINGS.format(fleet=fleet, device=device, host=hosts[0], at=CREDENTIALS)
        replace_file(folder / "sync.toml", settings.encode(), 0o644)
    yield ensure(Subject(access.DEPOT_USER, Use.CLIENT), keys / "depot-tls.crt", keys / "depot-tls.key")
    yield ensure(Subject(access.CONTROL_USER, Use.CLIENT), keys / "control-tls.crt", keys / "control-tls.key")
    broker = _folder(keys / "broker")
    subject = Subject(hosts[0], Use.SERVER, hosts=tuple(hosts))
    yield ensure(subject, broker / "broker.crt", broker / "broker.key")
    replace_file(broker / "ca.crt", authority.path.read_bytes(), 0o644)
    fleets = {fleet_of(load_certificate(path)) for path in certificates.glob("*.crt")} | {fleet}
    replace_file(broker / "acl", access.acl(fleets).encode(), 0o600)
    replace_file(broker / "ivma.conf", access.configuration(BROKER_FOLDER).encode(), 0o644)


def _check(keys: Path, fleet: str, device: str) -> None:
    Topics(fleet, device)
    if device in (access.DEPOT_USER, access.CONTROL_USER):
        raise LocalProtocolError(f"--device {device}: that name is the depot's; choose another")
    path = keys / DEVICES / f"{device}.crt"
    if path.exists() and (known := fleet_of(load_certificate(path))) != fleet:
        raise LocalProtocolError(
            f"--device {device}: is a tablet of fleet {known!r} already; its name must be unique at a broker"
        )


def _ensure(
    authority: Authority,
    subject: Subject,
    certificate: Path,
    key: Path,
    now: datetime.datetime,
    days: int,
    renew: bool,
) -> str:
    """Issue unless what is there is still good: not due, of our authority, of its key, for all hosts."""
    held = _held(authority, certificate, key)
    if held is not None and not renew and not due(held, now) and set(subject.hosts) <= hosts_of(held):
        return f"{certificate}: good until {held.not_valid_after_utc:%Y-%m-%d}"
    private = generate_private_key(SECP256R1())
    issued = authority.issue(subject, private.public_key(), days)
    replace_file(key, key_pem(private), 0o600)
    replace_file(certificate, issued.public_bytes(Encoding.PEM), 0o644)
    return f"{certificate}: new, until {issued.not_valid_after_utc:%Y-%m-%d}"


def _held(authority: Authority, certificate: Path, key: Path) -> x509.Certificate | None:
    try:
        held = load_certificate(certificate)
        ours = held.public_key() == load_key(key).public_key()
    except KeyFileError:
        return None
    return held if ours and issued_by(held, authority.certificate) else None


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
