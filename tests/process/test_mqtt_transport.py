"""The MQTT transport against real brokers, dead ones and silent ones."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from simulator.broker import free_port
from sync.mqtt_types import MQTT_3_1_1, MQTT_5, Confirmed, Down, Endpoint, Received, Up, Will
from tests.brokers import Peer, peer, running

KINDS = ["mosquitto", "amqtt"]


def endpoint(
    port: int, name: str = "tablet", *, versions: tuple[str, ...] = (MQTT_5, MQTT_3_1_1)
) -> Endpoint:
    return Endpoint("127.0.0.1", port, name, connect_timeout_s=2.0, versions=versions)


def threads_left() -> list[threading.Thread]:
    """Transport threads that do not end by themselves after they said that they do."""
    found = [thread for thread in threading.enumerate() if thread.name == "mqtt"]
    for thread in found:
        thread.join(5.0)
    return [thread for thread in found if thread.is_alive()]


@pytest.mark.parametrize(
    ("kind", "versions", "spoken"),
    [
        ("mosquitto", (MQTT_5, MQTT_3_1_1), MQTT_5),
        ("mosquitto", (MQTT_3_1_1,), MQTT_3_1_1),
        ("amqtt", (MQTT_5, MQTT_3_1_1), MQTT_3_1_1),
    ],
)
def test_the_best_version_that_the_broker_speaks_is_used(
    tmp_path: Path, kind: str, versions: tuple[str, ...], spoken: str
) -> None:
    async def scene() -> None:
        with running(kind, tmp_path) as broker:
            tablet = Peer(endpoint(broker.port, versions=versions), "t/#")
            assert (await tablet.up()).version == spoken
            assert (await tablet.up()).version == spoken  # learnt, and right the second time too
            for token in range(100):
                tablet.transport.publish(token, "t/x", b"%d" % token)
            confirmed = [await tablet.next(Confirmed) for _ in range(100)]
            assert sorted(c.token for c in confirmed) == list(range(100))
            assert all(c.code < 0x80 for c in confirmed)
            assert await tablet.transport.close(5.0)
        assert threads_left() == []

    asyncio.run(scene())


@pytest.mark.parametrize("kind", KINDS)
def test_messages_keep_their_order(tmp_path: Path, kind: str) -> None:
    async def scene() -> None:
        with running(kind, tmp_path) as broker:
            async with peer(broker, "depot", "up/#") as depot, peer(broker, "tablet") as tablet:
                for number in range(50):
                    tablet.transport.publish(number, "up/state", b"%d" % number)
                got = [await depot.message("state") for _ in range(50)]
                assert got == [b"%d" % number for number in range(50)]

    asyncio.run(scene())


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_broker_is_noticed_and_found_again(tmp_path: Path, kind: str) -> None:
    async def scene() -> None:
        with running(kind, tmp_path) as broker:
            tablet = Peer(endpoint(broker.port), "t")
            await tablet.up()
            broker.kill()
            await tablet.next(Down)
            tablet.transport.connect()
            assert "cannot connect" in (await tablet.next(Down)).detail
            broker.run()
            await tablet.up()
            assert await tablet.transport.close(5.0)

    asyncio.run(scene())


def test_nobody_listens() -> None:
    async def scene() -> None:
        tablet = Peer(endpoint(free_port()), "t")
        tablet.transport.connect()
        assert "refused" in (await tablet.next(Down)).detail
        assert await tablet.transport.close(5.0)

    asyncio.run(scene())


def test_a_silent_peer_never_blocks_the_loop_and_close_is_bounded() -> None:
    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            tablet = Peer(endpoint(server.getsockname()[1]), "t")
            tablet.transport.connect()
            connection, _ = await asyncio.get_running_loop().run_in_executor(None, server.accept)
            with connection:
                turns = 0
                connection.setblocking(False)
                await asyncio.get_running_loop().sock_recv(connection, 1)  # CONNECT came, nothing answers
                closing = asyncio.ensure_future(tablet.transport.close(2.0))
                while not closing.done():
                    turns += 1
                    await asyncio.wait([closing], timeout=0.001)
                assert closing.result()
                assert turns >= 1
        assert threads_left() == []

    asyncio.run(scene())


@pytest.mark.parametrize("kind", KINDS)
def test_the_will_speaks_for_a_lost_tablet_and_not_for_one_that_said_goodbye(
    tmp_path: Path, kind: str
) -> None:
    async def scene() -> None:
        with running(kind, tmp_path) as broker:
            async with peer(broker, "watcher", "presence") as watcher:
                tablet = Peer(endpoint(broker.port))
                await tablet.up(Will("presence", b"lost"))
                tablet.transport.abandon()
                assert await watcher.message("presence") == b"lost"
                await tablet.up(Will("presence", b"lost again"))
                tablet.transport.publish(1, "presence", b"sleeping", retain=True)
                await tablet.next(Confirmed)
                assert await tablet.transport.close(5.0)
                assert await watcher.message("presence") == b"sleeping"
                assert watcher.events.empty()
            async with peer(broker, "later", "presence") as later:
                assert await later.message("presence") == b"sleeping"

    asyncio.run(scene())


def test_a_persistent_client_gets_what_came_while_it_was_away_until_it_confirms(tmp_path: Path) -> None:
    """Mosquitto alone: amqtt forgets what it sent to a connection that was gone (0.12)."""

    async def scene() -> None:
        with running("mosquitto", tmp_path) as broker:
            depot = Peer(endpoint(broker.port, "depot"), "up/#", persistent=True, manual_ack=True)
            await depot.up()
            async with peer(broker, "tablet") as tablet:
                tablet.transport.publish(1, "up/a", b"first")
                first = await depot.next(Received)
                depot.transport.abandon()  # before it is confirmed
                tablet.transport.publish(2, "up/a", b"second")
                await tablet.next(Confirmed)
            depot.transport.connect()
            again = await depot.next(Received)
            assert (first.payload, again.payload) == (b"first", b"first")
            depot.transport.confirm(again)
            second = await depot.next(Received)
            assert second.payload == b"second"
            depot.transport.confirm(second)
            assert await depot.transport.close(5.0)

    asyncio.run(scene())


def test_a_flood_is_dropped_and_counted(tmp_path: Path) -> None:
    """More messages than the inbox holds, while the loop is busy: bounded, counted, and it goes on."""

    async def scene() -> None:
        with running("mosquitto", tmp_path) as broker:
            async with peer(broker, "sender") as sender:
                tablet = Peer(endpoint(broker.port), "flood", "end", inbox=8)
                await tablet.up()
                # The inbox is not taken from while the loop does not run: the thread alone works here.
                tablet.transport._scheduled = True
                for number in range(50):
                    sender.transport.publish(number, "flood", b"x")
                for _ in range(50):
                    await sender.next(Confirmed)
                sender.transport.publish(99, "flood", b"x")
                async with asyncio.timeout(20):
                    while tablet.transport.dropped < 40:
                        await asyncio.get_running_loop().run_in_executor(None, threading.Event().wait, 0.01)
                tablet.transport._drain()
                assert tablet.events.qsize() == 8
                assert await tablet.transport.close(5.0)

    asyncio.run(scene())


def test_events_of_an_abandoned_connection_are_not_reported(tmp_path: Path) -> None:
    async def scene() -> None:
        with running("mosquitto", tmp_path) as broker:
            tablet = Peer(endpoint(broker.port), "t")
            await tablet.up()
            tablet.transport.publish(1, "t", b"x")
            tablet.transport.abandon()
            tablet.transport.publish(2, "t", b"x")
            await tablet.up()
            tablet.transport.publish(3, "t", b"x")
            assert (await tablet.next(Confirmed)).token == 3
            assert not isinstance(tablet.events.get_nowait() if tablet.events.qsize() else None, Down | Up)
            assert await tablet.transport.close(5.0)

    asyncio.run(scene())
