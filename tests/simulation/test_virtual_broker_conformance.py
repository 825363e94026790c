"""The virtual broker and depot answer as Mosquitto and ivma-depot do: one script, two beds, equal answers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from agent.core.records import Stream
from simulator.broker import Broker
from simulator.compose_fleet import DepotKeys, memory_depot, memory_transport
from simulator.network import FaultProxy
from simulator.virtual.agenda import Agenda
from simulator.virtual.broker import BrokerLimits, MemoryBroker
from simulator.virtual.loop import VirtualLoop
from simulator.virtual.network import Network
from sync.blocks import HEADER_BYTES, Head
from sync.depot.keyring import Keyring
from sync.envelope import Presence, Run, decode_ack, encode_batch, encode_presence
from sync.keys import Signer, Verifier, load_private, load_public
from sync.mqtt import MqttTransport
from sync.mqtt_types import (
    MQTT_3_1_1,
    MQTT_5,
    Confirmed,
    Down,
    Endpoint,
    MakeTransport,
    Received,
    TransportEvent,
    Up,
    Will,
)
from sync.topics import Topics
from tests.brokers import WAIT_S, Listener, running
from tests.store_rig import DEVICE, Rig, sample
from tests.sync_rig import boot_ns, depot, keys, until

KEEPALIVE_S = 2
TOPICS = Topics("test", DEVICE)
BOOT_ID = bytes(16)
Answers = list[object]


class Client(Listener):
    """A client of whichever broker. ``answers`` says what it was told, without what is for people."""

    def __init__(self, make: MakeTransport, endpoint: Endpoint, *subscriptions: str, **options: bool) -> None:
        super().__init__()
        self.messages: asyncio.Queue[Received] = asyncio.Queue()
        self._confirms = options.get("manual_ack", False)
        self.transport = make(endpoint, subscriptions, self._sort, asyncio.get_running_loop(), **options)

    def _sort(self, event: TransportEvent) -> None:
        if isinstance(event, Received):
            self.messages.put_nowait(event)
        else:
            self.events.put_nowait(event)

    async def got(self) -> Received:
        async with asyncio.timeout(WAIT_S):
            return await self.messages.get()

    async def heard(self, number: int) -> Answers:
        """So many messages: topic, payload, and whether they were retained."""
        found = [await self.got() for _ in range(number)]
        return [(it.topic, it.payload, it.retained) for it in found]

    async def until_fence(self) -> Answers:
        """All messages up to and without the one that says "fence"; each is confirmed."""
        found: Answers = []
        while True:
            it = await self.got()
            if self._confirms:
                self.transport.confirm(it)
            if it.payload == b"fence":
                return found
            found.append((it.topic, it.payload, it.retained))

    async def confirm_one(self) -> bytes:
        """Make room for one message more."""
        it = await self.got()
        self.transport.confirm(it)
        await self.settle()
        return it.payload

    async def settle(self) -> None:
        """Wait until the broker has all that was sent."""
        await self.say("nobody", b"")

    async def say(self, topic: str, *payloads: bytes, retain: bool = False) -> list[int]:
        """Publish, one after the other; the codes of the PUBACKs."""
        codes = []
        for payload in payloads:
            self.transport.publish(1, topic, payload, retain=retain)
            codes.append((await self.next(Confirmed)).code)
        return codes


class FarEnd(Protocol):
    """A depot and what an operator can do with it."""

    def restart(self) -> None: ...
    def back_up(self) -> None: ...
    def restore(self) -> None: ...
    def rows(self, sql: str) -> list[Any]: ...


class Bed(Protocol):
    """A broker with a network before it."""

    def client(
        self, name: str, *subscriptions: str, version: str = MQTT_5, **options: bool
    ) -> AbstractAsyncContextManager[Client]: ...
    async def stop(self, *, keep: bool) -> None: ...
    async def start(self) -> None: ...
    def stall(self) -> None: ...
    def depot(self, key_folder: Path) -> AbstractAsyncContextManager[FarEnd]: ...


def keeper(bed: Bed, name: str, *filters: str, version: str = MQTT_5) -> AbstractAsyncContextManager[Client]:
    """A client whose session stays, and that says itself what it has taken."""
    return bed.client(name, *filters, version=version, persistent=True, manual_ack=True)


# --- the scenes -----------------------------------------------------------------------------------


async def connects(bed: Bed) -> Answers:
    found: Answers = []
    for version in (MQTT_5, MQTT_3_1_1):
        async with bed.client("a", "t", version=version) as a:
            a.transport.connect()
            found.append(await a.next(Up))
    return found


async def wills(bed: Bed) -> Answers:
    """After a cut, after a takeover, never after a goodbye; retained for who comes later."""
    found: Answers = []
    async with bed.client("watcher", "will/+") as watcher:
        await watcher.up()
        for version in (MQTT_5, MQTT_3_1_1):
            async with bed.client("a", version=version) as a, bed.client("a", version=version) as again:
                await a.up(Will("will/a", b"cut"))
                a.transport.abandon()
                found.append(await watcher.heard(1))
                await a.up(Will("will/a", b"taken over"))
                await again.up(Will("will/a", b"not said"))
                found.append(await watcher.heard(1))
                await a.next(Down)
        async with bed.client("b") as b:
            found.append(await b.up(Will("will/b", b"not said")))
        async with bed.client("b") as b:
            await b.up()
            found.append(await b.say("will/b", b"fence"))
        found.append(await watcher.until_fence())
    async with bed.client("later", "will/#") as later:
        await later.up()
        found.append(await later.heard(1))
    return found


async def retained(bed: Bed) -> Answers:
    found: Answers = []
    async with bed.client("a") as a, bed.client("early", "r/#") as early, bed.client("late", "r/#") as late:
        await a.up()
        await early.up()
        found.append(await a.say("r/1", b"old", b"new", retain=True))
        found.append(await a.say("r/2", b"gone", b"", retain=True))
        found.append(await a.say("r/3", b"not kept"))
        found.append(await early.heard(5))
        for _ in range(2):
            await late.up()
            await a.say("r", b"fence")
            found.append(await late.until_fence())
    return found


async def flow(bed: Bed) -> Answers:
    """The codes of PUBACKs with subscribers and without, in both versions, and the order of messages."""
    found: Answers = []
    async with bed.client("reader", "up/+/x", "down/#") as reader:
        await reader.up()
        for version in (MQTT_5, MQTT_3_1_1):
            async with bed.client("writer", version=version) as writer:
                await writer.up()
                for topic in ("up/1/x", "up/1/y", "up/1", "up/1/x/z", "down", "down/a/b", "else"):
                    found.append((topic, await writer.say(topic, b"%d" % len(found))))
                for number in range(60):
                    writer.transport.publish(number, "up/2/x", b"%d" % number)
                codes = [await writer.next(Confirmed) for _ in range(60)]
                found.append(sorted((c.token, c.code) for c in codes))
                await writer.say("down", b"fence")
                found.append(await reader.until_fence())
    return found


async def sessions(bed: Bed) -> Answers:
    """What was not confirmed comes again, in order and first; a clean start forgets all of it."""
    found: Answers = []
    for version in (MQTT_5, MQTT_3_1_1):
        async with (
            bed.client("writer") as writer,
            bed.client("watcher", "gone") as watcher,
            keeper(bed, "depot", "up/#", version=version) as depot_,
        ):
            await writer.up()
            await watcher.up()
            await depot_.up(Will("gone", b"1"))
            found.append(await writer.say("up/a", b"0", b"1", b"2"))
            first, *_ = [await depot_.got() for _ in range(3)]
            depot_.transport.confirm(first)
            await depot_.settle()
            depot_.transport.abandon()
            await watcher.heard(1)
            found.append(await writer.say("up/a", b"3", b"4"))
            depot_.transport.connect()
            again = [await depot_.got() for _ in range(4)]
            found.append([it.payload for it in again])
            await depot_.next(Up)
            depot_.transport.confirm(first)  # of an earlier connection: not sent
            for it in again:
                depot_.transport.confirm(it)
            await depot_.settle()
            await writer.say("up/a", b"fence")
            found.append(await depot_.until_fence())
            await depot_.settle()
        async with bed.client("depot", "up/#", version=version) as clean:
            await clean.up()
            async with bed.client("writer") as writer:
                await writer.up()
                await writer.say("up/a", b"fence")
            found.append(await clean.until_fence())
        async with bed.client("writer") as writer:
            await writer.up()
            found.append(await writer.say("up/a", b"nobody any more"))
    return found


async def queue_limits(bed: Bed) -> Answers:
    """How much the broker keeps for a session that is away, and for one that confirms nothing."""
    found: Answers = []
    payloads = [b"%d" % n for n in range(200)]
    async with bed.client("writer") as writer, bed.client("watcher", "gone") as watcher:
        await writer.up()
        await watcher.up()
        for version in (MQTT_5, MQTT_3_1_1):
            async with keeper(bed, version, "up/#", version=version) as it:
                await it.up(Will("gone", b"1"))
                it.transport.abandon()
                await watcher.heard(1)
                found.append(await writer.say("up/a", *payloads))
                await it.up()
                found.append(await it.confirm_one())
                await writer.say("up/a", b"fence")
                found.append(await it.until_fence())
                await it.settle()
                found.append(await writer.say("up/a", *payloads))
                found.append(await it.confirm_one())
                await writer.say("up/a", b"fence")
                found.append(await it.until_fence())
                await it.settle()
            async with bed.client(version, version=version) as forget:
                await forget.up()
    return found


async def takeover(bed: Bed) -> Answers:
    """A second connection with the same name ends the first, and gets what that had not confirmed."""
    found: Answers = []
    for version in (MQTT_5, MQTT_3_1_1):
        async with (
            bed.client("writer") as writer,
            keeper(bed, "depot", "up/#", version=version) as first,
            keeper(bed, "depot", "up/#", version=version) as second,
        ):
            await writer.up()
            await first.up()
            await writer.say("up/a", b"1")
            await first.got()
            second.transport.connect()
            await first.next(Down)
            it = await second.got()
            second.transport.confirm(it)
            await writer.say("up/a", b"fence")
            found.append((it.payload, await second.until_fence(), first.events.empty()))
        async with bed.client("depot", version=version) as forget:
            await forget.up()
    return found


async def message_limit(bed: Bed) -> Answers:
    """Too large a message is dropped.

    In 3.1.1 its PUBACK looks as ever. In 5.0 it has a code that Mosquitto may not use there (0x95), and paho
    ends the connection for it.
    """
    found: Answers = []
    async with bed.client("reader", "up/#") as reader:
        await reader.up()
        for version in (MQTT_5, MQTT_3_1_1):
            async with bed.client("writer", version=version) as writer:
                found.append(await writer.up())
                found.append(await writer.say("up/a", bytes(100)))
                writer.transport.publish(1, "up/a", bytes(101))
                answer = await writer.events.get()
                found.append("down" if isinstance(answer, Down) else answer)
                await writer.up()
                await writer.say("up/a", b"fence")
            found.append(await reader.until_fence())
    return found


async def packet_limit(bed: Bed) -> Answers:
    """The limit is announced in 5.0 alone; who exceeds it loses the connection, and the message."""
    found: Answers = []
    async with bed.client("reader", "up/#") as reader:
        await reader.up()
        for version in (MQTT_5, MQTT_3_1_1):
            async with bed.client("writer", version=version) as writer:
                found.append(await writer.up())
                found.append(await writer.say("up/a", bytes(900)))
                writer.transport.publish(1, "up/a", bytes(1100))
                await writer.next(Down)
                await writer.up()
                await writer.say("up/a", b"fence")
            found.append(await reader.until_fence())
    return found


async def silence(bed: Bed) -> Answers:
    """Half-open: both ends notice, the broker publishes the will."""
    async with bed.client("watcher", "gone", stalled=False) as watcher, bed.client("a", "t") as a:
        await watcher.up()
        await a.up(Will("gone", b"lost"))
        bed.stall()
        await a.next(Down)
        return await watcher.heard(1)


async def restarts(bed: Bed, *, keep: bool) -> Answers:
    """What a restart leaves of sessions, queues, retained messages and wills."""
    found: Answers = []
    async with (
        bed.client("writer") as writer,
        bed.client("plain", "up/#") as plain,
        keeper(bed, "depot", "up/#", "presence") as depot_,
    ):
        await writer.up(Will("presence", b"lost"))
        await plain.up()
        await depot_.up()
        found.append(await writer.say("presence", b"online", retain=True))
        found.append(await writer.say("up/a", b"1", b"2"))
        held = [await depot_.got() for _ in range(3)]
        depot_.transport.confirm(held[1])
        await depot_.settle()
        await writer.say("up/a", b"3")
        found.append((await depot_.got()).payload)
        await plain.heard(3)
        await bed.stop(keep=keep)
        for client in (writer, plain, depot_):
            await client.next(Down)
        writer.transport.connect()
        await writer.next(Down)
        await bed.start()
        await writer.up()
        found.append(await writer.say("up/a", b"4"))
        await plain.up()
        depot_.transport.connect()
        await depot_.next(Up)
        await writer.say("up/a", b"fence")
        found.append(sorted(await depot_.until_fence(), key=str))
        found.append(await plain.until_fence())
    return found


async def restarts_keeping(bed: Bed) -> Answers:
    return await restarts(bed, keep=True)


async def restarts_forgetting(bed: Bed) -> Answers:
    return await restarts(bed, keep=False)


# --- the depot ------------------------------------------------------------------------------------


@dataclass
class Chain:
    """The queue of a tablet: runs of one block each, the same in every run of the test."""

    runs: list[Run]
    epoch: bytes

    @classmethod
    def make(cls, folder: Path) -> Chain:
        rig = Rig(folder / "queue.db")
        store = rig.open()
        runs = []
        for number in range(8):
            store.append([sample(rig.clock.boot_ns + n, vehicle_mv=number * 10 + n) for n in range(5)])
            run = store.read_batch(Stream.TELEMETRY, number * 5, 1)
            assert run is not None
            runs.append(run)
        epoch = store.epoch
        store.close()
        return cls(runs, epoch)

    def joined(self, first: int, last: int) -> Run:
        runs = self.runs[first : last + 1]
        blocks = tuple(block for run in runs for block in run.blocks)
        return Run(Stream.TELEMETRY, self.epoch, runs[0].before, runs[-1].head, blocks, ())

    def forged(self) -> Run:
        """Another second block, well signed: a second history."""
        raw = bytearray(self.runs[1].blocks[0])
        raw[HEADER_BYTES + 5] ^= 1
        head = Head(10, hashlib.sha256(self.runs[0].head.hash + bytes(raw)).digest())
        return Run(Stream.TELEMETRY, self.epoch, self.runs[0].head, head, (bytes(raw),), ())


def deliveries(key_folder: Path, chain: Chain) -> Callable[[Bed], Awaitable[Answers]]:
    signer = Signer(load_private(key_folder / "devices" / f"{DEVICE}.key"))
    stranger = Signer(bytes([7]) * 32)
    verifier = Verifier(load_public(key_folder / "depot.pub"))
    up = TOPICS.up(Stream.TELEMETRY)

    def presence(state: str) -> bytes:
        heads = {Stream.TELEMETRY: chain.runs[-1].head}
        return encode_presence(Presence(DEVICE, state, BOOT_ID, 1, chain.epoch, heads), signer)

    async def scene(bed: Bed) -> Answers:
        found: Answers = []

        async def acked(run: Run, *, oldest: bool = False) -> None:
            """Send a batch: its PUBACK's code, and all that the depot's ack says."""
            code = await tablet.say(up, encode_batch(run, DEVICE, BOOT_ID, signer, oldest=oldest))
            found.append((code, decode_ack((await tablet.got()).payload, DEVICE, verifier)))

        async def refused(payload: bytes, topic: str = up) -> None:
            """Nothing is answered: the next good batch's ack is the next."""
            found.append(await tablet.say(topic, payload))
            await acked(chain.runs[0])

        async with bed.depot(key_folder) as far_end, bed.client("tablet", TOPICS.ack) as tablet:
            await tablet.up(Will(TOPICS.presence, presence("lost")))
            await acked(chain.runs[0])
            await acked(chain.joined(1, 2))
            await acked(chain.runs[1])  # a second copy
            await acked(chain.joined(2, 3))  # half of it is new
            await acked(chain.runs[6])  # beyond the end
            await refused(encode_batch(chain.forged(), DEVICE, BOOT_ID, signer))
            await refused(encode_batch(chain.runs[4], DEVICE, BOOT_ID, stranger))
            await refused(encode_batch(chain.runs[4], DEVICE, BOOT_ID, signer), TOPICS.up(Stream.STATE))
            await refused(b"noise")
            found.append(await tablet.say(TOPICS.presence, presence("online"), retain=True))
            found.append(decode_ack((await tablet.got()).payload, DEVICE, verifier))
            far_end.restart()  # and it reads the retained presence again
            found.append(decode_ack((await tablet.got()).payload, DEVICE, verifier))
            far_end.back_up()
            await acked(chain.runs[4])
            far_end.restore()
            found.append(decode_ack((await tablet.got()).payload, DEVICE, verifier))
            await acked(chain.runs[5])  # asks for what the backup does not have
            await acked(chain.runs[4])
            await acked(chain.runs[7], oldest=True)  # and 6 is lost for ever
            for sql in (
                "SELECT topic, device, reason, payload FROM quarantine ORDER BY id",
                "SELECT device, stream, epoch, seq, hash, duplicates FROM chain",
                "SELECT last_seq, hash, raw, opened FROM block ORDER BY last_seq",
                "SELECT first_seq, last_seq, hash, reason FROM hole",
                "SELECT seq, boot_ns, kind, body FROM record ORDER BY seq",
                "SELECT seq, statement, signature FROM proof ORDER BY seq",
                "SELECT device, fleet, state, boot_ns, heads FROM presence",
            ):
                found.append(far_end.rows(sql))
        return found

    return scene


