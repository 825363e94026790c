"""Configuration: one TOML file to typed, bounded settings.

Every key is declared once, here or (policy) in ``agent.core.policy``, with its bounds, unit and meaning;
docs/configuration.md is generated from the declarations. An unknown key is refused with the nearest known
one. What is in force, and when, is agent/keeper.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
import tomllib
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agent.config_base import FilePath, Name, Section
from agent.config_base import doc as _doc
from agent.config_docks import KEYLESS, SELF_FOUND, Lines, Supply, Usb, dock_problems, hint_problems
from agent.core import policy as core_policy
from agent.core.policy import Policy

DOCKS_MAX = 8  # configured and paired together; ours


class ConfigError(ValueError):
    """A configuration that cannot be used: which file, which key, what was expected, what came."""


class Device(Section, frozen=True, kw_only=True):
    fleet: Annotated[Name, _doc("Fleet that the tablet belongs to; part of each MQTT topic.")]
    name: Annotated[
        Name, _doc("The tablet's name, unique in its fleet; equals the certificate's common name.")
    ]


class Paths(Section, frozen=True, kw_only=True):
    state_dir: Annotated[FilePath, _doc("Folder of the queue and what must outlive a reboot; 0700.")] = (
        "/var/lib/ivma"
    )
    runtime_dir: Annotated[
        FilePath, _doc("Folder of the control socket and of markers; emptied by a reboot.")
    ] = "/run/ivma"
    boot_id: Annotated[FilePath, _doc("File with the kernel's boot id.")] = "/proc/sys/kernel/random/boot_id"
    power_supply: Annotated[FilePath, _doc("The kernel's power_supply tree.")] = "/sys/class/power_supply"
    sys: Annotated[FilePath, _doc("Where sysfs is: what woke the machine is read there.")] = "/sys"


class Dock(Section, frozen=True, kw_only=True):
    """One dock that this tablet may sit in, or a source of hints; ``port`` or ``match`` says where it is."""

    name: Annotated[Name, _doc("Name of the dock in records, logs and on the screen.")] = "dock"
    model: Annotated[Name, _doc("Dock model, as an entry point of the group `ivma.docks` names it.")] = (
        "reference"
    )
    port: Annotated[FilePath | None, _doc("Serial port by path; for a bench. Prefer `match`.")] = None
    match: Annotated[
        dict[str, str],
        _doc("udev properties that the port must have, such as ID_VENDOR_ID, ID_MODEL_ID, ID_SERIAL_SHORT."),
    ] = {}
    baud: Annotated[int, _doc("Line speed, bit/s.", ge=1200, le=4_000_000)] = 115200
    serial: Annotated[
        str, _doc("Serial of the paired dock. Required for a model with a key.", min_length=1, max_length=12)
    ] = ""
    vehicle_id: Annotated[
        str, _doc("Vehicle id that the dock was commissioned with. Likewise.", max_length=17)
    ] = ""
    key_file: Annotated[
        FilePath,
        _doc("File with the pairing key, 64 hex digits, readable by root or the agent only. Likewise."),
    ] = ""
    link_version: Annotated[
        int, _doc("Version of the link agreed at pairing; nothing lower is spoken.", ge=1, le=255)
    ] = 1
    lines: Annotated[Lines | None, _doc("For the model `control-lines`: what its lines mean.")] = None
    usb: Annotated[Usb | None, _doc("For the model `usb-presence`: the device.")] = None
    supply: Annotated[Supply | None, _doc("For the model `dcdc-usb`: the vehicle supply.")] = None

    settings: Annotated[dict[str, Any], _doc("For a model of another package: what it has to know.")] = {}

    @property
    def options(self) -> dict[str, Any]:
        """The values of the table of its model."""
        if self.model not in KEYLESS:
            return self.settings
        table = KEYLESS[self.model]
        chosen = getattr(self, table) if table else None
        if chosen is None and self.model == "dcdc-usb":
            chosen = Supply()
        return {} if chosen is None else msgspec.structs.asdict(chosen)


class Can(Section, frozen=True, kw_only=True):
    name: Annotated[Name, _doc("Name of the bus, as the vehicle profile uses it.")] = "powertrain"
    interface: Annotated[
        Name, _doc("`socketcan`, `simcan`, or any python-can interface that has a file descriptor.")
    ] = "socketcan"
    channel: Annotated[FilePath, _doc("The interface's channel, such as can0; for simcan the socket's path.")]
    bitrate: Annotated[
        Annotated[int, Meta(ge=5000, le=1_000_000)] | None,
        _doc("What the bus runs at, in bit/s; an interface set to another is refused."),
    ] = None
    record: Annotated[
        bool, _doc("Let root record this bus with `ivmactl can record`; on only while an engineer needs it.")
    ] = False


class Vehicle(Section, frozen=True, kw_only=True):
    profile: Annotated[
        str | None,
        _doc("Vehicle profile: an entry point of the group `ivma.vehicles`, or a path to a TOML file."),
    ] = None


class Enforcement(Section, frozen=True, kw_only=True):
    actions: Annotated[
        tuple[Name, ...],
        _doc("Enforcement actions in order; entry points of the group `ivma.enforcement`.", min_length=1),
    ] = ("logind",)
    settings: Annotated[dict[str, dict[str, Any]], _doc("Settings of an action, by its name.")] = {}
    power: Annotated[
        Literal["logind", "console"],
        _doc(
            "Who suspends and powers off, and says who is at the tablet; `console` only says so and takes "
            "everybody for an officer there, for development."
        ),
    ] = "logind"


class Guard(Section, frozen=True, kw_only=True):
    """The second process, which locks the tablet when the agent does not."""

    enabled: Annotated[bool, _doc("Lend use through the guard; false only where none is installed.")] = True
    socket: Annotated[FilePath, _doc("Where the guard listens.")] = "/run/ivma-guard/guard.sock"


class Contractors(Section, frozen=True, kw_only=True):
    """Who may pair, unpair and test docks without root, under a token that the fleet signs."""

    key_files: Annotated[
        list[FilePath],
        _doc("Public Ed25519 keys, PEM, whose tokens are taken. None: no token is.", max_length=4),
    ] = []
    group: Annotated[
        Name | None, _doc("Group that a contractor's user must be in, beside `control.group`.")
    ] = None


class Permits(Section, frozen=True, kw_only=True):
    """Keys by which the tablet takes permits and short codes; docs/permits.md."""

    authority_key_files: Annotated[
        list[FilePath],
        _doc("Public Ed25519 keys, PEM, whose permits are taken. None: permits are refused.", max_length=4),
    ] = []
    code_key_file: Annotated[
        FilePath | None,
        _doc("This tablet's code key, 64 hex digits, mode 0600. Left out: there are no short codes."),
    ] = None


class Pairing(Section, frozen=True, kw_only=True):
    """How the keys of paired docks are kept."""

    storage_key_file: Annotated[
        FilePath | None,
        _doc("64 hex digits; pairing keys on disk are encrypted with it. Meant for a credential of systemd."),
    ] = None


class Tls(Section, frozen=True, kw_only=True):
    ca_file: Annotated[FilePath, _doc("Certificate of the authority that signed the broker's certificate.")]
    cert_file: Annotated[FilePath, _doc("The tablet's certificate.")]
    key_file: Annotated[FilePath, _doc("The tablet's TLS key.")]


class Sync(Section, frozen=True, kw_only=True):
    host: Annotated[str, _doc("Broker's host name.", min_length=1, max_length=253)]
    port: Annotated[int, _doc("Broker's port.", ge=1, le=65535)] = 8883
    tls: Annotated[Tls | None, _doc("Mutual TLS. Leave it out on loopback only.")] = None
    keepalive_s: Annotated[int, _doc("MQTT keep-alive, s.", ge=5, le=1200)] = 60
    signing_key_file: Annotated[FilePath, _doc("The tablet's own Ed25519 key, PEM, mode 0600.")]
    depot_key_file: Annotated[FilePath, _doc("The depot's public Ed25519 key, PEM.")]
    fleet_key_file: Annotated[
        FilePath | None, _doc("The fleet's public X25519 key, PEM. Given: records are sealed.")
    ] = None
    fleet_key_generation: Annotated[int, _doc("Generation of the fleet key.", ge=0, le=65535)] = 1


class Orders(Section, frozen=True, kw_only=True):
    """Whose word of the fleet this tablet obeys, by purpose; without a key nothing of that kind is taken."""

    command_key_files: Annotated[
        list[FilePath], _doc("Public Ed25519 keys, PEM, whose commands are done.", max_length=4)
    ] = []
    configuration_key_files: Annotated[
        list[FilePath], _doc("Public Ed25519 keys, PEM, whose configurations are tried.", max_length=4)
    ] = []
    sealing_key_files: Annotated[
        list[FilePath], _doc("Public Ed25519 keys, PEM, that may change the fleet key.", max_length=4)
    ] = []


class Quotas(Section, frozen=True, kw_only=True):
    """Bytes on disk that a stream may use; no other stream can use them up."""

    alarm: Annotated[int, _doc("Quota of the alarm stream, bytes.", ge=1 << 20, le=1 << 34)] = 16 << 20
    audit: Annotated[int, _doc("Quota of the audit stream, bytes.", ge=1 << 20, le=1 << 34)] = 16 << 20
    state: Annotated[int, _doc("Quota of the state stream, bytes.", ge=1 << 20, le=1 << 34)] = 32 << 20
    telemetry: Annotated[int, _doc("Quota of the telemetry stream, bytes.", ge=1 << 20, le=1 << 34)] = (
        128 << 20
    )


class Store(Section, frozen=True, kw_only=True):
    telemetry_commit_s: Annotated[
        int, _doc("Commit group of telemetry, s: what a power cut may cost.", ge=1, le=30)
    ] = 5
    retain_days: Annotated[
        int, _doc("Boot time that acknowledged records stay on the tablet, days.", ge=0, le=60)
    ] = 14
    quotas: Annotated[Quotas, _doc("Bytes of each stream.")] = Quotas()


class Trace(Section, frozen=True, kw_only=True):
    """The black box: what the agent saw and decided, on the tablet only."""

    enabled: Annotated[bool, _doc("Keep a trace in the folder `trace` of the state folder.")] = True
    size: Annotated[
        int, _doc("Bytes on disk that it may use; the oldest go first.", ge=1 << 20, le=1 << 30)
    ] = 16 << 20


class Control(Section, frozen=True, kw_only=True):
    group: Annotated[Name | None, _doc("Group whose members may read status through the control socket.")] = (
        "ivma"
    )


class Logging(Section, frozen=True, kw_only=True):
    level: Annotated[Literal["debug", "info", "warning", "error"], _doc("Least level that is logged.")] = (
        "info"
    )


class Settings(Section, frozen=True, kw_only=True):
    """The whole file but for [policy], which ``agent.core.policy`` declares."""

    device: Annotated[Device, _doc("Who this tablet is.")]
    paths: Annotated[Paths, _doc("Where things are.")] = Paths()
    dock: Annotated[list[Dock], _doc("The docks that this tablet may sit in.", max_length=DOCKS_MAX)] = []
    can: Annotated[list[Can], _doc("The vehicle's buses; listened to, never sent on.", max_length=4)] = []
    vehicle: Annotated[Vehicle, _doc("What the vehicle's CAN frames mean.")] = Vehicle()
    enforcement: Annotated[Enforcement, _doc("What a lock does.")] = Enforcement()
    guard: Annotated[Guard, _doc("Who locks when the agent cannot.")] = Guard()
    pairing: Annotated[Pairing, _doc("Keys of paired docks.")] = Pairing()
    contractors: Annotated[Contractors, _doc("Docks without root.")] = Contractors()
    permits: Annotated[Permits, _doc("Use without the dock by leave of the control room.")] = Permits()
    sync: Annotated[Sync | None, _doc("The way to the fleet. Left out: records stay on the tablet.")] = None
    orders: Annotated[Orders, _doc("Commands and desired configuration.")] = Orders()
    store: Annotated[Store, _doc("The durable queue.")] = Store()
    trace: Annotated[Trace, _doc("The black box.")] = Trace()
    control: Annotated[Control, _doc("The local socket for ivmactl and other software.")] = Control()
    logging: Annotated[Logging, _doc("The log.")] = Logging()


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """A configuration in force: settings, the core's policy, and the digest that names it in records."""

    settings: Settings
    policy: Policy
    digest: str  # first 16 hex digits of the file's SHA-256

    def needs_restart(self, other: Config) -> bool:
        """Whether the two differ in more than the policy, which alone takes effect in a running agent."""
        mine, theirs = msgspec.structs.asdict(self.settings), msgspec.structs.asdict(other.settings)
        return any(mine[key] != theirs[key] for key in mine if key != "policy")

    @property
    def state_dir(self) -> Path:
        return Path(self.settings.paths.state_dir)

    @property
    def runtime_dir(self) -> Path:
        return Path(self.settings.paths.runtime_dir)


