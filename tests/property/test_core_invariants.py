"""The invariants of the behaviour, over any sequence of observations, restarts and silences.

What usable may rest on is judged by a model of its own: it looks at the observations, not at the state.
"""

from __future__ import annotations

import ast
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import agent.core
from agent.core.catalogue import ENFORCEMENT_CHANGED
from agent.core.machine import last_words, next_deadline, step
from agent.core.policy import HintUse, IgnitionPolicy, Policy, PowerPolicy, TetherPolicy
from agent.core.state import IN_USE, IgnitionState, PowerMode, TetherState, initial
from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    BusState,
    CanBus,
    CanSignal,
    CodeAnswered,
    CodeRequested,
    CommandOutcome,
    DeadlineReached,
    DepotContact,
    DockCommandDone,
    DockFault,
    DockForeign,
    DockHint,
    DockIdent,
    DockLinkLost,
    DockLinkUp,
    DockProof,
    DockStatus,
    DockVersion,
    DocumentRefused,
    Drained,
    Effects,
    Explain,
    ForeignReason,
    GrantKept,
    GrantsRevoked,
    GuardLocked,
    GuardState,
    HintKind,
    KeyPosition,
    LinkLoss,
    Lock,
    LockOrdered,
    LockOutcome,
    MemoryFound,
    Observation,
    OverrideRefilled,
    OverrideTaken,
    PermitPresented,
    PowerOutcome,
    PowerVerb,
    Release,
    Remember,
    Remembered,
    RequestPower,
    ShutdownSignal,
    SignalKind,
    SleepSignal,
    Started,
    StoreHealth,
    StoreRenewed,
    TabletPower,
    UsedWhileLocked,
    Write,
)
from tests.core_driver import Core, status

POLICY = Policy(
    tether=TetherPolicy(refill_after_s=5, budget_ms=9000, start_allowance_s=3, hint_switch=HintUse.RESTRICT),
    ignition=IgnitionPolicy(stuck_s=10),
    power=PowerPolicy(
        run_on_s=8, max_s=40, unknown_s=10, drain_s=3, suspend_drain_s=2, warn_s=5, act_s=5, filter_s=1,
        resume_awake_s=4, retry_s=5, cut_s=5, floor_s=1, restore_s=3, locked_off_s=15,
    ),
)  # fmt: skip
RIDE_NS, CRANK_RIDE_NS = POLICY.tether.ride_through_ms * MS, POLICY.tether.crank_ride_through_ms * MS
FRESH_NS, PROOF_NS = POLICY.tether.status_fresh_ms * MS, POLICY.tether.proof_fresh_s * SECOND
AT = BootNs(0)

AT_ONCE = st.just(AT)  # replaced by the time at which it is shown
maybe = st.sampled_from([True, True, False, None])
ages = st.sampled_from([0, 0, 0, 300, 1400, 1600, 20_000, -500])
docks = st.sampled_from(["dock", "dock", "dock", "other"])
millivolts = st.sampled_from([None, 7000, 10_900, 11_700, 12_600, 13_900])


@dataclass(frozen=True)
class Aged:
    """An observation whose evidence is some milliseconds older than its arrival."""

    obs: DockStatus | DockProof | DockForeign
    age_ms: int


