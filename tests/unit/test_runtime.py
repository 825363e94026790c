"""The runtime: order of effects around the commit, what waits for it, and one total order of observations."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.core.machine import step
from agent.core.policy import Policy
from agent.core.records import Record
from agent.core.state import State, initial
from agent.core.types import (
    MS,
    SECOND,
    AllowSleep,
    Basis,
    BootNs,
    DeadlineReached,
    Decision,
    DockProof,
    Effect,
    Effects,
    Explain,
    KeepGrant,
    Lock,
    Observation,
    OverrideTaken,
    PermitPresented,
    Posture,
    Release,
    Remembered,
    Scope,
    SleepSignal,
    Started,
    StoreHealth,
    Write,
)
from agent.runtime import INBOX_LIMIT, PROOF_WAIT_S, Runtime
from tests.aio import looped
from tests.core_driver import status

PATIENCE_S = 90.0
REMEMBERED = Remembered(boot_id="boot", tether="restricted", budget_ns=60 * SECOND, decision=7)


@dataclass
class Ledger:
    """Commits that the test ends as it likes."""

    log: list[str]
    commits: list[asyncio.Future[object]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    remembered: Remembered | None = None

    def commit(self, records: Sequence[Record], remember: Remembered | None) -> asyncio.Future[object]:
        self.log.append("commit")
        self.records += records
        self.remembered = remember or self.remembered
        self.commits.append(asyncio.get_running_loop().create_future())
        return self.commits[-1]

    def durable(self) -> None:
        for commit in self.commits:
            if not commit.done():
                commit.set_result(None)

    def fail(self) -> None:
        for commit in self.commits:
            if not commit.done():
                commit.set_exception(OSError("no space left on device"))


@dataclass
class Marker:
    log: list[str]
    held: int | None = None

    def set(self, decision: int, rule: str) -> None:
        self.log.append(f"marker {decision}")
        self.held = decision

    def clear(self, decision: int) -> None:
        if self.held == decision:
            self.log.append(f"marker {decision} cleared")
            self.held = None


@dataclass
class Emergency:
    kept: list[str] = field(default_factory=list)
    forgotten: int = 0

    def keep(self, records: Sequence[Record]) -> None:
        self.kept += [record.kind.name for record in records]

    def forget(self) -> None:
        self.forgotten += 1


class Timer:
    def __init__(self) -> None:
        self.at: list[BootNs | None] = []

    def set(self, at: BootNs | None) -> None:
        self.at.append(at)


class Bench:
    """A runtime with its ledger, marker, timer and a time that stands still unless it is moved."""

    def __init__(self, policy: Policy | None = None, *, watch: Callable[..., None] | None = None) -> None:
        self.policy = policy or Policy()
        self.log: list[str] = []
        self.ran: list[Effect] = []
        self.did = asyncio.Event()
        self.ledger = Ledger(self.log)
        self.marker = Marker(self.log)
        self.emergency = Emergency()
        self.timer = Timer()
        self.now = BootNs(100 * SECOND)
        self.answer: Callable[[Effect], None] = lambda _effect: None
        self.runtime = Runtime(
            initial(self.policy),
            self.policy,
            ledger=self.ledger,
            run=self._run,
            marker=self.marker,
            now=lambda: self.now,
            watchers=[] if watch is None else [watch],
            emergency=self.emergency,
        )
        self.runtime.arm_with(self.timer)

    def _run(self, effect: Effect) -> None:
        self.log.append(type(effect).__name__)
        self.ran.append(effect)
        self.answer(effect)
        self.did.set()

    def start(self, remembered: Remembered | None = REMEMBERED) -> None:
        self.runtime.observe(Started(self.now, "boot", remembered))

    def later(self, ms: int) -> None:
        self.now = BootNs(self.now + ms * MS)

    def proven(self) -> None:
        """Proof and status, held long enough to release."""
        self.runtime.observe(DockProof(self.now, "dock", self.now))
        for _ in range(1 + self.policy.tether.return_ms // 200 + 1):
            self.runtime.observe(status(self.now))
            self.later(200)

    def tethered(self) -> None:
        """Started, docked and released, everything durable, the log empty."""
        self.start()
        self.proven()
        self.ledger.durable()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self.did.clear()
                await self.did.wait()

    async def settled(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.runtime.settle()

    def made(self, kind: type[Effect]) -> list[Effect]:
        return [effect for effect in self.ran if isinstance(effect, kind)]


async def docked(**policy: Any) -> Bench:
    bench = Bench(**policy)
    bench.tethered()
    await bench.settled()
    assert bench.runtime.state.posture is Posture.USABLE
    bench.log.clear()
    bench.ran.clear()
    return bench


# --- order -------------------------------------------------------------------------------------------


@looped
async def test_a_lock_goes_out_after_its_marker_and_before_its_commit() -> None:
    bench = await docked()
    bench.runtime.observe(status(bench.now, seated=False))
    assert bench.log[:2] == ["marker 9", "Lock"]
    assert bench.log.index("Lock") < bench.log.index("commit")


@looped
async def test_a_lock_does_not_wait_for_a_store_that_hangs_or_fails() -> None:
    bench = await docked()
    bench.runtime.observe(status(bench.now, seated=False))
    assert bench.made(Lock)
    bench.ledger.fail()
    await bench.settled()
    assert len(bench.made(Lock)) == 1


@looped
async def test_the_marker_stays_until_the_lock_is_durable() -> None:
    bench = await docked()
    bench.runtime.observe(status(bench.now, seated=False))
    assert bench.marker.held == 9
    bench.ledger.durable()
    await bench.settled()
    assert bench.marker.held is None


@looped
async def test_the_marker_of_a_lock_that_was_refused_by_the_store_stays() -> None:
    bench = await docked()
    bench.runtime.observe(status(bench.now, seated=False))
    bench.ledger.fail()
    await bench.settled()
    assert bench.marker.held == 9


@looped
async def test_a_lock_that_is_durable_already_needs_no_marker() -> None:
    """A restart asks for the lock that stands again; its record is from before."""
    bench = Bench()
    bench.start()
    bench.ledger.durable()
    await bench.settled()
    assert [lock.decision for lock in bench.made(Lock) if isinstance(lock, Lock)] == [7]
    assert bench.marker.held is None


@looped
async def test_a_release_waits_for_the_commit_of_its_own_record() -> None:
    bench = Bench()
    bench.start()
    bench.proven()
    assert not bench.made(Release)
    bench.ledger.durable()
    await bench.settled()
    (release,) = bench.made(Release)
    assert isinstance(release, Release)
    assert (release.decision, release.basis) == (8, Basis.PROOF)
    assert "enforcement.changed" in [record.kind.name for record in bench.ledger.records]
    assert bench.ledger.remembered is not None
    assert bench.ledger.remembered.decision == 8


@looped
async def test_a_sleep_is_allowed_only_after_the_commit() -> None:
    bench = await docked()
    bench.runtime.observe(SleepSignal(bench.now, starting=True))
    assert bench.made(Lock)
    assert not bench.made(AllowSleep)
    bench.ledger.durable()
    await bench.settled()
    assert bench.made(AllowSleep)


# --- a store that fails ------------------------------------------------------------------------------


@looped
async def test_proof_passes_a_store_that_hangs_after_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.runtime.PROOF_WAIT_S", 0.01)
    bench = Bench()
    bench.start()
    bench.proven()
    await bench.until(lambda: bool(bench.made(Release)))
    # Its record is kept beside the store until the store has it.
    assert "enforcement.changed" in bench.emergency.kept
    assert bench.emergency.forgotten == 0
    bench.ledger.durable()
    await asyncio.wait(bench.ledger.commits)
    assert bench.emergency.forgotten == 1


@looped
async def test_proof_passes_a_store_that_refuses_at_once() -> None:
    bench = Bench()
    bench.start()
    bench.proven()
    bench.ledger.fail()
    await bench.settled()
    assert bench.made(Release)
    assert "enforcement.changed" in bench.emergency.kept
    assert bench.emergency.forgotten == 0


@looped
async def test_what_the_store_took_in_time_is_kept_nowhere_else() -> None:
    bench = Bench()
    bench.start()
    bench.proven()
    bench.ledger.durable()
    await bench.settled()
    assert bench.made(Release)
    assert bench.emergency.kept == []


@looped
async def test_a_sleep_passes_a_store_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.runtime.POWER_WAIT_S", 0.01)
    bench = await docked()
    bench.runtime.observe(SleepSignal(bench.now, starting=True))
    await bench.until(lambda: bool(bench.made(AllowSleep)))
    assert bench.marker.held is not None


def granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until grants exist: a core whose releases rest on one."""

    def granting(state: State, obs: Observation, policy: Policy) -> tuple[State, Effects]:
        state, effects = step(state, obs, policy)
        return state, tuple(
            replace(effect, basis=Basis.GRANT) if isinstance(effect, Release) else effect
            for effect in effects
        )

    monkeypatch.setattr("agent.runtime.step", granting)