def load(path: Path) -> Config:
    """Read and validate a configuration file.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or a key is unknown, missing, of the wrong type,
            out of bounds, or at odds with another.
    """
    return parse(read(path), str(path))


def read(path: Path) -> bytes:
    """The bytes of a configuration file. Raises ConfigError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def parse(raw: bytes, name: str = "configuration", over: str = "") -> Config:
    """Validate the bytes of a configuration; ``name`` stands for the file in errors. Raises ConfigError.

    ``over``: TOML of the fleet that is laid over them first; the whole is validated.
    """
    data = _toml(raw, name)
    if over:
        data = _laid_over(data, _toml(over.encode(), "desired configuration"))
    problems = list(_unknown_keys(data, _File, ""))
    if problems:
        raise ConfigError("\n".join(f"{name}: {problem}" for problem in problems))
    try:
        settings = msgspec.convert(data, _File)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {_readable(error, data)}") from None
    policy = _policy(settings.policy)
    problems = [*_cross_field(settings), *core_policy.problems(policy)]
    if policy.lease.unguarded_s and not settings.guard.enabled:
        problems.append("`policy.lease.unguarded_s` locks without the guard, and `guard.enabled` is false")
    if problems:
        raise ConfigError("\n".join(f"{name}: {problem}" for problem in problems))
    digest = hashlib.sha256(raw)
    if over:
        digest.update(b"\0" + over.encode())
    return Config(settings, policy, digest.hexdigest()[:16])


def _toml(raw: bytes, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from None


# What the fleet may set from afar: not who the tablet is, nor whom it obeys or trusts, nor what a lock does.
FROM_AFAR = frozenset({"policy", "can", "vehicle", "store", "trace", "logging"})
SYNC_FROM_AFAR = frozenset({"host", "port", "keepalive_s"})


def _laid_over(data: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    foreign = sorted(over.keys() - FROM_AFAR - {"sync"})
    sync = over.get("sync", {})
    if isinstance(sync, dict):
        foreign += [f"sync.{key}" for key in sorted(sync.keys() - SYNC_FROM_AFAR)]
    if foreign:
        raise ConfigError(
            f"desired configuration: {', '.join(foreign)} cannot be set from afar; expected tables of "
            f"{', '.join(sorted(FROM_AFAR))}, and of sync {', '.join(sorted(SYNC_FROM_AFAR))}"
        )
    return _merged(data, over)


def _merged(data: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables key by key; any other value, a list too, takes the place of the one before."""
    merged = dict(data)
    for key, value in over.items():
        before = merged.get(key)
        merged[key] = (
            _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
        )
    return merged


