"""The lease: never longer than use would go on without news, and what it lets happen stays in the budget."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.core.catalogue import ENFORCEMENT_CHANGED
from agent.core.machine import last_words, next_deadline, step
from agent.core.policy import LeasePolicy, Policy, TetherPolicy
from agent.core.state import BOOT, State, TetherState, initial
from agent.core.types import (
    MS,
    SECOND,
    BeginLease,
    BootNs,
    CanSignal,
    DeadlineReached,
    DockProof,
    Effects,
    EndLease,
    GuardLocked,
    GuardState,
    KeyPosition,
    Lease,
    Lock,
    Observation,
    PermitPresented,
    Posture,
    Release,
    Remember,
    Remembered,
    RenewLease,
    Scope,
    SignalKind,
    Started,
)
from tests.core_driver import Core, status

SHORT = Policy(tether=TetherPolicy(budget_ms=9000, refill_after_s=20, crank_ride_through_ms=6000))
RIDE_NS = SHORT.tether.ride_through_ms * MS
FIRST = BootNs(100 * SECOND)
BUDGET_NS = SHORT.tether.budget_ms * MS


def use_ends(state: State, policy: Policy) -> BootNs:
    """When the tablet would be locked if nothing more came in but deadlines."""
    for _ in range(1000):
        if state.posture is Posture.LOCKED:
            return state.now
        due = next_deadline(state, policy)
        assert due is not None, "usable for ever"
        state, _ = step(state, DeadlineReached(due), policy)
    raise AssertionError("usable for over 1000 deadlines")


@dataclass(frozen=True)
class Docked:
    seconds: float


@dataclass(frozen=True)
class Silent:
    ms: int


@dataclass(frozen=True)
class Start:
    """The starter turns: the next loss may be longer."""


@dataclass(frozen=True)
class Restart:
    """The agent is gone for ``ms``; what was not committed is lost."""

    ms: int
    orderly: bool
    reboot: bool = False


@dataclass(frozen=True)
class Store:
    """The store hangs, or goes on and commits all that waits for it."""

    hangs: bool


Act = Store | Docked | Silent | Start | Restart
acts: st.SearchStrategy[Act] = st.one_of(
    st.builds(Docked, st.sampled_from([0.8, 1.2, 3.0, 9.0, 25.0])),
    st.builds(Docked, st.sampled_from([0.8, 1.2, 3.0, 9.0, 25.0])),
    st.builds(Silent, st.sampled_from([10, 300, 1600, 2500, 3900, 8000])),
    st.builds(Start),
    st.builds(Store, st.booleans()),
    st.builds(
        Restart, st.sampled_from([1, 300, 900, 2900, 3999, 5000, 60_000]), st.booleans(),
        st.sampled_from([False, False, False, True]),
    ),
)  # fmt: skip


@dataclass
class Tablet:
    """A tablet from outside: the agent, which may be gone, and a guard that keeps its word of the lease.

    Time is accounted for: use that no full evidence younger than a status' life covers.
    """

    policy: Policy
    state: State = field(init=False)
    now: BootNs = FIRST
    lease: Lease | None = None  # as the guard holds it
    lapsed: int | None = None  # decision of a lease that ran out with the guard
    committed: Remembered | None = None
    hangs: bool = False
    waiting: list[tuple[Remembered | None, list[Lease]]] = field(default_factory=list)
    held_since: int = 0
    evidence_at: int = 0  # the world's own note of the last full evidence
    boot: int = 1
    alive: bool = False
    unproved_ns: int = 0
    worst_ns: int = 0
    last_proof: int = 0

    def __post_init__(self) -> None:
        self.state = initial(self.policy)
        self.begin()

    def begin(self) -> None:
        remembered = self.committed or Remembered(budget_ns=BUDGET_NS)
        if self.lapsed is not None and self.lapsed + 1 > remembered.decision:
            left = remembered.budget_ns or 0
            if remembered.tether == "tethered":
                left = max(0, left - RIDE_NS)
            remembered = replace(remembered, decision=self.lapsed + 1, tether="restricted", budget_ns=left)
            self.committed = remembered
        self.state, self.alive = initial(self.policy), True
        self.see(Started(self.now, f"boot {self.boot}", remembered, self.lease))

    def see(self, obs: Observation) -> Effects:
        self.state, made = step(self.state, obs, self.policy)
        words: Remembered | None = None
        later = []
        for effect in made:
            match effect:
                case EndLease(decision=decision):
                    self.lease = None
                    if self.lapsed is not None and decision > self.lapsed:
                        self.lapsed = None
                case RenewLease(lease=lease):
                    if not any(begun for _, begun in self.waiting):
                        assert self.lease is not None, "renewed what was not begun"
                        assert self.lease.decision == lease.decision
                        self.lease = lease
                case Remember(what=what):
                    words = what
                case BeginLease(lease=lease):
                    later.append(lease)
                case _:
                    pass
        self.waiting.append((words, later))
        self.commit()
        return made

    def commit(self) -> None:
        while self.waiting and not self.hangs:
            words, begun = self.waiting.pop(0)
            self.committed = words or self.committed
            for lease in begun:
                if lease.decision == self.state.decision and self.state.posture is Posture.USABLE:
                    self.lease = replace(lease, until=self.state.lease_until or lease.until)

    @property
    def usable(self) -> bool:
        return self.lease is not None and self.now < self.lease.until

    def pass_(self, ns: int) -> None:
        """Time passes; the agent serves its deadlines, the guard its lease."""
        end = BootNs(self.now + ns)
        while True:
            due = next_deadline(self.state, self.policy) if self.alive else None
            lapse = self.lease.until if self.lease is not None else None
            first = min((at for at in (due, lapse) if at is not None and at <= end), default=None)
            if first is None:
                self._account(end)
                return
            self._account(BootNs(max(first, self.now)))
            if first == due and self.alive:
                self.see(DeadlineReached(BootNs(due)))
            elif self.lease is not None and self.now >= self.lease.until:
                self.lapsed, self.lease = self.lease.decision, None

    def _account(self, until: BootNs) -> None:
        fresh_until = self.evidence_at + self.policy.tether.status_fresh_ms * MS
        if self.usable and until > fresh_until:
            self.unproved_ns += until - max(self.now, fresh_until)
        self.now = until

    def dock(self, seconds: float) -> None:
        for _ in range(round(seconds * 5)):
            if self.alive:
                if self.now - self.last_proof > 20 * SECOND or self.state.tether.proof_at is None:
                    self.see(DockProof(self.now, "dock", self.now))
                    self.last_proof = self.now
                self.see(status(self.now))
                if self.state.tether.state is TetherState.TETHERED:
                    if self.now - self.evidence_at > 200 * MS:
                        self.held_since = self.now
                    self.evidence_at = self.now
                    if self.now - self.held_since > self.policy.tether.refill_after_s * SECOND:
                        self.unproved_ns = 0  # refilled
            self.worst_ns = max(self.worst_ns, self.unproved_ns)
            self.pass_(200 * MS)

    def do(self, act: Act) -> None:
        match act:
            case Docked(seconds):
                self.dock(seconds)
            case Silent(ms):
                self.pass_(ms * MS)
            case Start():
                self.see(CanSignal(self.now, "can", SignalKind.IGNITION, KeyPosition.START))
            case Store(hangs):
                self.hangs = hangs
                self.commit()
            case Restart(ms, orderly, reboot):
                if orderly and not self.hangs:
                    self.committed = last_words(self.state, self.now)
                self.alive, self.hangs = False, False
                self.waiting.clear()
                self.pass_(ms * MS)
                if reboot:
                    self.boot += 1
                    self.lease, self.lapsed = None, None
                self.begin()
        self.worst_ns = max(self.worst_ns, self.unproved_ns)


@settings(deadline=None, max_examples=30)
@given(st.lists(acts, max_size=20))
@example([Docked(3.0), Restart(300, False), Silent(8000)])
def test_a_lease_never_goes_beyond_the_end_of_use_without_news(lives: list[Act]) -> None:
    tablet = Tablet(SHORT)
    see = tablet.see

    def checked(obs: Observation) -> Effects:
        made = see(obs)
        if tablet.state.posture is Posture.USABLE:
            assert tablet.state.lease_until is not None
            assert tablet.state.lease_until <= use_ends(tablet.state, SHORT)
        else:
            assert tablet.state.lease_until == BOOT
        return made

    tablet.see = checked  # type: ignore[method-assign]
    for act in lives:
        tablet.do(act)


@settings(deadline=None)
@given(st.lists(acts, max_size=40))
@example([Docked(0.8), Restart(1, False), Restart(2900, False), *[Docked(0.8), Silent(3900)] * 3])
@example([Docked(25.0), *[Silent(1600), Restart(900, False), Docked(1.2)] * 9])
@example([Docked(25.0), *[Restart(60_000, False), Docked(1.2)] * 9])
@example([Docked(25.0), *[Restart(2900, False, True), Docked(1.2)] * 9])
def test_use_without_proof_stays_within_the_budget_over_any_restarts(lives: list[Act]) -> None:
    """Use that the agent or, while it is gone, the guard allows; between two refills of the budget."""
    tablet = Tablet(SHORT)
    for act in lives:
        tablet.do(act)
    assert tablet.worst_ns <= BUDGET_NS


def test_a_restart_within_the_lease_goes_on_and_one_after_it_does_not() -> None:
    for ms, goes_on in ((900, True), (2800, True), (4100, False)):
        tablet = Tablet(SHORT)
        tablet.dock(25)
        tablet.pass_(0)
        tablet.do(Restart(ms, orderly=False))
        assert tablet.usable is goes_on, ms
        assert (tablet.state.posture is Posture.USABLE) is goes_on
        tablet.dock(2)
        assert tablet.state.tether.state is TetherState.TETHERED


def test_without_the_lease_a_kill_after_the_ride_through_of_the_last_commit_locks() -> None:
    """The last commit may be long ago: only the guard knows how old the evidence is."""
    tablet = Tablet(SHORT)
    tablet.dock(25)
    tablet.lease = None
    tablet.do(Restart(300, orderly=False))
    assert tablet.state.posture is Posture.LOCKED


@pytest.mark.parametrize("wrong", ["decision", "past", "restricted"])
def test_a_lease_that_is_not_of_what_is_remembered_gives_nothing(wrong: str) -> None:
    now = BootNs(1000 * SECOND)
    lease = Lease(4, BootNs(now + 2 * SECOND), BootNs(now - SECOND))
    remembered = Remembered("boot", "tethered", now - 100 * SECOND, BUDGET_NS, 0, 4)
    core = Core(SHORT)
    core.see(Started(now, "boot", remembered, lease))
    assert core.usable()
    match wrong:
        case "decision":
            lease = replace(lease, decision=3)
        case "past":
            lease = replace(lease, until=now)
        case _:
            remembered = replace(remembered, tether="restricted")
    core = Core(SHORT)
    core.see(Started(now, "boot", remembered, lease))
    assert not core.usable()


def test_a_quiet_drive_renews_once_in_a_step_and_by_evidence_alone() -> None:
    core = Core().tethered()
    begun = core.now
    core.dock(60)
    renewals = core.made(RenewLease)
    step_s = core.policy.lease.step_ms / 1000
    assert 60 / (step_s + 0.2) - 1 <= len(renewals) <= 60 / step_s + 1
    assert all(renewal.lease.evidence_at >= begun for renewal in renewals)
    least = core.policy.tether.ride_through_ms - core.policy.lease.step_ms
    gaps = pairwise(renewals)
    assert all(a.lease.until - b.lease.evidence_at >= (least - 250) * MS for a, b in gaps)


def test_a_release_begins_a_lease_after_its_commit_and_a_lock_ends_it_before() -> None:
    core = Core()
    core.start()
    assert [type(e) for e in core.effects if isinstance(e, EndLease | Lock)] == [Lock, EndLease]
    core.dock(2)
    (begun,) = core.made(BeginLease)
    assert begun.lease.decision == core.made(Release)[0].decision == core.state.decision
    core.effects.clear()
    core.see(status(core.now, seated=False))
    assert [type(effect) for effect in core.effects[:2]] == [Lock, EndLease]


def test_a_loss_that_cranking_extends_has_a_lease_for_all_of_it_once_it_is_committed() -> None:
    core = Core().tethered()
    core.key(KeyPosition.START)
    core.run(1.6)
    assert core.state.tether.state is TetherState.UNCERTAIN
    assert core.made(BeginLease)[-1].lease.until == use_ends(core.state, core.policy)


def test_a_grant_is_lent_in_pieces_that_are_renewed_in_time() -> None:
    core = Core(Policy(lease=LeasePolicy(grant_ms=10_000)))
    core.start(Remembered("boot", "restricted"))
    until = BootNs(core.now + 60 * SECOND)
    core.see(PermitPresented(core.now, "id", 1, Scope.ANY, 1))
    (begun,) = core.made(BeginLease)
    assert begun.lease.until == core.now + 10 * SECOND
    core.run(59.9)
    untils = [begun.lease.until, *(renewal.lease.until for renewal in core.made(RenewLease))]
    assert untils[-1] == until
    assert all(4 * SECOND < b - a <= 10 * SECOND for a, b in pairwise(untils))
    core.run(1)
    assert not core.usable()


def test_a_lease_that_ends_within_a_slice_does_not_wait_for_the_next_one() -> None:
    """Lease and slice have lengths of their own: the guard must not lock where they meet."""
    core = Core()
    core.start(Remembered("boot", "restricted"))
    core.see(PermitPresented(core.now, "id", 1, Scope.ANY, 10))
    lead_ns = core.policy.grants.lead_s * SECOND
    for _ in range(580):
        core.run(1)
        assert core.state.lease_until is not None
        assert core.state.lease_until - core.now >= lead_ns - SECOND


# --- the guard ------------------------------------------------------------------------------------


def test_a_lock_of_the_guard_that_this_run_did_not_see_coming_is_a_change_with_its_record() -> None:
    """A grant goes on while the agent hangs: the guard locks, and the officer comes back by password."""
    core = Core().tethered()
    number = core.state.decision
    core.see(GuardLocked(core.now, number, "guard.lease_ran_out"))
    postures = [record.as_dict() for record in core.records(ENFORCEMENT_CHANGED)]
    assert [(p["decision"], p["posture"]) for p in postures] == [
        (number + 1, "locked"), (number + 2, "usable"),
    ]  # fmt: skip
    assert postures[0]["rule"] == "guard.lease_ran_out"
    assert [effect.decision for effect in core.made(EndLease)] == [number + 1]
    assert [effect.lease.decision for effect in core.made(BeginLease)] == [number + 2]
    core.effects.clear()
    core.see(GuardLocked(core.now, number, "guard.lease_ran_out"))
    assert not core.effects, "an old lock says nothing"


def test_without_the_guard_use_ends_after_the_time_of_the_policy_and_comes_back_with_it() -> None:
    core = Core(Policy(lease=LeasePolicy(unguarded_s=10))).tethered()
    core.see(GuardState(core.now, False, "the connection ended"))
    core.dock(9)
    assert core.usable()
    core.dock(2)
    assert not core.usable()
    assert core.made(Lock)[-1].cause.rule == "guard.missing"
    core.see(GuardState(core.now, True, "connected"))
    assert core.usable()
    tolerant = Core().tethered()
    tolerant.see(GuardState(tolerant.now, False, "the connection ended"))
    tolerant.dock(3700)
    assert tolerant.usable()