@looped
async def test_a_grant_never_passes_a_store_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    granted(monkeypatch)
    monkeypatch.setattr("agent.runtime.PROOF_WAIT_S", 0.01)
    bench = Bench()
    bench.start()
    bench.proven()
    bench.ledger.fail()
    await bench.settled()
    assert not bench.made(Release)


@looped
async def test_a_grant_waits_for_a_slow_store_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    granted(monkeypatch)
    monkeypatch.setattr("agent.runtime.PROOF_WAIT_S", 0.001)
    bench = Bench()
    bench.start()
    bench.proven()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.runtime.settle(), 0.05)
    assert not bench.made(Release)
    bench.ledger.durable()
    await bench.settled()
    assert bench.made(Release)


@looped
async def test_a_release_that_a_newer_decision_overtook_is_dropped() -> None:
    bench = Bench()
    bench.start()
    bench.proven()
    bench.runtime.observe(status(bench.now, seated=False))
    bench.ledger.durable()
    await bench.settled()
    assert [lock.decision for lock in bench.made(Lock) if isinstance(lock, Lock)] == [7, 9]
    assert not bench.made(Release)


# --- observations ------------------------------------------------------------------------------------


@looped
async def test_what_an_effect_answers_at_once_comes_after_the_whole_step() -> None:
    """Watchers see one order, and the effects of a step are never torn apart by what they cause."""
    seen: list[str] = []

    def watch(observation: Observation, _state: State, effects: Effects) -> None:
        seen.append(type(observation).__name__)
        seen.extend(type(effect).__name__ for effect in effects if isinstance(effect, Lock))

    bench = await docked(watch=watch)
    seen.clear()

    def answer(effect: Effect) -> None:
        if isinstance(effect, Lock):
            bench.runtime.observe(StoreHealth(bench.now, True, "first"))
            bench.runtime.observe(DeadlineReached(bench.now))
            assert seen == []

    bench.answer = answer
    bench.runtime.observe(status(bench.now, seated=False))
    assert seen == ["DockStatus", "Lock", "StoreHealth", "DeadlineReached"]
    assert bench.log[0] == "marker 9"
    assert bench.log.count("Lock") == 1


