"""The way to the fleet in virtual time: the production uplink and depot, and all that its knobs do to it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from agent.core.records import Stream
from agent.core.types import MINUTE, SECOND, BootNs
from simulator.compose_fleet import (
    Delivery,
    DepotKeys,
    QuickSigner,
    QuickVerifier,
    memory_depot,
    memory_transport,
)
from simulator.faults.knobs import BrokerKnobs, DepotKnobs, NetworkKnobs
from simulator.virtual import transport
from simulator.virtual.agenda import Agenda
from simulator.virtual.broker import BrokerLimits, MemoryBroker
from simulator.virtual.loop import VirtualLoop
from simulator.virtual.network import Network
from sync import mqtt_connection
from sync import session_types as t
from sync.blocks import Head
from sync.depot import ledger
from sync.depot.storage import DepotStorage
from sync.envelope import Run
from sync.errors import RemoteProtocolError
from sync.keys import Signer, Verifier
from sync.mqtt_types import MQTT_5, Endpoint, Received, TransportEvent, Up
from sync.sealing import Opener
from sync.store import Store
from sync.table import Acked, StreamStats
from sync.uplink import Uplink, UplinkConfig
from tests.aio import looped
from tests.store_rig import DEVICE, FLEET_PRIVATE, Rig, sample
from tests.sync_rig import TOPICS

KEY, DEPOT_KEY = Signer(bytes([1]) * 32), Signer(bytes([2]) * 32)
VERIFIERS = {DEVICE: Verifier(KEY.public)}
KEYS = DepotKeys(DEPOT_KEY, VERIFIERS.get, lambda: Opener({1: FLEET_PRIVATE}))
KEEPALIVE_S = 60
HOUR = 60 * MINUTE
T = TypeVar("T")


class Shelf:
    """A store without a thread, as ``sync.uplink.Queue``."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self.store = store
        self._loop = loop

    def fetch(self, stream: Stream, after_seq: int, max_bytes: int) -> asyncio.Future[Run | None]:
        return self._now(self.store.read_batch(stream, after_seq, max_bytes))

    def acknowledge(self, stream: Stream, epoch: bytes, upto: Head) -> asyncio.Future[Acked]:
        return self._now(self.store.acknowledge(stream, epoch, upto))

    def stats(self) -> asyncio.Future[dict[Stream, StreamStats]]:
        return self._now(self.store.stats())

    def epoch(self) -> asyncio.Future[bytes]:
        return self._now(self.store.epoch)

    def _now(self, value: T) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        future.set_result(value)
        return future


class Fleet:
    """A tablet's store and uplink on a loop of its own; network, broker and depot on the world's."""

    def __init__(self, folder: Path, limits: BrokerLimits | None = None) -> None:
        self.agenda = Agenda()
        self.world = VirtualLoop(self.agenda)
        self.broker = MemoryBroker(self.world, random.Random(2), limits)
        self.network = Network(self.world, self.broker)
        self.told: list[Delivery] = []
        self.depot = memory_depot(self.world, self.broker, KEYS, random.Random(3), self.told.append)
        self.rig = Rig(folder / "queue.db", sealed=True)
        self.store = self.rig.open()
        self.reports: list[t.Report] = []
        self.contacts: list[BootNs] = []
        self.made = 0
        self.begin()

    def begin(self) -> None:
        self.tablet = VirtualLoop(self.agenda)
        self.tablet.enter(self._begin)

    def _begin(self) -> None:
        self.uplink = Uplink(
            UplinkConfig(TOPICS, self.rig.boot_id, Endpoint("broker", 1883, DEVICE, keepalive_s=KEEPALIVE_S)),
            Shelf(self.store, self.tablet),
            KEY,
            Verifier(DEPOT_KEY.public),
            lambda: self.agenda.now,
            random.Random(4).random,
            self.reports.append,
            memory_transport(self.network),
            on_contact=lambda: self.contacts.append(BootNs(self.agenda.now)),
        )
        self.uplink.start()

    def commit(self, records: int = 5) -> None:
        """A block of telemetry that says its numbers."""
        at = self.rig.clock.boot_ns = 60 * SECOND + self.agenda.now
        self.store.append([sample(at + n, vehicle_mv=self.made + n) for n in range(records)])
        self.made += records
        heads = {stream: stat.head.seq for stream, stat in self.store.stats().items()}
        self.tablet.enter(self.uplink.notify, heads)

    def run(self, ns: int, *, commit_every_ns: int = 0) -> None:
        until = BootNs(self.agenda.now + ns)
        while commit_every_ns and self.agenda.now + commit_every_ns <= until:
            self.agenda.run_until(BootNs(self.agenda.now + commit_every_ns))
            self.commit()
        self.agenda.run_until(until)

    @property
    def link(self) -> object:
        return self.uplink.status()["link"]

    @property
    def pending(self) -> int:
        return int(str(self.uplink.status()["pending"]))

    @property
    def presence(self) -> str:
        ((state,),) = self.depot.rows("SELECT state FROM presence")
        return str(state)

    def numbers(self) -> list[int]:
        rows = self.depot.rows("SELECT body FROM record ORDER BY chain, seq")
        return [json.loads(body)["vehicle_mv"] for (body,) in rows]

    def check_delivered(self) -> None:
        """Everything is there once, proved and in order, and the tablet knows it."""
        assert self.pending == 0
        assert self.numbers() == list(range(self.made))
        storage = DepotStorage(self.depot.path, vfs="memdb")
        found = ledger.build(storage, VERIFIERS.get)
        storage.close()
        assert found["verified"]
        assert found["quarantined"] == {}
        assert self.depot.rows("SELECT 1 FROM hole") == []

    def close(self) -> None:
        self.tablet.close()
        self.depot.close()
        self.world.close()
        self.store.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    it = Fleet(tmp_path)
    it.run(MINUTE)
    assert it.link == "up"
    yield it
    it.close()