# --- the beds -------------------------------------------------------------------------------------


def endpoint(name: str, version: str, port: int) -> Endpoint:
    return Endpoint("127.0.0.1", port, name, keepalive_s=KEEPALIVE_S, versions=(version,))


@asynccontextmanager
async def ended(client: Client) -> AsyncIterator[Client]:
    try:
        yield client
    finally:
        assert await client.transport.close(5.0)


@dataclass
class MosquittoBed:
    """Mosquitto behind a proxy that stalls; ``stalled=False`` makes a client that goes around it."""

    broker: Broker
    proxy: FaultProxy

    def client(
        self, name: str, *subscriptions: str, version: str = MQTT_5, stalled: bool = True, **options: bool
    ) -> AbstractAsyncContextManager[Client]:
        port = self.proxy.port if stalled else self.broker.port
        return ended(Client(MqttTransport, endpoint(name, version, port), *subscriptions, **options))

    async def stop(self, *, keep: bool) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.broker.stop)

    async def start(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.broker.run)

    def stall(self) -> None:
        self.proxy.stall()

    @asynccontextmanager
    async def depot(self, key_folder: Path) -> AsyncIterator[FarEnd]:
        with depot(self.broker.folder / "depot", key_folder, self.broker.port) as process:
            await until(lambda: process.ready)
            copy = process.db.with_name("copy.db")

            @dataclass
            class Operator:
                def restart(self) -> None:
                    process.kill()
                    process.run()

                def back_up(self) -> None:
                    process.rows(f"VACUUM INTO '{copy}'")

                def restore(self) -> None:
                    process.kill()
                    for end in ("", "-wal", "-shm"):
                        process.db.with_name(process.db.name + end).unlink(missing_ok=True)
                    shutil.copy(copy, process.db)
                    process.run()

                def rows(self, sql: str) -> list[Any]:
                    return process.rows(sql)

            yield Operator()


