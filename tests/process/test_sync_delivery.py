"""From the tablet's queue to the depot, through real brokers that are cut, killed and restarted."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from agent.core.records import Stream
from simulator.broker import Broker
from sync.mqtt_types import MQTT_3_1_1, MQTT_5
from sync.session_types import Trouble
from tests.brokers import peer, running
from tests.sync_rig import Depot, change, depot, keys, sample, stopped, tablet, until

WAYS = [
    ("mosquitto", (MQTT_5, MQTT_3_1_1)),
    ("mosquitto", (MQTT_3_1_1,)),
    ("amqtt", (MQTT_5, MQTT_3_1_1)),
]


def check(far_end: Depot, expected: list[int]) -> None:
    """Everything exactly once, in order, the chain verified and signed to its end."""
    assert far_end.numbers() == expected
    entry = far_end.chain(Stream.TELEMETRY)
    assert entry["chain"] == "verified"
    assert entry["last_seq"] == entry["signed_to"] == entry["records"] == len(expected)
    assert entry["gaps"] == []
    assert entry["missing_tail"] == 0
    assert far_end.quarantined() == []


@pytest.mark.parametrize(("kind", "versions"), WAYS)
def test_what_is_committed_arrives_once_and_in_order(
    tmp_path: Path, kind: str, versions: tuple[str, ...]
) -> None:
    async def scene(broker: Broker, far_end: Depot) -> None:
        await until(lambda: far_end.ready)
        async with tablet(tmp_path, keys(tmp_path / "keys"), broker.port, versions=versions) as it:
            for first in range(0, 3000, 100):
                await it.queue.commit([sample(n) for n in range(first, first + 100)] + [stopped(first)])
            assert await it.drain() == 0
            assert it.reports == []
            assert (
                it.uplink.status()["mqtt"] == (MQTT_5 if kind == "mosquitto" else MQTT_3_1_1)
                or len(versions) == 1
            )
            stats = await it.queue.stats()
            assert all(stat.pending == 0 for stat in stats.values())
        check(far_end, list(range(3000)))
        assert far_end.chain(Stream.TELEMETRY)["duplicates_dropped"] == 0
        assert far_end.numbers("reason") == list(range(0, 3000, 100))

    with running(kind, tmp_path) as broker, depot(tmp_path, keys(tmp_path / "keys"), broker.port) as far_end:
        asyncio.run(scene(broker, far_end))


@pytest.mark.parametrize(
    ("line", "version"), [("message_size_limit 20000", MQTT_5), ("max_packet_size 20000", MQTT_3_1_1)]
)
def test_a_broker_that_hangs_up_at_large_batches_gets_small_ones(
    tmp_path: Path, line: str, version: str
) -> None:
    """The one block that is still too large for it stops its own stream and is reported."""
    rng = random.Random(1)

    async def scene(broker: Broker, far_end: Depot) -> None:
        await until(lambda: far_end.ready)
        async with tablet(tmp_path, keys(tmp_path / "keys"), broker.port, versions=(version,)) as it:
            broker.stop()
            for number in range(100):
                await it.queue.commit([sample(number), stopped(number)])
            await it.queue.commit([change(rng.randbytes(20_000).hex())])
            await asyncio.get_running_loop().run_in_executor(None, broker.run)
            await until(lambda: it.pending == 1 and bool(it.reports))
            assert [(r.trouble, r.stream) for r in it.reports] == [(Trouble.REFUSED, Stream.STATE)]
        check(far_end, list(range(100)))

    with (
        running("mosquitto", tmp_path, f"{line}\n") as broker,
        depot(tmp_path, keys(tmp_path / "keys"), broker.port) as far_end,
    ):
        asyncio.run(scene(broker, far_end))


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_a_broker_killed_again_and_again_loses_nothing(tmp_path: Path, kind: str) -> None:
    """amqtt keeps nothing when it is killed: all that it confirmed is sent again."""

    async def scene(broker: Broker, far_end: Depot) -> None:
        loop = asyncio.get_running_loop()
        async with tablet(tmp_path, keys(tmp_path / "keys"), broker.port) as it:
            for number in range(40):
                await it.queue.commit([sample(number * 50 + n) for n in range(50)] + [stopped(number)])
                if number % 10 == 5:
                    broker.kill()
                    await loop.run_in_executor(None, broker.run)
            assert await it.drain() == 0
        check(far_end, list(range(2000)))

    with running(kind, tmp_path) as broker, depot(tmp_path, keys(tmp_path / "keys"), broker.port) as far_end:
        asyncio.run(scene(broker, far_end))


def test_a_depot_killed_again_and_again_acknowledges_only_what_it_has(tmp_path: Path) -> None:
    async def scene(broker: Broker, far_end: Depot) -> None:
        await until(lambda: far_end.ready)
        async with tablet(tmp_path, keys(tmp_path / "keys"), broker.port) as it:
            for number in range(60):
                await it.queue.commit([sample(number * 50 + n) for n in range(50)] + [stopped(number)])
                if number % 15 == 7:
                    far_end.kill()
                    acked = (await it.queue.stats())[Stream.TELEMETRY].acked.seq
                    assert acked <= len(far_end.numbers())
                    far_end.run()
            assert await it.drain() == 0
        check(far_end, list(range(3000)))

    with (
        running("mosquitto", tmp_path) as broker,
        depot(tmp_path, keys(tmp_path / "keys"), broker.port) as far_end,
    ):
        asyncio.run(scene(broker, far_end))


def test_a_backlog_waits_for_the_depot_and_alarms_overtake_it(tmp_path: Path) -> None:
    async def scene(broker: Broker, far_end: Depot) -> None:
        async with tablet(tmp_path, keys(tmp_path / "keys"), broker.port) as it:
            await it.queue.commit([sample(n) for n in range(2000)] + [change(1), stopped(1)])
            await until(lambda: it.uplink.status()["link"] == "up")
            assert it.pending == 2002
            far_end.run()
            assert await it.drain() == 0
        check(far_end, list(range(2000)))
        far_end.stop()

    with running("mosquitto", tmp_path) as broker:
        far_end = Depot(tmp_path, keys(tmp_path / "keys"), broker.port)
        asyncio.run(scene(broker, far_end))


def test_presence_is_born_sleeps_and_dies(tmp_path: Path) -> None:
    async def scene(broker: Broker, far_end: Depot) -> None:
        def state() -> str:
            return next((s for (s,) in far_end.rows("SELECT state FROM presence")), "none")

        await until(lambda: far_end.ready)
        async with tablet(tmp_path, keys(tmp_path / "keys"), broker.port) as it:
            await it.queue.commit([stopped(1)])
            await it.delivered()
            await until(lambda: state() == "online")
            it.uplink.announce("sleeping")
            await until(lambda: state() == "sleeping")
            it.uplink._transport.abandon()  # what a cut looks like from outside
            await until(lambda: state() == "lost")
        assert far_end.ledger()["devices"]["tablet-1"]["presence"] == "lost"

    with (
        running("mosquitto", tmp_path) as broker,
        depot(tmp_path, keys(tmp_path / "keys"), broker.port) as far_end,
    ):
        asyncio.run(scene(broker, far_end))


def test_a_cut_off_tail_shows_in_the_signed_heads(tmp_path: Path) -> None:
    """A broker that lets presence through and holds the batches back does not go unnoticed."""
    denied = tmp_path / "acl"
    denied.write_text("topic readwrite #\ntopic deny ivma/1/test/tablet-1/up/state\n")

    async def scene(broker: Broker, far_end: Depot) -> None:
        await until(lambda: far_end.ready)
        async with tablet(tmp_path, keys(tmp_path / "keys"), broker.port) as it:
            await it.queue.commit([stopped(1), *(change(n) for n in range(7))])
            await until(lambda: bool(it.reports))
            it.uplink.announce("online")
            await until(lambda: bool(far_end.rows("SELECT 1 FROM chain")))
            await until(lambda: '"state": [7' in str(far_end.rows("SELECT heads FROM presence")))
        assert it.reports[0].stream is Stream.STATE
        assert far_end.chain(Stream.AUDIT)["missing_tail"] == 0
        (tail,) = far_end.ledger()["devices"]["tablet-1"]["streams"]["state"]
        assert (tail["last_seq"], tail["missing_tail"]) == (0, 7)

    with (
        running("mosquitto", tmp_path, f"acl_file {denied}\n") as broker,
        depot(tmp_path, keys(tmp_path / "keys"), broker.port) as far_end,
    ):
        asyncio.run(scene(broker, far_end))


def test_a_forged_ack_lets_nothing_go(tmp_path: Path) -> None:
    async def scene(broker: Broker) -> None:
        key_folder = keys(tmp_path / "keys")
        async with (
            tablet(tmp_path, key_folder, broker.port) as it,
            peer(broker, "attacker") as attacker,
        ):
            await it.queue.commit([stopped(1)])
            await until(lambda: it.uplink.status()["link"] == "up")
            for number, payload in enumerate([b"", b"\x94\x01\xc4\x00\xc4\x00\xc4\x00", b"x" * 1000]):
                attacker.transport.publish(number, "ivma/1/test/tablet-1/ack", payload)
            await until(lambda: it.uplink.bad_acks == 3)
            assert it.pending == 1
            assert (await it.queue.stats())[Stream.AUDIT].acked.seq == 0

    with running("mosquitto", tmp_path) as broker:
        asyncio.run(scene(broker))


def test_a_queue_file_that_is_damaged_while_in_use_is_replaced_and_delivered(tmp_path: Path) -> None:
    """The rows are on the disk alone when it goes bad: more of them than SQLite keeps in memory."""

    async def scene(broker: Broker, far_end: Depot) -> None:
        def put_aside() -> list[Path]:
            return list(tmp_path.glob("*.damaged-1"))

        rng = random.Random(1)
        loop = asyncio.get_running_loop()
        async with tablet(tmp_path, keys(tmp_path / "keys"), broker.port) as it:
            for _ in range(40):
                await it.queue.commit([change(rng.randbytes(100_000).hex())])
            for name in ("tablet-1.db", "tablet-1.db-wal"):
                path = tmp_path / name
                path.write_bytes(b"\xff" * path.stat().st_size)
            await loop.run_in_executor(None, broker.run)
            far_end.run()
            await until(lambda: bool(put_aside()))
            await it.queue.commit([stopped(number) for number in range(5)])
            assert await it.drain() == 0
        assert far_end.ledger()["verified"]
        kinds = [kind for (kind,) in far_end.rows("SELECT kind FROM record ORDER BY kind")]
        assert kinds == ["agent.stopped"] * 5 + ["queue.damaged"] * len(Stream)
        far_end.stop()

    with running("mosquitto", tmp_path) as broker:
        broker.stop()
        asyncio.run(scene(broker, Depot(tmp_path, keys(tmp_path / "keys"), broker.port)))


def test_the_loss_of_a_queue_file_begins_a_new_chain(tmp_path: Path) -> None:
    async def scene(broker: Broker, far_end: Depot) -> None:
        key_folder = keys(tmp_path / "keys")
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            async with tablet(tmp_path / folder, key_folder, broker.port) as it:
                await it.queue.commit([sample(n) for n in range(100)])
                assert await it.drain() == 0
        found = far_end.ledger()
        chains = found["devices"]["tablet-1"]["streams"]["telemetry"]
        assert [c["last_seq"] for c in chains] == [100, 100]
        assert found["verified"]

    with (
        running("mosquitto", tmp_path) as broker,
        depot(tmp_path, keys(tmp_path / "keys"), broker.port) as far_end,
    ):
        asyncio.run(scene(broker, far_end))