def test_the_parts_have_the_knobs(fleet: Fleet) -> None:
    network: NetworkKnobs = fleet.network
    broker: BrokerKnobs = fleet.broker
    depot: DepotKnobs = fleet.depot
    assert (network.cut, network.stall_up, network.stall_down, network.delay_ns) == (False, False, False, 0)
    assert (broker.lose_puback_permille, broker.duplicate_permille) == (0, 0)
    assert (depot.silent, depot.lose_ack_permille) == (False, 0)


def test_a_signed_word_of_the_depot_is_a_contact_and_the_brokers_own_is_none(fleet: Fleet) -> None:
    """A memory of grants that was lost waits for it (docs/permits.md): a broker alone must not do."""
    assert fleet.contacts, "it answers the tablet's first presence"
    fleet.contacts.clear()
    fleet.depot.silent = True
    fleet.commit()
    fleet.run(MINUTE)
    assert fleet.contacts == [], "the broker took it all, and the depot has not said a word"
    fleet.depot.silent = False
    fleet.commit()
    fleet.run(10 * MINUTE)
    assert fleet.contacts


def test_the_transport_keeps_the_times_of_the_real_one() -> None:
    for name in ("ANSWER_S", "RECEIVE_MAXIMUM", "PACKET_OVERHEAD"):
        assert getattr(transport, name) == getattr(mqtt_connection, name)


def test_without_faults_each_block_arrives_once_and_is_told(fleet: Fleet) -> None:
    fleet.run(10 * MINUTE, commit_every_ns=5 * SECOND)
    fleet.run(MINUTE)
    fleet.check_delivered()
    assert fleet.depot.rows("SELECT sum(duplicates) FROM chain") == [(0,)]
    spans = [(it.first_seq, it.last_seq) for it in fleet.told]
    assert spans == [(n + 1, n + 5) for n in range(0, fleet.made, 5)]
    rows = [seq for it in fleet.told for seq, _ in it.rows or ()]
    assert rows == list(range(1, fleet.made + 1))
    assert fleet.reports == []
    assert fleet.broker.dropped == 0


Turn = Callable[[Fleet], None]


def turn(part: str, knob: str, value: object) -> Turn:
    return lambda fleet: setattr(getattr(fleet, part), knob, value)


