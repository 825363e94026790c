"""The far end of the virtual world: the production depot behind the model of a broker. Composition root."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.records import Stream
from simulator.virtual.broker import MemoryBroker
from simulator.virtual.depot import VFS, AckLosingTransport, MemoryDepot
from simulator.virtual.network import Network
from simulator.virtual.transport import MemoryTransport, Words
from sync import mqtt_types
from sync.blocks import Block, Head
from sync.columns import Row
from sync.depot.intake import Intake
from sync.depot.service import DepotService
from sync.depot.storage import Chain, DepotStorage
from sync.errors import RemoteProtocolError
from sync.keys import SIGNATURE_BYTES, Signer, Verifier
from sync.mqtt_types import Endpoint, MakeTransport, TransportEvent
from sync.sealing import Opener

WORDS: Words[TransportEvent] = Words(
    mqtt_types.Up, mqtt_types.Down, mqtt_types.Confirmed, mqtt_types.Received
)
ENDPOINT = Endpoint("depot", 1883, "ivma-depot")


@dataclass(frozen=True, slots=True)
class DepotKeys:
    """``verifier_of`` gives a device's key or None; without ``opener`` sealed records stay closed."""

    signer: Signer
    verifier_of: Callable[[str], Verifier | None]
    opener: Callable[[], Opener | None] = lambda: None


class QuickSigner(Signer):
    """Signs at a tenth of the cost: a keyed hash, which only somebody outside our world could forge.

    What is signed, checked and refused stays the same; Ed25519 itself is left to the tests on real wires.
    """

    def __init__(self, key: bytes) -> None:
        self._secret = self.public = key

    def sign(self, label: str, message: bytes) -> bytes:
        return _quick(self._secret, label, message)


class QuickVerifier(Verifier):
    """Verifies what a QuickSigner with the same key has signed."""

    def __init__(self, key: bytes) -> None:
        self._secret = key

    def verify(self, label: str, message: bytes, signature: bytes) -> None:
        if signature != _quick(self._secret, label, message):
            raise RemoteProtocolError("signature", f"no signature of the expected key on {label}")


def _quick(key: bytes, label: str, message: bytes) -> bytes:
    return hashlib.blake2b(label.encode() + b"\0" + message, key=key, digest_size=SIGNATURE_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Delivery:
    """Blocks of a chain that the depot has committed; ``rows`` None: sealed, or records that are lost."""

    device: str
    stream: Stream
    epoch: bytes
    first_seq: int
    last_seq: int
    rows: list[tuple[int, Row]] | None


class WatchedStorage(DepotStorage):
    """Tells of blocks, in order, right after the commit that keeps them."""

    def __init__(self, path: Path, on_delivery: Callable[[Delivery], None]) -> None:
        super().__init__(path, vfs=VFS)
        self._on_delivery = on_delivery
        self._news: list[Delivery] = []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._news = []
        with super().transaction():
            yield
        for delivery in self._news:
            self._on_delivery(delivery)

    def add(self, chain: Chain, block: Block, head: Head, rows: list[tuple[int, Row]] | None) -> None:
        first = chain.head.seq + 1
        super().add(chain, block, head, rows)
        self._news.append(Delivery(chain.device, chain.stream, chain.epoch, first, head.seq, rows))

    def add_hole(self, chain: Chain, upto: Head, reason: str) -> None:
        first = chain.head.seq + 1
        super().add_hole(chain, upto, reason)
        self._news.append(Delivery(chain.device, chain.stream, chain.epoch, first, upto.seq, None))


class _DepotProcess:
    """One run of the production depot."""

    def __init__(self, storage: DepotStorage, transport: MemoryTransport[Any], service: DepotService) -> None:
        self._storage = storage
        self._transport = transport
        self._service = service

    def kill(self) -> None:
        self._transport.kill()
        ending = self._service.close()  # takes nothing: what waited went with the connection
        try:
            ending.send(None)
        except StopIteration:
            self._storage.close()
            return
        raise RuntimeError("a depot on a dead connection waits for something")


def memory_transport(network: Network) -> MakeTransport:
    """For ``Uplink``: its transport over this network."""

    def make(*given: Any, **options: Any) -> MemoryTransport[TransportEvent]:
        return MemoryTransport(network, WORDS, *given, **options)

    return make


def memory_depot(
    loop: asyncio.AbstractEventLoop,
    broker: MemoryBroker,
    keys: DepotKeys,
    rng: random.Random,
    on_delivery: Callable[[Delivery], None] = lambda delivery: None,
) -> MemoryDepot:
    """A depot on ``loop`` beside its broker, with nothing between them that could fail."""
    network = Network(loop, broker)

    def start(depot: MemoryDepot) -> _DepotProcess:
        transports: list[MemoryTransport[TransportEvent]] = []

        def make(*given: Any, **options: Any) -> MemoryTransport[TransportEvent]:
            transports.append(AckLosingTransport(depot, network, WORDS, *given, **options))
            return transports[0]

        storage = WatchedStorage(depot.path, on_delivery)
        intake = Intake(storage, keys.verifier_of, keys.opener())
        service = DepotService(ENDPOINT, storage, intake, keys.signer, rng.random, make)
        service.start()
        return _DepotProcess(storage, transports[0], service)

    return MemoryDepot(loop, rng, start)