statuses = st.builds(
    DockStatus, AT_ONCE, docks, AT_ONCE, st.booleans() | st.just(True), maybe, maybe, maybe, maybe,
    millivolts, millivolts, st.just(900), st.just(250), st.just(DockFault.NONE),
)  # fmt: skip
proofs = st.builds(DockProof, AT_ONCE, docks, AT_ONCE)
foreigns = st.builds(DockForeign, AT_ONCE, docks, st.sampled_from(ForeignReason), AT_ONCE)
signals = st.one_of(
    st.builds(CanSignal, AT_ONCE, st.just("can"), st.just(SignalKind.IGNITION), st.sampled_from(KeyPosition)),
    st.builds(
        CanSignal, AT_ONCE, st.just("can"), st.just(SignalKind.ENGINE_SPEED), st.sampled_from([0, 200, 800])
    ),
    st.builds(
        CanSignal, AT_ONCE, st.just("can"),
        st.sampled_from([SignalKind.BATTERY, SignalKind.ALTERNATOR, SignalKind.SPEED]),
        st.sampled_from([9000, 11_000, 12_600, 14_000]),
    ),
    st.builds(CanSignal, AT_ONCE, st.just("can"), st.just(SignalKind.READY), st.booleans()),
)  # fmt: skip
others: st.SearchStrategy[Observation] = st.one_of(
    st.builds(Started, AT_ONCE, st.just("boot"), st.none()),
    st.builds(DeadlineReached, AT_ONCE),
    st.builds(DockLinkUp, AT_ONCE, docks),
    st.builds(DockVersion, AT_ONCE, docks),
    st.builds(DockLinkLost, AT_ONCE, docks, st.sampled_from(LinkLoss)),
    st.builds(
        DockIdent, AT_ONCE, docks, st.just("s"), st.just("v"), st.just("m"), st.just((1, 0)), st.just(0),
    ),
    st.builds(
        DockHint, AT_ONCE, st.sampled_from([f"hint{n}" for n in range(12)]), st.sampled_from(HintKind),
        maybe, maybe, maybe, maybe, maybe, millivolts, millivolts,
    ),
    st.builds(DockCommandDone, AT_ONCE, docks, st.just("outputs"), st.sampled_from(CommandOutcome)),
    st.builds(CanBus, AT_ONCE, st.sampled_from([f"can{n}" for n in range(12)]), st.sampled_from(BusState)),
    st.builds(
        TabletPower, AT_ONCE, st.sampled_from([True, False, None]), st.sampled_from([None, 3, 12, 80]),
        st.sampled_from([None, -500, 500]), st.none(), st.none(),
    ),
    st.builds(
        LockOutcome, AT_ONCE, st.integers(0, 9), st.just("a"), st.booleans(), st.just(1000), st.just(""),
    ),
    st.builds(UsedWhileLocked, AT_ONCE, st.just("session 1")),
    st.builds(SleepSignal, AT_ONCE, st.booleans()),
    st.builds(ShutdownSignal, AT_ONCE, st.booleans()),
    st.builds(PowerOutcome, AT_ONCE, st.sampled_from(PowerVerb), st.booleans(), st.just("")),
    st.builds(Drained, AT_ONCE, st.integers(0, 9)),
    st.builds(StoreHealth, AT_ONCE, st.booleans(), st.just("")),
    st.builds(GuardState, AT_ONCE, st.booleans(), st.just("")),
    st.builds(GuardLocked, AT_ONCE, st.integers(0, 9), st.just("guard.lease_ran_out")),
    st.builds(StoreRenewed, AT_ONCE, st.just("")),
    st.builds(DepotContact, AT_ONCE),
    st.builds(LockOrdered, AT_ONCE),
    st.builds(MemoryFound, AT_ONCE, st.builds(Remembered, decision=st.integers(0, 3))),
    st.builds(DocumentRefused, AT_ONCE, st.just("signature"), st.just("")),
    st.builds(GrantsRevoked, AT_ONCE, st.just("root"), st.sampled_from([None, 7])),
    st.builds(GrantKept, AT_ONCE, st.integers(0, 3), st.booleans()),
)  # fmt: skip


@dataclass(frozen=True)
class Docked:
    """Some seconds of a tablet in its dock: without them random evidence hardly ever adds up."""

    seconds: float
    kl15: bool


@dataclass(frozen=True)
class Restart:
    """Another run of the agent: after an orderly stop, after a crash, in another boot, or without memory."""

    how: str


Act = Observation | Aged | Docked | Restart
acts: st.SearchStrategy[Act] = st.one_of(
    st.builds(Docked, st.sampled_from([0.6, 1.0, 3.0, 7.0]), st.booleans()),
    st.builds(Docked, st.sampled_from([0.6, 1.0, 3.0, 7.0]), st.booleans()),
    st.builds(Aged, statuses, ages),
    st.builds(Aged, statuses, ages),
    st.builds(Aged, st.one_of(proofs, foreigns), ages),
    signals,
    others,
    st.builds(Restart, st.sampled_from(["orderly", "crash", "boot", "bare"])),
)
gaps = st.sampled_from([0, 0, 1, 90, 200, 700, 1500, 2000, 4000, 11_000])
lives = st.lists(st.tuples(gaps, acts), max_size=40)