FAULTS: dict[str, tuple[Turn, Turn]] = {
    "cut": (turn("network", "cut", True), turn("network", "cut", False)),
    "out of coverage": (turn("network", "covered", False), turn("network", "covered", True)),
    "stall up": (turn("network", "stall_up", True), turn("network", "stall_up", False)),
    "stall down": (turn("network", "stall_down", True), turn("network", "stall_down", False)),
    "delay": (turn("network", "delay_ns", SECOND), turn("network", "delay_ns", 0)),
    "long delay": (turn("network", "delay_ns", 20 * SECOND), turn("network", "delay_ns", 0)),
    "drop": (lambda fleet: fleet.network.drop(), lambda fleet: fleet.network.drop()),
    "PUBACKs lost": (
        turn("broker", "lose_puback_permille", 500), turn("broker", "lose_puback_permille", 0),
    ),
    "duplicates": (turn("broker", "duplicate_permille", 500), turn("broker", "duplicate_permille", 0)),
    "broker restart, kept": (
        lambda fleet: fleet.broker.stop(keep=True), lambda fleet: fleet.broker.start(),
    ),
    "broker restart, forgotten": (
        lambda fleet: fleet.broker.stop(keep=False), lambda fleet: fleet.broker.start(),
    ),
    "silent depot": (turn("depot", "silent", True), turn("depot", "silent", False)),
    "depot restart": (lambda fleet: fleet.depot.restart(), lambda fleet: fleet.depot.restart()),
    "acks lost": (turn("depot", "lose_ack_permille", 500), turn("depot", "lose_ack_permille", 0)),
    "restored depot": (lambda fleet: fleet.depot.back_up(), lambda fleet: fleet.depot.restore()),
    "sleep": (lambda fleet: fleet.tablet.freeze(), lambda fleet: fleet.tablet.thaw()),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_after_any_fault_all_of_it_arrives(fleet: Fleet, name: str) -> None:
    begin, end = FAULTS[name]
    fleet.run(MINUTE, commit_every_ns=5 * SECOND)
    begin(fleet)
    fleet.run(10 * MINUTE, commit_every_ns=5 * SECOND)
    end(fleet)
    fleet.run(10 * MINUTE, commit_every_ns=5 * SECOND)
    fleet.run(3 * HOUR)
    fleet.check_delivered()
    assert fleet.presence == "online"


def test_a_cut_ends_the_connection_at_both_ends_and_refuses_new_ones(fleet: Fleet) -> None:
    fleet.network.cut = True
    fleet.run(SECOND)
    assert fleet.presence == "lost"
    assert fleet.link != "up"
    fleet.run(10 * MINUTE)
    assert fleet.link != "up"
    assert int(str(fleet.uplink.status()["failed_connections"])) > 2


def test_a_stalled_connection_is_given_up_by_both_ends_in_their_time(fleet: Fleet) -> None:
    fleet.network.stall_up = fleet.network.stall_down = True
    fleet.run(59 * SECOND)
    assert [fleet.link, fleet.presence] == ["up", "online"]
    fleet.run(2 * KEEPALIVE_S * SECOND)
    assert fleet.link != "up"
    assert fleet.presence == "lost"


def test_what_a_stall_held_arrives_after_it(fleet: Fleet) -> None:
    fleet.network.stall_up = True
    fleet.commit()
    fleet.run(20 * SECOND)
    assert fleet.numbers() == []
    fleet.network.stall_up = False
    fleet.run(SECOND // 1000)
    fleet.check_delivered()


def test_a_delay_holds_for_each_direction(fleet: Fleet) -> None:
    fleet.network.delay_ns = 2 * SECOND
    fleet.commit()
    fleet.run(2 * SECOND - 1)
    assert fleet.numbers() == []
    fleet.run(1_000_000)
    assert fleet.numbers() == [0, 1, 2, 3, 4]
    assert fleet.pending == 5
    fleet.run(2 * SECOND)
    assert fleet.pending == 0


def test_nothing_overtakes_when_a_delay_ends(fleet: Fleet) -> None:
    fleet.network.delay_ns = 3 * SECOND
    fleet.commit()
    fleet.run(SECOND)
    fleet.network.delay_ns = 0
    fleet.commit()
    fleet.run(3 * SECOND)
    fleet.check_delivered()
    assert fleet.depot.rows("SELECT sum(duplicates) FROM chain") == [(0,)]


def test_messages_for_a_silent_depot_wait_at_the_broker(fleet: Fleet) -> None:
    fleet.depot.silent = True
    fleet.run(20 * SECOND, commit_every_ns=5 * SECOND)
    assert fleet.numbers() == []
    fleet.network.cut = True  # so that it is the broker that has them
    fleet.depot.silent = False
    fleet.run(SECOND)
    assert fleet.numbers() == list(range(20))


def test_a_broker_without_room_drops_and_the_tablet_sends_again(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, BrokerLimits(queued=3))
    fleet.run(MINUTE)
    fleet.depot.silent = True
    fleet.run(10 * SECOND, commit_every_ns=SECOND)
    assert fleet.broker.dropped > 0
    fleet.depot.silent = False
    fleet.run(HOUR)
    fleet.check_delivered()
    fleet.close()


@pytest.mark.parametrize(
    "limits",
    [
        BrokerLimits(packet_bytes=3000),
        BrokerLimits(message_bytes=3000, versions=("3.1.1",)),
        BrokerLimits(packet_bytes=3000, versions=("3.1.1",)),
        BrokerLimits(message_bytes=3000),
    ],
)
def test_batches_become_as_small_as_the_broker_wants_them(tmp_path: Path, limits: BrokerLimits) -> None:
    fleet = Fleet(tmp_path, limits)
    fleet.broker.stop(keep=True)
    fleet.run(MINUTE, commit_every_ns=SECOND)
    fleet.broker.start()
    fleet.run(6 * HOUR)
    left = fleet.pending
    fleet.close()
    assert left == 0


def test_a_duplicated_message_is_stored_once(fleet: Fleet) -> None:
    fleet.broker.duplicate_permille = 1000
    fleet.run(MINUTE, commit_every_ns=5 * SECOND)
    fleet.run(MINUTE)
    fleet.check_delivered()
    assert fleet.depot.rows("SELECT sum(duplicates) FROM chain") == [(fleet.made,)]


def test_a_restored_depot_asks_for_what_came_since(fleet: Fleet) -> None:
    fleet.run(MINUTE, commit_every_ns=5 * SECOND)
    fleet.depot.back_up()
    before = fleet.numbers()
    fleet.run(MINUTE, commit_every_ns=5 * SECOND)
    fleet.run(MINUTE)
    fleet.depot.restore()
    assert fleet.numbers() == before
    fleet.run(MINUTE)
    fleet.commit()
    fleet.run(MINUTE)
    fleet.check_delivered()


def test_a_sleeping_tablet_is_declared_lost_and_comes_back(fleet: Fleet) -> None:
    fleet.tablet.freeze()
    fleet.run(2 * KEEPALIVE_S * SECOND)
    assert fleet.presence == "lost"
    fleet.tablet.thaw()
    fleet.run(MINUTE)
    assert fleet.presence == "online"


def test_the_broker_learns_of_a_killed_process_at_once_and_of_a_power_cut_by_its_silence(
    fleet: Fleet,
) -> None:
    fleet.tablet.kill()
    fleet.network.hang_up(fleet.tablet)
    fleet.run(SECOND)
    assert fleet.presence == "lost"
    fleet.begin()
    fleet.run(MINUTE)
    assert fleet.presence == "online"
    fleet.tablet.kill()
    fleet.network.vanish(fleet.tablet)
    fleet.run(MINUTE // 2)
    assert fleet.presence == "online"
    fleet.run(2 * KEEPALIVE_S * SECOND)
    assert fleet.presence == "lost"


def test_quick_signatures_hold_for_one_key_one_purpose_and_one_text() -> None:
    signature = QuickSigner(bytes(32)).sign("ivma-ack/1", b"text")
    QuickVerifier(bytes(32)).verify("ivma-ack/1", b"text", signature)
    for key, label, text in ((b"k" * 32, "ivma-ack/1", b"text"), (bytes(32), "ivma-batch/1", b"text"),
                             (bytes(32), "ivma-ack/1", b"test")):  # fmt: skip
        with pytest.raises(RemoteProtocolError):
            QuickVerifier(key).verify(label, text, signature)


@looped
async def test_it_runs_on_an_ordinary_loop() -> None:
    loop = asyncio.get_running_loop()
    broker = MemoryBroker(loop, random.Random(1))
    events: asyncio.Queue[TransportEvent] = asyncio.Queue()
    make = memory_transport(Network(loop, broker))
    client = make(Endpoint("broker", 1883, "a"), ["t/#"], events.put_nowait, loop)
    client.connect()
    assert await events.get() == Up(MQTT_5, None)
    client.publish(1, "t/1", b"x")
    assert await events.get() == Received("t/1", b"x", 1, 1)
    assert await client.close(1.0)
