"""What the depot takes, asks for again, and puts in quarantine."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.records import Stream
from sync.blocks import HEADER_BYTES, Head, genesis
from sync.depot import ledger
from sync.depot.intake import NOT_HELD, Intake
from sync.depot.storage import DepotStorage
from sync.envelope import Ack, Presence, Run, encode_batch, encode_presence
from sync.errors import StoreError
from sync.keys import Signer, Verifier
from sync.sealing import Opener
from sync.topics import Topics
from tests.store_rig import DEVICE, FLEET_PRIVATE, Rig, sample

KEY, OTHER_KEY = Signer(bytes([1]) * 32), Signer(bytes([2]) * 32)
TOPICS = Topics("met", DEVICE)
UP = TOPICS.up(Stream.TELEMETRY)
BOOT = bytes(16)


@dataclass
class Far:
    """A depot's storage and intake, and a tablet's store with some blocks in it."""

    storage: DepotStorage
    intake: Intake
    rig: Rig
    epoch: bytes
    runs: list[Run]  # one block each, in order

    def take(self, payload: bytes, topic: str = UP, *, old: bool = False) -> list[Ack]:
        with self.storage.transaction():
            return [reply.ack for reply in self.intake.take(topic, payload, old=old)]

    def send(self, run: Run, *, oldest: bool = False) -> Ack:
        (ack,) = self.take(encode_batch(run, DEVICE, BOOT, KEY, oldest=oldest))
        return ack

    def refused(self, payload: bytes, topic: str = UP) -> str:
        """The reason in quarantine after a message that gets no reply and changes no chain."""
        before = [chain.head for chain in self.storage.chains()]
        assert self.take(payload, topic) == []
        assert [chain.head for chain in self.storage.chains()] == before
        row = self.storage._db.execute("SELECT reason, payload FROM quarantine ORDER BY id DESC").fetchone()
        assert row[1] == payload
        return str(row[0])

    def entry(self) -> ledger.ChainEntry:
        found = ledger.build(self.storage, verifiers)
        (entry,) = found["devices"][DEVICE]["streams"]["telemetry"]
        return entry


def verifiers(device: str) -> Verifier | None:
    return {DEVICE: Verifier(KEY.public), "tablet-2": Verifier(OTHER_KEY.public)}.get(device)


def joined(runs: list[Run]) -> Run:
    first, last = runs[0], runs[-1]
    blocks = tuple(block for run in runs for block in run.blocks)
    segments = tuple({s.id: s for run in runs for s in run.segments}.values())
    return Run(first.stream, first.epoch, first.before, last.head, blocks, segments)


def far_end(folder: Path, blocks: int = 6) -> Far:
    rig = Rig(folder / "queue.db", sealed=True)
    store = rig.open()
    runs = []
    for number in range(blocks):
        store.append([sample(rig.clock.boot_ns + n, vehicle_mv=number * 10 + n) for n in range(10)])
        run = store.read_batch(Stream.TELEMETRY, number * 10, 1)
        assert run is not None
        runs.append(run)
    epoch = store.epoch
    store.close()
    storage = DepotStorage(folder / "depot.db")
    return Far(storage, Intake(storage, verifiers, Opener({1: FLEET_PRIVATE})), rig, epoch, runs)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    it = far_end(tmp_path)
    yield it
    it.storage.close()


def test_a_batch_is_stored_opened_and_acknowledged_with_its_head(far: Far) -> None:
    ack = far.send(joined(far.runs[:3]))
    assert ack == Ack(DEVICE, Stream.TELEMETRY, far.epoch, BOOT, far.runs[2].head)
    entry = far.entry()
    assert (entry["chain"], entry["last_seq"], entry["records"], entry["signed_to"]) == (
        "verified", 30, 30, 30,
    )  # fmt: skip


def test_a_second_copy_changes_nothing_and_is_acknowledged(far: Far) -> None:
    far.send(joined(far.runs[:3]))
    assert far.send(far.runs[0]).head == far.runs[2].head
    assert far.send(joined(far.runs[1:5])).head == far.runs[4].head
    assert (far.entry()["records"], far.entry()["duplicates_dropped"]) == (50, 30)


def test_a_batch_beyond_the_end_is_not_stored_and_what_is_missing_is_asked_for(far: Far) -> None:
    assert far.send(far.runs[2]) == Ack(
        DEVICE, Stream.TELEMETRY, far.epoch, BOOT, genesis(DEVICE, Stream.TELEMETRY, far.epoch), again=True
    )
    far.send(far.runs[0])
    ack = far.send(far.runs[2])
    assert (ack.head, ack.again) == (far.runs[0].head, True)
    assert far.entry()["records"] == 10


def test_what_the_tablet_does_not_hold_any_more_becomes_a_gap_with_its_reason(far: Far) -> None:
    far.send(far.runs[0])
    ack = far.send(far.runs[3], oldest=True)
    assert (ack.head, ack.again) == (far.runs[3].head, False)
    entry = far.entry()
    assert entry["gaps"] == [{"first_seq": 11, "last_seq": 30, "reason": NOT_HELD}]
    assert entry["chain"] == "verified"


def test_a_wrong_key_a_wrong_topic_and_an_unknown_device_are_refused(far: Far) -> None:
    good = encode_batch(far.runs[0], DEVICE, BOOT, KEY)
    assert far.refused(encode_batch(far.runs[0], DEVICE, BOOT, OTHER_KEY)) == "signature"
    assert far.refused(good, "ivma/1/met/tablet-2/up/telemetry") == "signature"
    assert far.refused(encode_batch(far.runs[0], DEVICE, BOOT, OTHER_KEY),
                       "ivma/1/met/tablet-2/up/telemetry") == "device"  # fmt: skip
    assert far.refused(good, TOPICS.up(Stream.ALARM)) == "stream"
    assert far.refused(good, "ivma/1/met/tablet-9/up/telemetry") == "unknown"
    assert far.refused(good, "ivma/1/met/../up/telemetry") == "topic"
    assert far.refused(b"") == "format"
    far.send(far.runs[0])
    assert far.refused(encode_batch(far.runs[1], DEVICE, BOOT, KEY),
                       Topics("kent", DEVICE).up(Stream.TELEMETRY)) == "fleet"  # fmt: skip


def test_any_altered_byte_is_refused(far: Far) -> None:
    good = encode_batch(far.runs[0], DEVICE, BOOT, KEY)
    for place in random.Random(1).sample(range(len(good)), 60):
        bad = bytearray(good)
        bad[place] ^= 0x10
        assert far.take(bytes(bad)) == []
    assert far.storage.chains() == []
    far.send(far.runs[0])


def test_a_second_history_signed_by_the_same_device_is_an_alarm_and_not_acknowledged(far: Far) -> None:
    far.send(joined(far.runs[:2]))
    raw = bytearray(far.runs[1].blocks[0])
    raw[HEADER_BYTES + 5] ^= 1
    forged = Head(20, hashlib.sha256(far.runs[0].head.hash + bytes(raw)).digest())
    other = Run(Stream.TELEMETRY, far.epoch, far.runs[0].head, forged, (bytes(raw),), far.runs[1].segments)
    assert far.refused(encode_batch(other, DEVICE, BOOT, KEY)) == "conflict"
    elsewhere = Run(Stream.TELEMETRY, far.epoch, Head(20, bytes(32)), far.runs[2].head, (), ())
    assert far.refused(encode_batch(elsewhere, DEVICE, BOOT, KEY)) == "batch"
    assert far.send(far.runs[2]).head == far.runs[2].head


def test_a_block_that_cannot_be_opened_is_kept_and_the_stream_goes_on(tmp_path: Path) -> None:
    far = far_end(tmp_path)
    far.intake = Intake(far.storage, verifiers, None)
    assert far.send(joined(far.runs)).head == far.runs[-1].head
    entry = far.entry()
    assert (entry["records"], entry["sealed_blocks"], entry["chain"]) == (0, 6, "verified")
    far.storage.close()


def test_gaps_of_the_tablet_carry_the_chain_and_their_reasons(tmp_path: Path) -> None:
    """Also where the depot had taken what was thinned after that."""
    rig = Rig(tmp_path / "queue.db")
    rig.quotas[Stream.TELEMETRY] = 2 * 512 * 1024
    store = rig.open()
    source = random.Random(1)

    def fill(blocks: int) -> Run:
        for _ in range(blocks):
            store.append([sample(source.randrange(2**62), source.randrange(2**62)) for _ in range(2000)])
        run = store.read_batch(Stream.TELEMETRY, 0, 2_000_000)
        assert run is not None
        return run

    storage = DepotStorage(tmp_path / "depot.db")
    far = Far(storage, Intake(storage, verifiers), rig, store.epoch, [])
    for blocks, reasons in ((2, set()), (31, {"thinned"}), (40, {"thinned", "quota"})):
        run = fill(blocks)
        assert far.send(run).head == run.head
        assert {gap["reason"] for gap in far.entry()["gaps"]} <= reasons
        assert far.entry()["chain"] == "verified"
    other = DepotStorage(tmp_path / "other.db")
    far = Far(other, Intake(other, verifiers), rig, store.epoch, [])
    assert far.send(run).head == run.head
    assert far.entry()["chain"] == "verified"
    gaps = far.entry()["gaps"]
    assert (gaps[0]["first_seq"], gaps[0]["reason"]) == (1, "quota")
    assert {gap["reason"] for gap in gaps[1:]} == {"thinned"}
    other.close()
    store.close()
    storage.close()


def test_presence_tells_a_tablet_where_its_streams_stand(far: Far) -> None:
    heads = {Stream.TELEMETRY: far.runs[-1].head, Stream.ALARM: Head(3, bytes(32))}
    born = encode_presence(Presence(DEVICE, "online", BOOT, 1, far.epoch, heads), KEY)
    assert far.take(born, TOPICS.presence) == []
    assert {(a.stream, a.head.seq, a.again) for a in far.take(born, TOPICS.presence, old=True)} == {
        (Stream.TELEMETRY, 0, True), (Stream.ALARM, 0, True),
    }  # fmt: skip
    far.send(joined(far.runs[:4]))
    (ack,) = far.take(born, TOPICS.presence)
    assert (ack.head, ack.again) == (far.runs[3].head, False)
    assert far.entry()["missing_tail"] == 20
    found = ledger.build(far.storage, verifiers)
    assert found["devices"][DEVICE]["streams"]["alarm"][0]["missing_tail"] == 3
    lost = encode_presence(Presence(DEVICE, "lost", BOOT, 1, far.epoch, heads), KEY)
    assert far.take(lost, TOPICS.presence) == []
    assert far.refused(encode_presence(Presence(DEVICE, "online", BOOT, 1, far.epoch, heads), OTHER_KEY),
                       TOPICS.presence) == "signature"  # fmt: skip


def test_the_ledger_finds_what_was_changed_in_the_database(far: Far) -> None:
    far.send(joined(far.runs[:2]))
    far.send(joined(far.runs[2:4]))
    assert ledger.build(far.storage, verifiers)["verified"]
    changes = {
        "UPDATE block SET raw = CAST(substr(raw, 1, 99) || x'00' AS BLOB) WHERE last_seq = 20":
            "broken at 20",
        "DELETE FROM block WHERE last_seq = 20": "broken after 10",
        "DELETE FROM block WHERE last_seq = 40": "broken at 30",
        "UPDATE proof SET statement = (SELECT statement FROM proof WHERE seq = 20), signature = "
        "(SELECT signature FROM proof WHERE seq = 20) WHERE seq = 40": "broken at 40",
        "UPDATE proof SET signature = zeroblob(64) WHERE seq = 20": "broken after 20",
    }  # fmt: skip
    for change, verdict in changes.items():
        far.storage._db.execute("BEGIN")
        far.storage._db.execute(change)
        found = ledger._build(far.storage, verifiers, None)
        assert not found["verified"]
        assert found["devices"][DEVICE]["streams"]["telemetry"][0]["chain"].startswith(verdict)
        far.storage._db.execute("ROLLBACK")


def test_nothing_of_a_failed_commit_is_kept(far: Far) -> None:
    far.send(far.runs[0])
    far.storage._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError), far.storage.transaction():
        far.intake.take(UP, encode_batch(far.runs[1], DEVICE, BOOT, KEY))
    far.storage._db.execute("PRAGMA query_only = OFF")
    assert far.storage.chains()[0].head == far.runs[0].head
    assert far.send(far.runs[1]).head == far.runs[1].head


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_and_repetition_of_batches_gives_one_chain(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever arrives, the depot holds a prefix, each record once; and at the end of it all, everything."""
    far = far_end(tmp_path_factory.mktemp("far"), blocks=5)
    spans = st.tuples(st.integers(0, 4), st.integers(0, 4)).map(sorted)
    for first, last in [*data.draw(st.lists(spans, max_size=12)), (0, 4)]:
        ack = far.send(joined(far.runs[first : last + 1]))
        rows = far.storage._db.execute("SELECT seq FROM record ORDER BY seq").fetchall()
        assert [seq for (seq,) in rows] == list(range(1, ack.head.seq + 1))
    assert ack.head == far.runs[4].head
    assert far.entry()["chain"] == "verified"
    far.storage.close()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    topic=st.sampled_from([UP, TOPICS.presence, "ivma/1/a/b/up/state", "x", ""]) | st.text(max_size=40),
    payload=st.binary(max_size=300),
)
def test_any_message_is_taken_or_refused(topic: str, payload: bytes, shared: Intake) -> None:
    assert shared.take(topic, payload) == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intake]:
    storage = DepotStorage(tmp_path_factory.mktemp("shared") / "depot.db")
    yield Intake(storage, verifiers)
    storage.close()


def test_a_salvaged_queue_sends_on_and_no_record_is_there_twice(far: Far) -> None:
    """The depot had more than the tablet had heard of: the same blocks come in the chain of the new file."""
    for run in far.runs[:4]:
        far.send(run)
    with far.rig.path.open("r+b") as file:
        file.write(bytes(1024))
    store = far.rig.open()
    assert store.damaged is not None
    store.append([sample(far.rig.clock.boot_ns + 99)])
    whole = store.read_batch(Stream.TELEMETRY, 0, 1_000_000)
    assert whole is not None
    assert far.send(whole).head == store.heads()[Stream.TELEMETRY]
    store.close()
    found = ledger.build(far.storage, verifiers)
    old, new = found["devices"][DEVICE]["streams"]["telemetry"]
    assert found["verified"]
    assert (old["last_seq"], old["records"]) == (40, 40)
    assert (new["last_seq"], new["records"], new["duplicates_dropped"], new["gaps"]) == (61, 21, 40, [])
    seqs = [seq for (seq,) in far.storage._db.execute("SELECT seq FROM record ORDER BY seq")]
    assert seqs == list(range(1, 62))
