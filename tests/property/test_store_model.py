"""The store against a model of what it must hold, with restarts, reboots, crashes and acks at any point."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.core.records import Record, Stream
from sync.blocks import Head
from sync.store import MIN_QUOTA, Store
from sync.table import Acked
from tests.store_rig import Rig, alarm, audit, noise, read_all, sample, state

STREAMS = st.sampled_from(list(Stream))


class StoreModel(RuleBasedStateMachine):
    """``written`` is all that a stream was ever given, ``heads`` the heads that a depot could have seen."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.rig = Rig(Path(self.folder.name) / "queue.sqlite", keep_acked_s=30)
        self.rig.quotas = dict.fromkeys(Stream, MIN_QUOTA)
        self.written: dict[Stream, list[Record | None]] = {stream: [] for stream in Stream}
        self.heads: dict[Stream, list[Head]] = {stream: [] for stream in Stream}
        self.acked: dict[Stream, int] = dict.fromkeys(Stream, 0)
        self.remembered: bytes | None = None
        self.store: Store

    @initialize(sealed=st.booleans())
    def open(self, sealed: bool) -> None:
        self.rig.sealed = sealed
        self.store = self.rig.open()

    def make(self, stream: Stream, size: int) -> Record:
        at, text = self.rig.clock.boot_ns, noise(self.rig.random, size)
        if stream is Stream.ALARM:
            return alarm(at, rule=text)
        if stream is Stream.AUDIT:
            return audit(at, text)
        return state(at, text) if stream is Stream.STATE else sample(at, self.rig.random.randrange(20_000))

    @rule(
        streams=st.lists(STREAMS, max_size=6),
        size=st.sampled_from([0, 200, 60_000, 300_000]),
        remember=st.none() | st.binary(max_size=4),
        pause=st.integers(0, 20),
    )
    def append(self, streams: list[Stream], size: int, remember: bytes | None, pause: int) -> None:
        self.rig.clock.advance(pause)
        records = [self.make(stream, size) for stream in streams]
        firsts = self.store.append(records, remember)
        self.remembered = self.remembered if remember is None else remember
        for stream in Stream:
            mine = [record for record in records if record.kind.stream is stream]
            if mine:
                assert firsts[stream] == len(self.written[stream]) + 1
            self.written[stream] += mine
        head = self.store.heads()
        alarms = self.written[Stream.ALARM]
        alarms += [None] * (head[Stream.ALARM].seq - len(alarms))  # the store's own, about shedding
        for stream in Stream:
            self.heads[stream].append(head[stream])

    @rule(stream=STREAMS, data=st.data())
    def acknowledge(self, stream: Stream, data: st.DataObject) -> None:
        if not self.heads[stream]:
            return
        head = data.draw(st.sampled_from(self.heads[stream]))
        came = self.store.acknowledge(stream, self.store.epoch, head)
        assert came is not Acked.MISMATCH
        if came is Acked.ADVANCED:
            assert head.seq > self.acked[stream]
            self.acked[stream] = head.seq

    @rule(stream=STREAMS)
    def a_forged_acknowledgement_moves_nothing(self, stream: Stream) -> None:
        before = self.store.stats()[stream]
        self.store.acknowledge(stream, self.store.epoch, Head(before.head.seq, bytes(32)))
        assert self.store.stats()[stream] == before

    @rule(reboot=st.booleans())
    def restart(self, reboot: bool) -> None:
        self.store.append(())  # writes what acknowledgements changed
        before = self.store.stats()
        self.store.close()
        if reboot:
            self.rig.reboot()
        self.store = self.rig.open()
        assert self.store.stats() == before

    @rule()
    def fail(self) -> None:
        """A commit that fails half way: nothing of it stays."""
        stats = self.store.stats()
        try:
            self.store.append([state(1), alarm(2, decision=2**64)], b"never")
        except ValueError:
            self.acked = {stream: self.store.stats()[stream].acked.seq for stream in Stream}
            assert {s: x.head for s, x in stats.items()} == self.store.heads()
        else:
            raise AssertionError("a number beyond 64 bits was stored")

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.store.remembered == self.remembered
        for stream, stats in self.store.stats().items():
            written = self.written[stream]
            assert stats.head.seq == len(written)
            assert stats.acked.seq == self.acked[stream]
            assert stats.size <= stats.quota
            found = read_all(self.store, stream, after=stats.base.seq, max_bytes=200_000)
            assert found.head == stats.head
            missing = {seq for first, last, _ in found.gaps for seq in range(first, last + 1)}
            assert found.rows.keys() | missing == set(range(stats.base.seq + 1, stats.head.seq + 1))
            assert not found.rows.keys() & missing
            assert stats.base.seq <= stats.acked.seq  # only what the depot has goes without a gap
            for seq, row in found.rows.items():
                record = written[seq - 1]
                if record is None:
                    assert row.kind == "queue.shed"
                else:
                    assert (row.at, row.kind, row.fields) == (record.at, record.kind.name, record.as_dict())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        self.folder.cleanup()


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