def dock_of(data: dict[str, Any], name: str) -> Dock:
    """One ``[[dock]]`` table that stands in a file of its own; ``name`` is the file's. Raises ConfigError."""
    problems = list(_unknown_keys(data, Dock, ""))
    if problems:
        raise ConfigError("\n".join(f"{name}: {problem}" for problem in problems))
    try:
        dock = msgspec.convert(data, Dock)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {_readable(error, data)}") from None
    if bool(dock.port) == bool(dock.match):
        raise ConfigError(f"{name}: give either `port` or `match`, so that there is one way to find the dock")
    for problem in dock_problems(dock):
        raise ConfigError(f"{name}: {problem}")
    return dock


# --- how the declarations become checks -----------------------------------------------------------


def _section_of(policy_class: type) -> type[msgspec.Struct]:
    """A validating struct for a policy dataclass, from the bounds that its annotations carry."""
    hints = typing.get_type_hints(policy_class, include_extras=True)
    fields: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(policy_class):
        hint = hints[field.name]
        bounds = hint.__metadata__[0]
        inner = typing.get_args(hint)[0]
        limits = {} if bounds.ge is None else {"ge": bounds.ge, "le": bounds.le}
        fields.append((field.name, Annotated[inner, Meta(description=bounds.doc, **limits)], field.default))
    return msgspec.defstruct(
        policy_class.__name__, fields, frozen=True, forbid_unknown_fields=True, kw_only=True, bases=(Section,)
    )