def test_the_strategy_covers_every_observation() -> None:
    drawn = {
        DockStatus, DockProof, DockForeign, DockHint, CanSignal, Started, DeadlineReached, DockLinkUp,
        DockLinkLost, DockIdent, DockVersion, DockCommandDone, CanBus, TabletPower, LockOutcome,
        UsedWhileLocked, SleepSignal, ShutdownSignal, PowerOutcome, Drained, StoreHealth, GuardState,
        GuardLocked, StoreRenewed, MemoryFound, DepotContact, DocumentRefused, GrantsRevoked, GrantKept,
            LockOrdered,
        # What asks for leave is in test_core_grants.py, whose books know of it.
        PermitPresented, CodeRequested, CodeAnswered, OverrideTaken, OverrideRefilled,
    }  # fmt: skip
    assert {kind.__name__ for kind in drawn} == {kind.__name__ for kind in Observation.__subclasses__()}


@dataclass
class Judge:
    """What may be, judged from the observations alone."""

    core: Core
    proof: dict[str, int] = field(default_factory=dict)
    evidence_at: int | None = None
    wire_on_at: int = -(10**18)
    key: tuple[KeyPosition, int] = (KeyPosition.OFF, -(10**18))
    turns_at: int = -(10**18)
    ready_at: int = -(10**18)
    unproven_ns: int = 0
    decision: int = 0
    budget_ns: int = 0

    def see(self, obs: Observation) -> Effects:
        self.spend(max(self.core.now, obs.at))
        self.note(obs)
        made = self.core.see(obs)
        now = self.core.now
        self.check(obs, made, now)
        return made

    def spend(self, now: int) -> None:
        """Count the time until now that was used without fresh evidence."""
        if self.core.usable() and self.evidence_at is not None:
            self.unproven_ns += max(0, now - max(self.core.now, self.evidence_at + FRESH_NS))

    def note(self, obs: Observation) -> None:
        """Evidence, taken more generously than the core does."""
        now = max(self.core.now, obs.at)
        match obs:
            case DockProof():
                self.proof[obs.dock] = max(self.proof.get(obs.dock, -(10**18)), min(now, obs.evidence_at))
            case DockStatus(authenticated=True):
                at = min(now, obs.evidence_at)
                proved = now < self.proof.get(obs.dock, -(10**18)) + PROOF_NS
                if obs.seated and proved and now < at + FRESH_NS:
                    self.evidence_at = max(self.evidence_at or at, at)
                if obs.kl15 is not None:
                    self.wire_on_at = at if obs.kl15 else -(10**18)
            case CanSignal(kind=SignalKind.IGNITION, value=KeyPosition() as position):
                self.key = (position, now)
            case CanSignal(kind=SignalKind.ENGINE_SPEED, value=rpm):
                self.turns_at = now if rpm else -(10**18)
            case CanSignal(kind=SignalKind.READY, value=ready):
                self.ready_at = now if ready else -(10**18)
            case _:
                pass

    def fresh(self, now: int) -> bool:
        return self.evidence_at is not None and now < self.evidence_at + FRESH_NS

    def says_on(self, now: int) -> bool:
        can_ns = POLICY.ignition.can_fresh_ms * MS
        stuck = self.core.state.ignition.conflict == "wire stuck on"
        return (
            (now < self.wire_on_at + POLICY.ignition.wire_fresh_ms * MS and not stuck)
            or (now < self.key[1] + can_ns and self.key[0] in (KeyPosition.ON, KeyPosition.START))
            or now < max(self.turns_at, self.ready_at) + can_ns
        )

    def check(self, obs: Observation, made: Effects, now: int) -> None:
        state = self.core.state
        usable = state.posture.value == "usable"
        # 1 and 2: usable only on fresh evidence or within the ride-through, and no longer, whatever fails.
        if usable:
            assert self.evidence_at is not None
            assert now < max(self.evidence_at + FRESH_NS, self.evidence_at + CRANK_RIDE_NS)
        assert usable == (state.tether.state in (TetherState.TETHERED, TetherState.UNCERTAIN))
        # 3: only authenticated status, and the time it has held, move toward usable.
        if any(isinstance(effect, Release) for effect in made):
            # A hint releases nothing, but may end its own restriction.
            # A lock by the guard is taken over, and ended in the same step where evidence is fresh.
            assert (
                isinstance(obs, DeadlineReached | DockHint | DockLinkLost)
                or (isinstance(obs, DockStatus) and obs.authenticated)
                or (isinstance(obs, GuardLocked) and isinstance(made[0], Lock))
            )
            assert self.fresh(now)
        # 4: no request while a fresh source says ON; no run-on timer survives ignition ON.
        for effect in made:
            if isinstance(effect, RequestPower) and effect.cause.rule != "power.hard_floor":
                assert not self.says_on(now)
        ending = state.power.mode in (PowerMode.SHUTTING_DOWN, PowerMode.POWERING_OFF)
        if state.ignition.state in IN_USE and not ending and state.asleep_until is None:
            assert state.power.run_on_since is None
        # 5: all sources stale is UNKNOWN, but for the hold within a crank window.
        quiet_ns = max(POLICY.ignition.can_fresh_ms, POLICY.ignition.wire_fresh_ms) * MS
        said = [
            r.at
            for r in (state.ignition.wire, state.ignition.key, state.ignition.rpm, state.ignition.ready)
            if r
        ]
        if all(now >= at + quiet_ns for at in said) and state.ignition.crank is None:
            assert state.ignition.state is IgnitionState.UNKNOWN
        # 7: each change of enforcement has one record and one memory, and numbers do not repeat.
        numbers = [
            effect.record.as_dict()["decision"]
            for effect in made
            if isinstance(effect, Write) and effect.record.kind is ENFORCEMENT_CHANGED
        ]
        assert numbers == list(range(self.decision + 1, state.decision + 1))
        self.decision = state.decision
        if numbers:
            assert [e.what.decision for e in made if isinstance(e, Remember)] == [state.decision]
            assert len([e for e in made if isinstance(e, Lock | Release)]) >= len(numbers)
        # 11: bounded.
        assert len(state.ignition.buses) <= 8
        assert len(state.tether.hints) <= 8
        assert all(len(e.decision.evidence) <= 20 for e in made if isinstance(e, Explain))
        # 14: what was used without proof since the last refill is within the budget.
        if state.tether.budget_ns == POLICY.tether.budget_ms * MS > self.budget_ns:
            self.unproven_ns = 0
        self.budget_ns = state.tether.budget_ns
        assert self.unproven_ns <= POLICY.tether.budget_ms * MS

    def restart(self, how: str) -> None:
        words = last_words(self.core.state, self.core.now) if how == "orderly" else self.core.remembered
        self.decision = 0 if how == "bare" or words is None else words.decision
        self.core.state = initial(self.core.policy)
        boot = "another boot" if how == "boot" else "boot"
        self.see(Started(self.core.now, boot, None if how == "bare" else words))

    def until(self, end: BootNs) -> None:
        while (due := next_deadline(self.core.state, self.core.policy)) is not None and due <= end:
            self.see(DeadlineReached(due))
        self.spend(end)
        self.core.now = BootNs(max(self.core.now, end))

    def live(self, life: list[tuple[int, Act]]) -> None:
        for gap_ms, act in life:
            self.until(BootNs(self.core.now + gap_ms * MS))
            now = self.core.now
            match act:
                case Docked():
                    for n in range(round(act.seconds * 5)):
                        at = BootNs(now + n * 200 * MS)
                        self.until(at)
                        if n % 25 == 0:
                            self.see(DockProof(at, "dock", at))
                        self.see(status(at, kl15=act.kl15))
                case Aged():
                    self.see(replace(act.obs, at=now, evidence_at=BootNs(now - act.age_ms * MS)))
                case Restart():
                    self.restart(act.how)
                case Observation():
                    self.see(replace(act, at=now))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lives)
