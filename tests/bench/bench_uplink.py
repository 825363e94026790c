"""From the store to the broker's PUBACK, and to the depot's ack, against the same payloads without a store.

500,000 telemetry records in sealed blocks of 100, a real broker on loopback, the real store, session and
transport. Prints one line of JSON for each figure. `python tests/bench/bench_uplink.py [RECORDS]`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from agent.core.catalogue import POWER_SAMPLE
from agent.core.records import Record, Stream
from agent.core.types import MS, SECOND
from simulator.broker import Broker
from sync import session_types as t
from sync.blocks import parse_block
from sync.envelope import encode_batch
from sync.keys import Signer, load_private, load_public
from sync.mqtt_types import Confirmed, Endpoint
from sync.sealing import Sealer
from sync.store import Store
from tests.brokers import Peer
from tests.store_rig import Clock
from tests.sync_rig import BOOT_ID, DEVICE, depot, keys, tablet, until

RECORDS = 500_000
GROUP = 100
PEER_RECORDS_S = 8_600  # thingsboard-gateway 3.8.5, store to PUBACK (design, performance)
GOAL = 20 * PEER_RECORDS_S
LIMITS = t.Limits(beyond=1 << 30, ack_s=3600)  # no depot takes part in the first figure


def sample(rng: random.Random, number: int) -> Record:
    """A second of telemetry with the noise that a real supply has in its last digits."""
    return POWER_SAMPLE.make(
        number * SECOND + rng.randrange(MS), vehicle_mv=13_800 + rng.randrange(-60, 60),
        dock_mv=12_000 + rng.randrange(-20, 20), tablet_ma=850 + rng.randrange(-40, 40),
        board_dc=310 + number // 90 % 5, tablet_percent=80, engine_rpm=50 * rng.randrange(15, 19),
    )  # fmt: skip


def fill(folder: Path, key_folder: Path, records: int) -> float:
    """Commit so many records in groups; the time it took."""
    sealer = Sealer(load_public(key_folder / "fleet.pub"), 1, os.urandom)
    store = Store(folder / f"{DEVICE}.db", DEVICE, BOOT_ID, Clock(), os.urandom, sealer=sealer)
    rng = random.Random(1)
    groups = [[sample(rng, number * GROUP + n) for n in range(GROUP)] for number in range(50)]
    began = time.perf_counter()
    for number in range(records // GROUP):
        store.append(groups[number % 50])
    took = time.perf_counter() - began
    store.close()
    return took


def payloads(folder: Path, key_folder: Path, records: int) -> list[bytes]:
    """The batches as the uplink will send them."""
    store = Store(folder / f"{DEVICE}.db", DEVICE, BOOT_ID, Clock(), os.urandom)
    signer = Signer(load_private(key_folder / "devices" / f"{DEVICE}.key"))
    made: list[bytes] = []
    after = 0
    while run := store.read_batch(Stream.TELEMETRY, after, LIMITS.batch_bytes):
        made.append(encode_batch(run, DEVICE, BOOT_ID, signer))
        assert parse_block(run.blocks[-1]).header.last_seq == run.head.seq
        after = run.head.seq
    store.close()
    assert after == records
    return made


async def bare(port: int, batches: list[bytes]) -> float:
    """The limit: the same bytes through the same transport and window, made beforehand."""
    peer = Peer(Endpoint("127.0.0.1", port, "bare"))
    await peer.up()
    began = time.perf_counter()
    sent = confirmed = 0
    while confirmed < len(batches):
        while sent < len(batches) and sent - confirmed < LIMITS.window:
            peer.transport.publish(sent, "ivma/1/test/bare/up/telemetry", batches[sent])
            sent += 1
        await peer.next(Confirmed)
        confirmed += 1
    took = time.perf_counter() - began
    await peer.transport.close(5.0)
    return took


async def to_puback(folder: Path, key_folder: Path, port: int, records: int) -> float:
    async with tablet(folder, key_folder, port, limits=LIMITS) as it:

        def confirmed() -> bool:
            status = it.uplink.status()
            sent = status.get("streams", {}).get("telemetry", {}).get("sent")  # type: ignore[attr-defined]
            return sent == records and status["in_window"] == 0

        await until(lambda: it.uplink.status()["link"] == "up")
        began = time.perf_counter()
        await until(confirmed)
        return time.perf_counter() - began


async def to_depot(folder: Path, key_folder: Path, port: int) -> float:
    async with tablet(folder, key_folder, port, limits=t.Limits()) as it:
        await until(lambda: it.uplink.status()["link"] == "up")
        began = time.perf_counter()
        await it.delivered()
        return time.perf_counter() - began


def say(figure: str, records_s: float, **more: object) -> None:
    print(json.dumps({"figure": figure, "records_s": round(records_s), **more}), flush=True)


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key_folder = keys(folder / "keys")
        say("commit, groups of 100, sealed", records / fill(folder, key_folder, records))
        batches = payloads(folder, key_folder, records)
        broker = Broker.start(folder / "broker")
        try:
            limit = records / asyncio.run(bare(broker.port, batches))
            say("limit: the same batches, made beforehand", limit, broker=broker.kind,
                bytes_a_record=round(sum(map(len, batches)) / records, 2))  # fmt: skip
            rate = records / asyncio.run(to_puback(folder, key_folder, broker.port, records))
            say("store to PUBACK", rate, of_limit=round(rate / limit, 3), peer=PEER_RECORDS_S, goal=GOAL,
                holds=rate >= GOAL)  # fmt: skip
            with depot(folder, key_folder, broker.port) as far_end:
                asyncio.run(until(lambda: far_end.ready))
                rate = records / asyncio.run(to_depot(folder, key_folder, broker.port))
                duplicates = far_end.chain(Stream.TELEMETRY)["duplicates_dropped"]
                say("store to the depot's ack, records opened", rate, duplicates=duplicates)
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