@looped
async def test_the_inbox_is_bounded_and_counts_what_it_drops() -> None:
    bench = await docked()

    def flood(effect: Effect) -> None:
        if isinstance(effect, Lock):
            for _ in range(INBOX_LIMIT + 10):
                bench.runtime.observe(StoreHealth(bench.now, True, ""))

    bench.answer = flood
    before = bench.runtime.steps
    bench.runtime.observe(status(bench.now, seated=False))
    assert bench.runtime.dropped == 10
    assert bench.runtime.steps == before + 1 + INBOX_LIMIT


@looped
async def test_a_step_that_raises_does_not_stop_the_next_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await docked()

    def fails(*_: object) -> tuple[State, Effects]:
        raise RuntimeError("a defect")

    monkeypatch.setattr("agent.runtime.step", fails)
    with pytest.raises(RuntimeError):
        bench.runtime.observe(status(bench.now))
    monkeypatch.undo()
    bench.runtime.observe(status(bench.now, seated=False))
    assert bench.made(Lock)


@looped
async def test_the_timer_is_set_to_the_next_deadline_and_only_when_it_changes() -> None:
    bench = await docked()
    bench.timer.at.clear()
    bench.runtime.observe(StoreHealth(bench.now, True, ""))
    bench.runtime.observe(StoreHealth(bench.now, True, ""))
    assert bench.timer.at == []
    bench.runtime.observe(status(bench.now))
    (due,) = bench.timer.at
    assert due is not None
    assert due > bench.now
    bench.now = due
    bench.runtime.deadline()
    assert len(bench.timer.at) == 2