def _policy_sections() -> dict[str, type[msgspec.Struct]]:
    hints = typing.get_type_hints(Policy)
    return {field.name: _section_of(hints[field.name]) for field in dataclasses.fields(Policy)}


_SECTIONS = _policy_sections()
_PolicySettings = msgspec.defstruct(
    "_PolicySettings",
    [(name, section, msgspec.field(default_factory=section)) for name, section in _SECTIONS.items()],
    bases=(Section,),
    frozen=True,
)


class _File(Settings, frozen=True, kw_only=True):
    """The whole file."""

    policy: _PolicySettings = _PolicySettings()  # type: ignore[valid-type]  # made from agent.core.policy


def _policy(settings: Any) -> Policy:
    hints = typing.get_type_hints(Policy)
    return Policy(**{n: hints[n](**msgspec.structs.asdict(getattr(settings, n))) for n in _SECTIONS})


def _unknown_keys(data: Any, struct: Any, prefix: str) -> typing.Iterator[str]:
    if not isinstance(data, dict):
        return
    hints = typing.get_type_hints(struct)
    for key, value in data.items():
        if key not in hints:
            close = difflib.get_close_matches(key, hints, n=1)
            hint = f"; did you mean `{prefix}{close[0]}`?" if close else f"; known are {', '.join(hints)}"
            yield f"`{prefix}{key}` is not a known key{hint}"
            continue
        inner = struct_in(hints[key])
        if inner is None:
            continue
        if isinstance(value, list):
            for number, item in enumerate(value):
                yield from _unknown_keys(item, inner, f"{prefix}{key}[{number}].")
        else:
            yield from _unknown_keys(value, inner, f"{prefix}{key}.")


