"""Delivery over a network that is cut, stalls half-open and loses acknowledgements."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.core.records import Stream
from simulator.broker import Broker
from simulator.network import FaultProxy
from sync import session_types as t
from tests.brokers import running
from tests.sync_rig import Depot, boot_ns, depot, keys, sample, stopped, tablet, until

LIMITS = t.Limits(ack_s=2, puback_s=1, connect_s=2, backoff_s=1, backoff_cap_s=1, batch_bytes=4096)


def test_a_network_that_is_cut_and_stalls_loses_nothing(tmp_path: Path) -> None:
    async def scene(broker: Broker, far_end: Depot) -> None:
        proxy = FaultProxy("127.0.0.1", broker.port, boot_ns)
        await proxy.start()
        await until(lambda: far_end.ready)
        async with tablet(tmp_path, keys(tmp_path / "keys"), proxy.port, limits=LIMITS) as it:
            for number in range(40):
                await it.queue.commit([sample(number * 50 + n) for n in range(50)] + [stopped(number)])
                if number == 10:
                    await proxy.cut()
                    await until(lambda: it.uplink.status()["link"] != "up")
                    await proxy.heal()
                if number == 20:
                    proxy.stall()  # what was sent is on its way for ever: half-open
                    await it.queue.commit([stopped(1000)])
                    await until(lambda: it.uplink.status()["link"] != "up")
                    await proxy.heal()
            assert await it.drain() == 0
        await proxy.close()
        assert far_end.numbers() == list(range(2000))
        assert far_end.chain(Stream.TELEMETRY)["chain"] == "verified"

    key_folder = keys(tmp_path / "keys")
    with running("mosquitto", tmp_path) as broker, depot(tmp_path, key_folder, broker.port) as far_end:
        asyncio.run(scene(broker, far_end))


def test_a_drain_without_a_network_ends_in_time_and_says_what_is_left(tmp_path: Path) -> None:
    async def scene(port: int) -> None:
        async with tablet(tmp_path, keys(tmp_path / "keys"), port, limits=LIMITS) as it:
            await it.queue.commit([stopped(n) for n in range(3)])
            began = boot_ns()
            assert await it.drain(1) == 3
            assert boot_ns() - began < 3_000_000_000

    with running("mosquitto", tmp_path) as broker:
        port = broker.port
    asyncio.run(scene(port))
