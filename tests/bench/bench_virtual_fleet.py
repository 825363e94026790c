"""What the virtual far end costs: batches of five records, one after the other, published, stored and acked.

Prints one line of JSON for each kind of signatures. `python tests/bench/bench_virtual_fleet.py [BATCHES]`.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.core.records import Stream
from simulator.compose_fleet import DepotKeys, QuickSigner, QuickVerifier, memory_depot, memory_transport
from simulator.virtual.agenda import Agenda
from simulator.virtual.broker import MemoryBroker
from simulator.virtual.depot import VFS
from simulator.virtual.loop import VirtualLoop
from simulator.virtual.network import Network
from sync.depot.intake import Intake
from sync.depot.storage import DepotStorage
from sync.envelope import Run, encode_ack, encode_batch
from sync.keys import Signer, Verifier
from sync.mqtt_types import Confirmed, Endpoint, Received, TransportEvent, Up
from sync.sealing import Opener
from sync.topics import Topics
from tests.store_rig import DEVICE, FLEET_PRIVATE, Rig, sample

BATCHES = 2000
RUNS = 5
RECORDS = 5
GOAL_US = 300  # a batch, without what the uplink itself costs
TOPICS = Topics("bench", DEVICE)
UP = TOPICS.up(Stream.TELEMETRY)


@dataclass(frozen=True, slots=True)
class Keys:
    device: Signer
    depot: Signer
    verifiers: dict[str, Verifier]


SECRETS = bytes([1]) * 32, bytes([2]) * 32
ED25519 = Keys(Signer(SECRETS[0]), Signer(SECRETS[1]), {DEVICE: Verifier(Signer(SECRETS[0]).public)})
QUICK = Keys(QuickSigner(SECRETS[0]), QuickSigner(SECRETS[1]), {DEVICE: QuickVerifier(SECRETS[0])})


def payloads(folder: Path, number: int, keys: Keys) -> list[bytes]:
    """The batches as the uplink would send them, sealed."""
    rig = Rig(folder / "queue.db", sealed=True)
    store = rig.open()
    made = []
    for first in range(0, number * RECORDS, RECORDS):
        store.append([sample(rig.clock.boot_ns + n, vehicle_mv=n) for n in range(first, first + RECORDS)])
        run = store.read_batch(Stream.TELEMETRY, first, 1)
        assert isinstance(run, Run)
        made.append(encode_batch(run, DEVICE, bytes(16), keys.device))
    store.close()
    return made


def through_the_model(batches: list[bytes], keys: Keys) -> None:
    """Each is published when the ack of the one before has come; time passes between them."""
    agenda = Agenda()
    world, tablet = VirtualLoop(agenda), VirtualLoop(agenda)
    broker = MemoryBroker(world, random.Random(1))
    depot_keys = DepotKeys(keys.depot, keys.verifiers.get, lambda: Opener({1: FLEET_PRIVATE}))
    depot = memory_depot(world, broker, depot_keys, random.Random(1))
    acks = confirmed = 0

    def heard(event: TransportEvent) -> None:
        nonlocal acks, confirmed
        match event:
            case Up() | Received():
                acks += isinstance(event, Received)
                if acks < len(batches):
                    tablet.call_later(5.0, transport.publish, acks, UP, batches[acks])
            case Confirmed():
                confirmed += 1

    make = memory_transport(Network(world, broker))
    transport = make(Endpoint("broker", 1883, DEVICE), [TOPICS.ack], heard, tablet)
    tablet.call_later(1.0, transport.connect)
    while acks < len(batches):
        agenda.step()
    assert confirmed == acks
    depot.close()


def intake_alone(batches: list[bytes], keys: Keys) -> None:
    """The production part of it: verify, open, store, commit and sign."""
    storage = DepotStorage(Path("/bench.db"), vfs=VFS)
    intake = Intake(storage, keys.verifiers.get, Opener({1: FLEET_PRIVATE}))
    for payload in batches:
        with storage.transaction():
            (reply,) = intake.take(UP, payload)
        encode_ack(reply.ack, keys.depot)
    storage.close()


def cost_us(part: Callable[[list[bytes], Keys], None], batches: list[bytes], keys: Keys) -> float:
    """Of the best of five runs: other people's work on the machine only ever adds."""
    took = []
    for _ in range(RUNS):
        began = time.process_time()
        part(batches, keys)
        took.append(time.process_time() - began)
    return min(took) / len(batches) * 1e6


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    number = int(sys.argv[1]) if len(sys.argv) > 1 else BATCHES
    for name, keys in (("Ed25519", ED25519), ("quick", QUICK)):
        with tempfile.TemporaryDirectory() as folder:
            batches = payloads(Path(folder), number, keys)
        whole, intake = cost_us(through_the_model, batches, keys), cost_us(intake_alone, batches, keys)
        print(
            json.dumps(
                {
                    "signatures": name,
                    "intake_us": round(intake),
                    "wires_broker_service_us": round(whole - intake),
                    "batch_us": round(whole),
                    "goal_us": GOAL_US,
                    "holds": whole < GOAL_US,
                }
            )
        )


if __name__ == "__main__":
    main()
