"""Settings of ``ivma-depot serve``: a TOML file, or the command line."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from sync.mqtt_types import MQTT_3_1_1, MQTT_5, Endpoint, Tls


class DepotConfigError(ValueError):
    """Settings that cannot be used; the message names the key, what was expected and what came."""


class TlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ca_file: str
    cert_file: str
    key_file: str


class DepotSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that ``serve`` needs.

    ``broker`` is host:port, ``db`` the database file, ``keys`` the folder of sync.depot.keyring. ``mqtt``
    fixes the protocol version for a broker that does not answer to 5.0.
    """

    broker: str
    db: str
    keys: str
    client_id: str = "ivma-depot"
    fleet_key_generation: int = 1
    keepalive_s: int = 60
    mqtt: str | None = None
    tls: TlsSettings | None = None

    def endpoint(self) -> Endpoint:
        host, separator, port = self.broker.rpartition(":")
        if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise DepotConfigError(
                f"broker: expected host:port, such as mqtt.example:8883, not {self.broker!r}"
            )
        if self.mqtt not in (None, MQTT_5, MQTT_3_1_1):
            raise DepotConfigError(f"mqtt: expected {MQTT_5!r} or {MQTT_3_1_1!r}, not {self.mqtt!r}")
        tls = None
        if self.tls is not None:
            tls = Tls(Path(self.tls.ca_file), Path(self.tls.cert_file), Path(self.tls.key_file))
        versions = (MQTT_5, MQTT_3_1_1) if self.mqtt is None else (self.mqtt,)
        return Endpoint(host.strip("[]"), int(port), self.client_id, tls, self.keepalive_s, versions=versions)


def settings(path: Path | None, given: dict[str, object]) -> DepotSettings:
    """What the file says, overridden by what was ``given`` on the command line.

    Raises:
        DepotConfigError: not readable, not TOML, a key missing or unknown, or a value of the wrong type.
    """
    where = "command line" if path is None else str(path)
    try:
        read = {} if path is None else tomllib.loads(path.read_text())
        return msgspec.convert({**read, **given}, DepotSettings)
    except OSError as error:
        raise DepotConfigError(f"{where}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise DepotConfigError(f"{where}: {error}") from error
