"""Real brokers for tests: each test has its own, in its own folder, on a free port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulator.broker import Broker
from tests.system import need


@contextmanager
def running(kind: str, folder: Path, extra: str = "") -> Iterator[Broker]:
    """A broker of ``kind`` ("mosquitto" or "amqtt"), ended with the block.

    Skips the test when Mosquitto is asked for and not installed. ``extra`` are further lines of its
    configuration. Without Mosquitto, amqtt needs the extra "sim", which the tests have.
    """
    if kind == "mosquitto":
        need("mosquitto")
    broker = Broker.start(folder / "broker", kind, extra=extra)
    try:
        yield broker
    finally:
        broker.stop()