@looped
async def test_a_new_policy_is_in_force_at_once() -> None:
    bench = await docked()
    bench.later(1000)
    assert bench.runtime.state.posture is Posture.USABLE
    strict = replace(bench.policy, tether=replace(bench.policy.tether, status_fresh_ms=700, budget_ms=0))
    bench.runtime.change_policy(strict)
    assert bench.runtime.policy is strict
    assert bench.runtime.state.tether.state.value != "tethered"


@looped
async def test_nothing_to_commit_commits_nothing() -> None:
    bench = await docked()
    bench.runtime.observe(StoreHealth(bench.now, True, ""))
    assert "commit" not in bench.log


@looped
async def test_every_record_of_a_step_is_in_one_commit() -> None:
    bench = await docked()
    bench.ledger.commits.clear()
    bench.ledger.records.clear()
    bench.runtime.observe(status(bench.now, seated=False))
    assert len(bench.ledger.commits) == 1
    kinds = {record.kind.name for record in bench.ledger.records}
    assert {"tether.changed", "enforcement.changed"} <= kinds


def test_what_a_step_writes_is_not_run_as_an_effect() -> None:
    """Records go to the ledger; the rest of a step's effects to the runner."""

    async def scene() -> None:
        bench = await docked()
        bench.runtime.observe(status(bench.now, seated=False))
        assert not bench.made(Write)
        (explain,) = bench.made(Explain)
        assert isinstance(explain, Explain)
        assert isinstance(explain.decision, Decision)
        assert explain.decision.rule == "tether.unseated"

    asyncio.run(scene())


# --- grants ------------------------------------------------------------------------------------------


def restricted(bench: Bench) -> None:
    bench.start(Remembered("boot", "restricted"))
    bench.ledger.durable()


def told(bench: Bench) -> list[bool]:
    return [effect.kept for effect in bench.ran if isinstance(effect, KeepGrant)]


@looped
async def test_a_permit_is_kept_when_it_is_durable_and_not_before() -> None:
    bench = Bench()
    restricted(bench)
    bench.runtime.observe(PermitPresented(bench.now, "id", 1, Scope.ANY, 5))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await bench.runtime.settle()
    assert told(bench) == []
    bench.ledger.durable()
    await bench.settled()
    assert told(bench) == [True]


@looped
async def test_a_store_that_refuses_says_so_of_a_permit_too() -> None:
    bench = Bench()
    restricted(bench)
    bench.runtime.observe(PermitPresented(bench.now, "id", 1, Scope.ANY, 5))
    bench.ledger.fail()
    await bench.settled()
    assert told(bench) == [False]


@looped
async def test_an_override_waits_for_a_slow_store_as_long_as_a_proof_does() -> None:
    bench = Bench()
    restricted(bench)
    begun = asyncio.get_running_loop().time()
    bench.runtime.observe(OverrideTaken(bench.now, 1000))
    await bench.until(lambda: told(bench) == [False])
    assert PROOF_WAIT_S <= asyncio.get_running_loop().time() - begun < PROOF_WAIT_S + PATIENCE_S


@looped
async def test_a_permit_that_waits_for_its_store_does_not_hold_up_a_proof() -> None:
    bench = Bench()
    restricted(bench)
    bench.runtime.observe(PermitPresented(bench.now, "id", 1, Scope.ANY, 5))
    bench.proven()
    await bench.until(lambda: bool(bench.made(Release)))
    assert told(bench) == []