def struct_in(hint: Any) -> type[msgspec.Struct] | None:
    """The table type inside a hint such as ``Dock``, ``list[Dock]`` or ``Tls | None``."""
    for candidate in (hint, *typing.get_args(hint)):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            return candidate
    return None


def _readable(error: msgspec.ValidationError, data: Any) -> str:
    """msgspec's words with the key in front and what came behind."""
    text, _, where = str(error).partition(" - at `$.")
    if not where:
        return text
    key = where.rstrip("`")
    came: Any = data
    for part in re.findall(r"\w+", key):
        came = came[int(part)] if isinstance(came, list) else came.get(part)
    return f"`{key}`: {text[0].lower()}{text[1:]}; it is {came!r}"


def _cross_field(settings: Settings) -> typing.Iterator[str]:
    names = [dock.name for dock in settings.dock]
    for number, dock in enumerate(settings.dock):
        where = f"`dock[{number}]` ({dock.name})"
        found_in = bool(dock.port) + bool(dock.match)
        if found_in > 1 or (not found_in and dock.model not in SELF_FOUND):
            yield f"{where}: give either `port` or `match`, so that there is one way to find the dock"
        yield from (f"{where}: {problem}" for problem in dock_problems(dock))
        if names.count(dock.name) > 1:
            yield f"{where}: the name is used twice; each dock needs its own"
    yield from hint_problems(settings)
    buses = [can.name for can in settings.can]
    for can in settings.can:
        if buses.count(can.name) > 1:
            yield f"`can`: the bus name {can.name} is used twice; each bus needs its own"
    for name in settings.enforcement.settings.keys() - set(settings.enforcement.actions):
        yield f"`enforcement.settings.{name}`: there is no such action in `enforcement.actions`; add it"
    sync = settings.sync
    if sync is not None and sync.tls is None and sync.host not in {"127.0.0.1", "::1", "localhost"}:
        yield f"`sync.tls` is missing: the way to {sync.host} leaves this machine and must be encrypted"