@dataclass
class MemoryBed:
    """The model, in virtual time."""

    broker: MemoryBroker
    network: Network = field(init=False)
    aside: Network = field(init=False)

    def __post_init__(self) -> None:
        self.network = Network(self.broker.loop, self.broker)
        self.aside = Network(self.broker.loop, self.broker)

    def client(
        self, name: str, *subscriptions: str, version: str = MQTT_5, stalled: bool = True, **options: bool
    ) -> AbstractAsyncContextManager[Client]:
        make = memory_transport(self.network if stalled else self.aside)
        return ended(Client(make, endpoint(name, version, 1), *subscriptions, **options))

    async def stop(self, *, keep: bool) -> None:
        self.broker.stop(keep=keep)

    async def start(self) -> None:
        self.broker.start()

    def stall(self) -> None:
        self.network.stall_up = self.network.stall_down = True

    @asynccontextmanager
    async def depot(self, key_folder: Path) -> AsyncIterator[FarEnd]:
        keyring = Keyring(key_folder)
        depot_keys = DepotKeys(keyring.signer(), keyring.verifier, lambda: keyring.opener(1))
        far_end = memory_depot(self.broker.loop, self.broker, depot_keys, random.Random(1))
        with contextlib.closing(far_end):
            await until(lambda: far_end.running)
            yield far_end