@example([(0, Docked(0.6, False)), (1500, Docked(0.6, False)), (200, GuardLocked(AT, 4, "guard.lease"))])
@example([(0, Docked(0.6, False)), (0, GuardLocked(AT, 1, "guard.lease"))])
@example([(0, Docked(7.0, False)), (1500, GuardLocked(AT, 2, "guard.lease"))])
def test_the_invariants_hold_over_any_life(life: list[tuple[int, Act]]) -> None:
    core = Core(POLICY, at_s=100)
    judge = Judge(core)
    judge.see(Started(core.now, "boot", None))
    judge.live(life)
    # 10: once it is quiet and docked, all converges.
    core.see(SleepSignal(core.now, starting=False))
    for hint in core.state.tether.hints:
        core.see(replace(hint.said, at=core.now, seated=True, mated=True))
    core.last_proof = BootNs(-(10**18))
    core.key(KeyPosition.ON)  # a bus that said off last takes it back
    core.dock(12)
    assert core.usable() or core.state.power.forced
    assert core.state.ignition.state is IgnitionState.ON


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(gaps, st.one_of(st.builds(Aged, statuses | foreigns, ages), signals, others)), max_size=40
    )
)
def test_without_proof_it_is_never_usable(life: list[tuple[int, Aged | Observation]]) -> None:
    core = Core(POLICY, at_s=100)
    core.start()
    for gap_ms, act in life:
        core.run(gap_ms / 1000)
        if isinstance(act, Aged):
            core.see(replace(act.obs, at=core.now, evidence_at=BootNs(core.now - act.age_ms * MS)))
        else:
            core.see(replace(act, at=core.now))
        assert not core.usable()


