"""What the transport makes of reason codes and of brokers that send it elsewhere, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

from simulator.broker import free_port
from sync.mqtt_types import MQTT_5, Confirmed, Down, Endpoint, Up
from sync.reasons import Ending
from tests.brokers import Peer
from tests.scripted_broker import Scripted


def to(port: int, host: str = "127.0.0.1") -> Peer:
    return Peer(Endpoint(host, port, "t1", connect_timeout_s=2.0, versions=(MQTT_5,)))


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        (0x85, Ending.FORBIDDEN),
        (0x86, Ending.FORBIDDEN),
        (0x87, Ending.FORBIDDEN),
        (0x8A, Ending.FORBIDDEN),
        (0x88, Ending.BUSY),
        (0x89, Ending.BUSY),
        (0x97, Ending.BUSY),
        (0x9F, Ending.BUSY),
        (0x95, Ending.TOO_LARGE),
        (0x80, Ending.NETWORK),
    ],
)
def test_a_refused_connection_says_what_it_asks_of_us(code: int, ending: Ending) -> None:
    async def scene() -> None:
        async with Scripted(connack=code) as broker:
            tablet = to(broker.port)
            tablet.transport.connect()
            assert (await tablet.next(Down)).ending is ending
            assert broker.connects == 1
            assert await tablet.transport.close(5.0)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        (0x8B, Ending.NETWORK),  # it shuts down
        (0x8E, Ending.TAKEN_OVER),
        (0x87, Ending.FORBIDDEN),
        (0x97, Ending.BUSY),
        (0x95, Ending.TOO_LARGE),
    ],
)
def test_so_does_a_connection_that_the_broker_ends(code: int, ending: Ending) -> None:
    async def scene() -> None:
        async with Scripted(hang_up=code) as broker:
            tablet = to(broker.port)
            tablet.transport.connect()
            assert (await tablet.next(Down)).ending is ending
            assert await tablet.transport.close(5.0)

    asyncio.run(scene())


@pytest.mark.parametrize(("code", "again"), [(0x9C, 2), (0x9D, 1)])
def test_it_goes_where_it_is_sent_and_remembers_only_what_moved_for_good(code: int, again: int) -> None:
    async def scene() -> None:
        async with Scripted() as there, Scripted(connack=code, reference=there.address) as home:
            tablet = to(home.port)
            await tablet.up()
            tablet.transport.publish(7, "t/x", b"hello")
            assert await tablet.next(Confirmed) == Confirmed(7, 0)
            assert there.published == [b"hello"]
            await tablet.up()
            assert (home.connects, there.connects) == (again, 2)
            assert await tablet.transport.close(5.0)

    asyncio.run(scene())


def test_a_broker_that_sends_it_away_later_is_left_at_once() -> None:
    async def scene() -> None:
        async with Scripted() as there, Scripted(hang_up=0x9C, reference=there.address) as home:
            tablet = to(home.port)
            tablet.transport.connect()
            while there.connects == 0:
                await tablet.next(Up)
            assert await tablet.transport.close(5.0)

    asyncio.run(scene())


def test_one_that_moved_for_good_and_is_gone_is_asked_for_at_home_again() -> None:
    async def scene() -> None:
        there = Scripted()
        async with there, Scripted(connack=0x9D, reference="") as home:
            home.reference = there.address
            tablet = to(home.port)
            await tablet.up()
            await there.__aexit__()
            home.connack = 0
            tablet.transport.abandon()
            await tablet.up()
            assert home.connects == 2
            assert await tablet.transport.close(5.0)

    asyncio.run(scene())


def test_brokers_that_send_it_round_in_a_circle_are_left_alone() -> None:
    async def scene() -> None:
        one, two = Scripted(connack=0x9C), Scripted(connack=0x9D)
        async with one, two:
            one.reference, two.reference = two.address, one.address
            tablet = to(one.port)
            tablet.transport.connect()
            await tablet.next(Down)
            assert one.connects + two.connects == 4
            assert await tablet.transport.close(5.0)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("mqtt.example", "not followed to mqtt.example without TLS"),
        ("127.0.0.1:99999", "no server that can be used"),
        ("", "Use another server"),
        ("[::1]:x", "no server that can be used"),
    ],
)
def test_a_reference_that_cannot_be_followed_is_said(reference: str, words: str) -> None:
    async def scene() -> None:
        async with Scripted(connack=0x9C, reference=reference) as home:
            tablet = to(home.port)
            tablet.transport.connect()
            assert words in (await tablet.next(Down)).detail
            assert await tablet.transport.close(5.0)

    asyncio.run(scene())


def test_nobody_at_the_other_address_ends_the_try() -> None:
    async def scene() -> None:
        async with Scripted(connack=0x9C, reference=f"127.0.0.1:{free_port()}") as home:
            tablet = to(home.port)
            tablet.transport.connect()
            assert "cannot connect" in (await tablet.next(Down)).detail
            assert home.connects == 1
            assert await tablet.transport.close(5.0)

    asyncio.run(scene())