def mosquitto_lines(limits: BrokerLimits, *, persistence: bool) -> str:
    return (
        f"max_inflight_messages {limits.inflight}\nmax_queued_messages {limits.queued}\n"
        f"message_size_limit {limits.message_bytes}\n"
        + (f"max_packet_size {limits.packet_bytes}\n" if limits.packet_bytes else "")
        + ("" if persistence else "persistence false\n")
    )


Scene = Callable[[Bed], Awaitable[Answers]]


async def answer(scene: Scene, bed: Bed) -> Answers:
    return await scene(bed)


def on_mosquitto(scene: Scene, folder: Path, limits: BrokerLimits, *, persistence: bool = True) -> Answers:
    async def run(broker: Broker) -> Answers:
        proxy = FaultProxy("127.0.0.1", broker.port, boot_ns)
        await proxy.start()
        try:
            return await scene(MosquittoBed(broker, proxy))
        finally:
            await proxy.close()

    with running("mosquitto", folder, mosquitto_lines(limits, persistence=persistence)) as broker:
        return asyncio.run(run(broker))


def on_model(scene: Scene, limits: BrokerLimits) -> Answers:
    loop = VirtualLoop(Agenda())
    bed = MemoryBed(MemoryBroker(loop, random.Random(1), limits))
    with contextlib.closing(loop):
        return loop.run_until_complete(answer(scene, bed))


@pytest.mark.parametrize(
    ("scene", "limits"),
    [
        (connects, BrokerLimits()),
        (wills, BrokerLimits()),
        (retained, BrokerLimits()),
        (flow, BrokerLimits()),
        (sessions, BrokerLimits()),
        (queue_limits, BrokerLimits(inflight=3, queued=5)),
        (takeover, BrokerLimits()),
        (message_limit, BrokerLimits(message_bytes=100)),
        (packet_limit, BrokerLimits(packet_bytes=1000)),
        (silence, BrokerLimits()),
        (restarts_keeping, BrokerLimits()),
        (restarts_forgetting, BrokerLimits()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_model_answers_as_mosquitto_does(scene: Scene, limits: BrokerLimits, tmp_path: Path) -> None:
    real = on_mosquitto(scene, tmp_path, limits, persistence=scene is not restarts_forgetting)
    assert on_model(scene, limits) == real


def test_the_depot_behind_the_model_answers_as_the_process_behind_mosquitto(tmp_path: Path) -> None:
    scene = deliveries(keys(tmp_path / "keys"), Chain.make(tmp_path))
    real = on_mosquitto(scene, tmp_path, BrokerLimits())
    assert on_model(scene, BrokerLimits()) == real