losses = st.lists(
    st.tuples(
        st.sampled_from([1600, 2500, 3400, 3900, 4500]),
        st.one_of(
            st.builds(Docked, st.sampled_from([0.2, 0.6, 1.4]), st.booleans()),
            st.builds(Restart, st.sampled_from(["orderly", "crash"])),
        ),
    ),
    min_size=5,
    max_size=20,
)


@settings(max_examples=100, deadline=None)
@given(losses)
def test_losses_and_restarts_together_use_no_more_than_the_budget(life: list[tuple[int, Act]]) -> None:
    policy = replace(POLICY, tether=replace(POLICY.tether, refill_after_s=600))
    core = Core(policy, at_s=100)
    judge = Judge(core)
    full = Remembered("boot", "unknown", 0, policy.tether.budget_ms * MS)
    judge.see(Started(core.now, "boot", full))
    judge.live([(0, Docked(1.4, kl15=True)), *life])


@settings(max_examples=60, deadline=None)
@given(lives, st.integers(1, 10**17))
def test_only_differences_of_time_count(life: list[tuple[int, Act]], offset: int) -> None:
    def rules(start_s: float) -> list[str]:
        core = Core(POLICY, at_s=0)
        core.now = BootNs(round(start_s))
        Judge(core).live(
            [(0, Started(AT, "boot", None)), *((g, a) for g, a in life if not isinstance(a, Restart))]
        )
        return [effect.decision.rule for effect in core.made(Explain)]

    first = 100 * SECOND
    assert rules(first) == rules(first + offset)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 120), st.booleans(), st.booleans()), min_size=50, max_size=200))
def test_chatter_makes_a_bounded_number_of_transitions(beats: list[tuple[int, bool, bool]]) -> None:
    core = Core(POLICY).tethered()
    begin = core.now
    core.proof()
    for gap_ms, seated, kl15 in beats:
        core.see(status(core.now, seated=seated, kl15=kl15))
        core.run(gap_ms / 1000)
    window_ms = (core.now - begin) // MS
    changes = [effect.decision.topic for effect in core.made(Explain)]
    assert changes.count("tether") <= 2 * (window_ms // POLICY.tether.return_ms) + 3
    assert changes.count("ignition") <= 2 * (window_ms // POLICY.ignition.on_debounce_ms) + 3
    assert changes.count("power") <= changes.count("ignition") + window_ms // 1000 + 3


@settings(max_examples=60, deadline=None)
@given(lives)
def test_observations_in_any_order_of_time_never_raise_or_go_back(life: list[tuple[int, Act]]) -> None:
    state = initial(POLICY)
    for number, (gap_ms, act) in enumerate(life):
        at = BootNs(gap_ms * MS * (number % 3))
        obs = act.obs if isinstance(act, Aged) else act
        if isinstance(obs, Observation):
            before = state.now
            state, _ = step(state, replace(obs, at=at), POLICY)
            assert state.now >= before
            due = next_deadline(state, POLICY)
            assert due is None or due > state.now


@settings(max_examples=60, deadline=None)
@given(lives)
def test_a_deadline_that_is_served_is_served(life: list[tuple[int, Act]]) -> None:
    core = Core(POLICY, at_s=100)
    judge = Judge(core)
    judge.see(Started(core.now, "boot", None))
    judge.live(life)
    for _ in range(200):
        due = next_deadline(core.state, POLICY)
        if due is None:
            return
        core.see(DeadlineReached(due))
        assert core.state.now == due
    # Left alone, what remains is the repeated attempt to suspend or power off, at most once a retry time.
    assert core.state.power.mode is not PowerMode.AWAKE


def test_the_core_looks_at_no_clock_and_no_chance() -> None:
    folder = Path(agent.core.__file__).parent
    banned = {"time", "datetime", "random", "os", "secrets", "uuid", "asyncio", "logging", "threading"}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not banned & {name.split(".")[0] for name in names}, path


def test_the_state_is_frozen() -> None:
    state = initial(POLICY)
    for part in (state, state.tether, state.ignition, state.power):
        with pytest.raises(FrozenInstanceError):
            setattr(part, fields(part)[0].name, None)
        assert not any(isinstance(getattr(part, f.name), list | dict | set) for f in fields(part))
