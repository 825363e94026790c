"""The recorder: what it hands over and when, what it leaves out, and how one can begin to read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import trace_format
from agent.core.machine import step
from agent.core.policy import Policy
from agent.core.state import initial
from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CanSignal,
    DeadlineReached,
    KeyPosition,
    LockOutcome,
    Observation,
    SignalKind,
    Started,
)
from agent.replay import replay
from agent.trace import BATCH_BYTES, BATCH_ENTRIES, BATCH_NS, Batch, Recorder
from agent.trace_format import Gap, Head, Policed, Step, Wire, pack, read
from tests.core_driver import status

COMPRESS = zstandard.ZstdCompressor().compress


class Shelf:
    """Keeps batches; ``full`` loses them, as a disk that is full does."""

    def __init__(self) -> None:
        self.fresh = True
        self.lost = 0
        self.full = False
        self.batches: list[Batch] = []
        self.missing = 0

    def put(self, batch: Batch) -> None:
        if self.full:
            self.lost += len(batch.entries)
            self.missing += len(batch.entries)
            return
        gap = [Gap(self.missing)] if self.missing else []
        self.missing = 0
        self.batches.append(Batch([*gap, *batch.entries], batch.begins))
        self.fresh = False

    def entries(self) -> list[Any]:
        return [entry for batch in self.batches for entry in read(pack(batch.entries, COMPRESS)[0])]


class Tablet:
    """A core whose steps are recorded."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.policy = Policy()
        self.state = initial(self.policy)
        self.recorder = Recorder(self.shelf, lambda: BootNs(5), lambda: 6)
        self.recorder.begin({"version": "1"}, lambda: self.policy)

    def see(self, observation: Observation) -> None:
        self.state, effects = step(self.state, observation, self.policy)
        self.recorder.watch(observation, self.state, effects)

    def started(self) -> Tablet:
        self.see(Started(BootNs(SECOND), "boot", None))
        return self

    def steps(self) -> list[Step]:
        return [entry for entry in self.shelf.entries() if isinstance(entry, Step)]


def test_a_run_begins_with_who_it_is_and_no_state() -> None:
    head = Tablet().started().shelf.entries()[0]
    assert isinstance(head, Head)
    assert (head.identity, head.at, head.wall_ns, head.state) == ({"version": "1"}, 5, 6, None)
    assert trace_format.policy(head) == Policy()


def test_what_locks_is_handed_over_at_once() -> None:
    tablet = Tablet().started()  # locks
    assert [step.kind for step in tablet.steps()] == ["Started"]


def test_the_rest_goes_out_by_age() -> None:
    tablet = Tablet().started()
    for at in range(2 * SECOND, 2 * SECOND + BATCH_NS, 200 * MS):
        tablet.see(DeadlineReached(BootNs(at)))
    assert len(tablet.shelf.batches) == 1
    tablet.see(DeadlineReached(BootNs(2 * SECOND + BATCH_NS)))
    assert len(tablet.shelf.batches) == 2


