"""A fleet enrolled for a test, and a real Mosquitto that runs as enrolment told it to."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulator.broker import Broker
from sync.depot import access
from sync.depot.enrol import enrol
from sync.mqtt_types import MQTT_3_1_1, MQTT_5, Endpoint, Tls
from tests.brokers import running

FLEET = "met"


def enrolled(keys: Path, *devices: str, days: int = 397, at: datetime.datetime | None = None) -> Path:
    """Enrol ``devices`` and a broker on 127.0.0.1, now or ``at`` another time."""
    list(
        enrol(keys, FLEET, ["127.0.0.1"], list(devices), at or datetime.datetime.now(datetime.UTC), days=days)
    )
    return keys


@contextmanager
def guarded(keys: Path, folder: Path) -> Iterator[Broker]:
    """Mosquitto with the files and the lines that enrolment wrote."""
    lines = access.configuration(str(keys / "broker"))
    ours = "\n".join(line for line in lines.splitlines() if not line.startswith(("persist", "autosave")))
    with running("mosquitto", folder, ours.replace("allow_anonymous false\n", "") + "\n") as broker:
        yield broker


def tls(keys: Path, device: str) -> Tls:
    folder = keys / "tablets" / device
    return Tls(folder / "ca.crt", folder / "tablet.crt", folder / "tablet-tls.pem")


def endpoint(
    keys: Path,
    port: int,
    device: str,
    client_id: str = "",
    versions: tuple[str, ...] = (MQTT_5, MQTT_3_1_1),
) -> Endpoint:
    """How ``device`` reaches the broker; ``client_id`` if it claims to be another."""
    files = tls(keys, device)
    return Endpoint("127.0.0.1", port, client_id or device, files, connect_timeout_s=5.0, versions=versions)
