"""Mutual TLS with a real broker when certificates end, clocks are wrong and files are bad."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from simulator.broker import Broker
from sync.blocks import Quality, Stamp
from sync.mqtt_types import MQTT_3_1_1, MQTT_5, Down, Endpoint
from sync.reasons import Ending
from tests.brokers import Peer
from tests.tls_rig import endpoint, enrolled, guarded

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
UNSET = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def at(end: Endpoint, wall: datetime.datetime, quality: Quality) -> Endpoint:
    """The endpoint under another clock."""
    stamp = Stamp(0, int(wall.timestamp()) * 1_000_000_000, quality)
    assert end.tls is not None
    return dataclasses.replace(end, tls=dataclasses.replace(end.tls, clock=lambda: stamp))


def with_broker(keys: Path, folder: Path, scene: Callable[[Broker], Awaitable[None]]) -> None:
    async def within() -> None:
        with guarded(keys, folder) as broker:
            await scene(broker)

    asyncio.run(within())


async def ends(end: Endpoint) -> Down:
    """How a try to connect ends that must not succeed."""
    peer = Peer(end)
    peer.transport.connect()
    down = await peer.next(Down)
    assert await peer.transport.close(5.0)
    return down


async def connects(end: Endpoint) -> str:
    """Connect; what there is to tell people."""
    peer = Peer(end)
    notice = (await peer.up()).notice
    assert await peer.transport.close(5.0)
    return notice


@pytest.mark.parametrize("wall", [UNSET, NOW + 9000 * DAY])
def test_a_clock_that_nobody_set_keeps_no_tablet_offline(tmp_path: Path, wall: datetime.datetime) -> None:
    keys = enrolled(tmp_path / "keys", "t1")

    async def scene(broker: Broker) -> None:
        end = endpoint(keys, broker.port, "t1")
        assert await connects(at(end, wall, Quality.UNSET)) == ""
        assert await connects(at(end, wall, Quality.RTC)) == ""

    with_broker(keys, tmp_path, scene)


def test_without_a_clock_a_broker_whose_certificate_ended_before_ours_is_refused(
    tmp_path: Path,
) -> None:
    keys = enrolled(tmp_path / "keys", days=30, at=NOW - 100 * DAY)  # the broker's, 70 days past
    broker = {path: path.read_bytes() for path in (keys / "broker").iterdir()}
    enrolled(keys, "t1")
    for path, old in broker.items():
        path.write_bytes(old)

    async def scene(found: Broker) -> None:
        down = await ends(at(endpoint(keys, found.port, "t1"), UNSET, Quality.UNSET))
        assert down.ending is Ending.UNTRUSTED
        assert "before ours was issued" in down.detail
        assert (
            await ends(at(endpoint(keys, found.port, "t1"), NOW, Quality.SYNCED))
        ).ending is Ending.UNTRUSTED

    with_broker(keys, tmp_path, scene)


def test_without_a_clock_the_authority_and_the_name_count_all_the_same(tmp_path: Path) -> None:
    keys, other = enrolled(tmp_path / "keys", "t1"), enrolled(tmp_path / "other", "t1")

    async def scene(broker: Broker) -> None:
        end = at(endpoint(other, broker.port, "t1"), UNSET, Quality.UNSET)
        assert (await ends(end)).ending is Ending.UNTRUSTED
        end = at(endpoint(keys, broker.port, "t1"), UNSET, Quality.UNSET)
        down = await ends(dataclasses.replace(end, host="localhost"))  # not a name of its certificate
        assert down.ending is Ending.UNTRUSTED

    with_broker(keys, tmp_path, scene)


def test_a_certificate_that_ends_soon_is_said_and_one_that_ended_is_not_tried(tmp_path: Path) -> None:
    keys = enrolled(tmp_path / "keys", "t1")

    async def scene(broker: Broker) -> None:
        end = endpoint(keys, broker.port, "t1")
        assert await connects(at(end, NOW + 300 * DAY, Quality.SYNCED)) == ""
        assert "enrol it again" in await connects(at(end, NOW + 380 * DAY, Quality.SYNCED))
        down = await ends(at(end, NOW + 398 * DAY, Quality.SYNCED))
        assert down.ending is Ending.FORBIDDEN
        assert "expired" in down.detail
        assert "enrol this tablet again" in down.detail

    with_broker(keys, tmp_path, scene)


@pytest.mark.parametrize("version", [MQTT_5, MQTT_3_1_1])
def test_after_expiry_the_broker_s_word_is_told_and_a_renewal_counts_at_the_next_try(
    tmp_path: Path, version: str
) -> None:
    keys = enrolled(tmp_path / "keys", "t1", days=30, at=NOW - 100 * DAY)
    enrolled(keys)  # the broker's is renewed, the tablet was away

    async def scene(broker: Broker) -> None:
        end = at(endpoint(keys, broker.port, "t1", versions=(version,)), UNSET, Quality.UNSET)
        peer = Peer(end)
        peer.transport.connect()
        down = await peer.next(Down)
        assert down.ending is Ending.FORBIDDEN
        assert "CERTIFICATE_EXPIRED" in down.detail
        enrolled(keys, "t1")
        assert (await peer.up()).version == version  # the same process
        assert await peer.transport.close(5.0)

    with_broker(keys, tmp_path, scene)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "tablet.crt").unlink(), "tablet.crt: cannot be read"),
        (lambda folder: (folder / "tablet.crt").write_text("x"), "tablet.crt: expected a PEM certificate"),
        (lambda folder: (folder / "ca.crt").unlink(), "ca.crt: expected a PEM certificate"),
        (lambda folder: (folder / "tablet-tls.pem").unlink(), "tablet-tls.pem: cannot be read"),
        (lambda folder: (folder / "tablet-tls.pem").chmod(0o644), "expected mode 0600"),
        (
            lambda folder: (folder / "tablet-tls.pem").write_bytes(
                (folder.parent / "t2" / "tablet-tls.pem").read_bytes()
            ),
            "expected the PEM key of certificate",
        ),
    ],
)
def test_a_file_that_does_not_do_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    keys = enrolled(tmp_path / "keys", "t1", "t2")
    spoil(keys / "tablets" / "t1")
    down = asyncio.run(ends(endpoint(keys, 1, "t1")))
    assert words in down.detail
    assert down.ending is Ending.FORBIDDEN