def test_or_by_size() -> None:
    tablet = Tablet().started()
    note = tablet.recorder.tap("dock")
    for _ in range(BATCH_BYTES // 1000 + 1):
        note("in", BootNs(SECOND), bytes(1000))
    assert len(tablet.shelf.batches) == 2
    assert isinstance(tablet.shelf.entries()[-1], Wire)


@pytest.mark.parametrize("kind", ["step", "wire"])
def test_or_by_number(kind: str) -> None:
    tablet = Tablet().started()
    note = tablet.recorder.tap("dock")
    for _ in range(BATCH_ENTRIES):
        if kind == "step":
            tablet.see(DeadlineReached(BootNs(SECOND)))
        else:
            note("timer", BootNs(SECOND), None)
    assert [len(batch.entries) for batch in tablet.shelf.batches[1:]] == [BATCH_ENTRIES]


def test_a_new_segment_begins_with_the_state_that_its_first_step_met() -> None:
    tablet = Tablet().started()
    tablet.see(status(2 * SECOND))
    tablet.recorder.flush()
    before = tablet.state
    tablet.shelf.fresh = True
    tablet.see(status(2 * SECOND + 200 * MS))
    tablet.recorder.flush()
    heads = [entry for entry in tablet.shelf.entries() if isinstance(entry, Head)]
    assert tablet.shelf.batches[-1].begins
    assert trace_format.state(heads[-1]) == before


@pytest.mark.parametrize("within_a_batch", [True, False])
def test_another_policy_is_noted_before_the_step_that_it_decides(within_a_batch: bool) -> None:
    tablet = Tablet().started()
    tablet.see(status(2 * SECOND))
    if not within_a_batch:
        tablet.recorder.flush()
    tablet.policy = replace(Policy(), tether=replace(Policy().tether, return_ms=0))
    tablet.see(DeadlineReached(BootNs(3 * SECOND)))
    tablet.recorder.flush()
    *_, policed, last = tablet.shelf.entries()
    assert isinstance(policed, Policed)
    assert trace_format.policy(policed) == tablet.policy
    assert last.kind == "DeadlineReached"
    assert not replay(tablet.shelf.entries()).differences


def test_what_was_lost_is_a_gap_after_which_one_can_read_on() -> None:
    tablet = Tablet().started()
    tablet.shelf.full = True
    tablet.see(status(2 * SECOND))
    tablet.recorder.flush()
    tablet.shelf.full = False
    tablet.see(status(2 * SECOND + 200 * MS))
    tablet.recorder.flush()
    _, _, gap, head, _ = tablet.shelf.entries()
    assert isinstance(gap, Gap)
    assert isinstance(head, Head)
    outcome = replay(tablet.shelf.entries())
    assert (outcome.gaps, outcome.skipped, outcome.steps, outcome.differences) == (1, 0, 2, [])


def test_what_nothing_can_hold_ends_nothing_and_one_can_read_on_after_it() -> None:
    tablet = Tablet().started()
    tablet.see(LockOutcome(BootNs(2 * SECOND), 1, "logind", True, 5, "no UTF-8: \udcff"))
    tablet.recorder.flush()
    tablet.shelf.fresh = True  # the ring sees it when it encodes
    tablet.see(status(3 * SECOND))
    tablet.recorder.flush()
    outcome = replay(tablet.shelf.entries())
    assert (outcome.gaps, outcome.steps, outcome.differences) == (1, 2, [])


def test_the_road_speed_is_left_out() -> None:
    tablet = Tablet().started()
    tablet.see(CanSignal(BootNs(2 * SECOND), "bus", SignalKind.SPEED, 1130))
    tablet.recorder.flush()
    assert tablet.steps()[-1].observation["value"] == 0


@given(value=st.one_of(st.integers(0, 3000), st.booleans(), st.sampled_from(KeyPosition)))
@settings(max_examples=30, deadline=None)
def test_it_decides_nothing_so_that_a_replay_without_it_is_the_same(value: int | bool | KeyPosition) -> None:
    tablet = Tablet().started()
    with_it, without = (
        step(tablet.state, CanSignal(BootNs(9 * SECOND), "bus", SignalKind.SPEED, each), tablet.policy)
        for each in (value, 0)
    )
    assert with_it == without


def test_no_text_is_kept_that_nobody_has_looked_at() -> None:
    """A new text field may be about a person: look, then add it here, or leave it out of the trace."""
    looked_at = {
        "Started.boot_id", "DockLinkUp.dock", "DockLinkLost.dock", "DockIdent.dock", "DockVersion.dock",
        "DockIdent.serial", "DockIdent.vehicle_id", "DockIdent.model", "DockProof.dock", "DockForeign.dock",
        "DockStatus.dock", "DockHint.dock", "DockHint.detail", "SleepSignal.reason",
        "DockCommandDone.dock", "DockCommandDone.command", "CanSignal.bus", "CanBus.bus",
        "LockOutcome.action", "LockOutcome.detail", "UsedWhileLocked.detail",
        "PowerOutcome.detail", "StoreHealth.detail", "GuardState.detail", "GuardLocked.rule",
        "StoreRenewed.detail",
        # Ids of documents are random; a challenge is on the screen; no answer is in an observation.
        "PermitPresented.id", "OverrideRefilled.id", "CodeRequested.challenge", "GrantsRevoked.by",
        "DocumentRefused.reason", "DocumentRefused.detail",
    }  # fmt: skip
    text = {
        f"{name}.{field.name}"
        for name, kind in trace_format.OBSERVATIONS.items()
        for field in kind.__dataclass_fields__.values()
        if field.type == "str"
    }
    assert text == looked_at
