"""Grants over any sequence of boots, crashes, clocks, docks, stores, permits, codes and overrides.

A bookkeeper that knows only what was signed, answered and taken says how long the tablet may have been used
without its dock. It looks at postures and times, never at the grants' state.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.grants import HELD
from agent.core.machine import last_words, next_deadline
from agent.core.policy import GrantPolicy, Policy, TetherPolicy
from agent.core.state import initial
from agent.core.types import (
    SECOND,
    BootNs,
    CodeAnswered,
    CodeRequested,
    DeadlineReached,
    DepotContact,
    DockForeign,
    ForeignReason,
    GrantKept,
    GrantMemory,
    GrantsRevoked,
    KeepGrant,
    Observation,
    OverrideRefilled,
    OverrideTaken,
    PermitPresented,
    Remember,
    Remembered,
    Scope,
    SleepSignal,
    Started,
    StoreHealth,
    StoreRenewed,
)
from tests.core_driver import Core

# No ride-through, so that whatever is used without proof rests on a grant.
POLICY = Policy(
    tether=TetherPolicy(budget_ms=0, refill_after_s=3600),
    grants=GrantPolicy(boot_cost_s=60, override_s=60, overrides=2, refill_s=60, tries=3, delay_s=30),
)
MINUTE = 60 * SECOND
AT = BootNs(0)


@dataclass(frozen=True)
class Dock:
    seconds: int


@dataclass(frozen=True)
class Boot:
    """Power off and on; the clock begins anew, or not: a clock that somebody set changes nothing."""

    clock_s: int


@dataclass(frozen=True)
class Crash:
    """The agent dies and starts again in the same boot."""


@dataclass(frozen=True)
class Disk:
    """How the store fares from here on."""

    state: str


@dataclass(frozen=True)
class Permitted:
    number: int
    minutes: int
    scope: Scope


@dataclass(frozen=True)
class Coded:
    minutes: int
    right: bool


Act = Dock | Boot | Crash | Disk | Permitted | Coded | Observation
acts: st.SearchStrategy[Act] = st.one_of(
    st.builds(Dock, st.sampled_from([3, 3, 63])),
    st.builds(Boot, st.sampled_from([0, 5, 100, 100_000])),
    st.just(Crash()),
    st.builds(Disk, st.sampled_from(["works", "works", "works", "slow", "hangs", "fails"])),
    st.builds(Permitted, st.integers(1, 4), st.sampled_from([1, 2, 5]), st.sampled_from(Scope)),
    st.builds(Permitted, st.integers(1, 4), st.sampled_from([1, 2, 5]), st.sampled_from(Scope)),
    st.builds(Coded, st.sampled_from([1, 3]), st.booleans()),
    st.just(OverrideTaken(AT, 1000)),
    st.just(OverrideTaken(AT, 1000)),
    st.just(DepotContact(AT)),
    st.just(StoreRenewed(AT, "test")),
    st.builds(GrantsRevoked, st.just(AT), st.just("x"), st.sampled_from([None, 1, 2])),
    st.builds(OverrideRefilled, st.just(AT), st.just("refill"), st.just(3)),
    st.builds(SleepSignal, st.just(AT), st.booleans()),
    st.just(DockForeign(AT, "dock", ForeignReason.BAD_MAC, AT)),
)
gaps = st.sampled_from([0, 0, 1, 30, 59, 61, 300])
lives = st.lists(st.tuples(gaps, acts), max_size=25)


class Bench(Core):
    """A core with a store that works late: what is slow is kept when it works again, if nothing died."""

    def __init__(self) -> None:
        super().__init__(POLICY, at_s=100)
        self.late: list[KeepGrant] = []

    def see(self, obs: Observation) -> tuple[object, ...]:  # type: ignore[override]
        made = super().see(obs)
        if self.store == "slow":
            self.late += [effect for effect in made if isinstance(effect, KeepGrant)]
        return made

    def disk(self, state: str) -> None:
        was, self.store = self.store, state
        if state == "works" and was != "works":
            if self.remembered is not None:
                self.kept = self.remembered
            self.see(StoreHealth(self.now, True, ""))
            for late in self.late:
                self.see(GrantKept(self.now, late.number, kept=True))
            self.late.clear()
        elif state == "fails":
            self.see(StoreHealth(self.now, False, "full"))


@dataclass
class Books:
    """What may be used, by what was given; everything is in ns."""

    core: Bench
    used_ns: int = 0
    signed_ns: dict[tuple[str, int], int] = field(default_factory=dict)
    overrides: int = 0
    boot: int = 1

    def pass_time(self, seconds: float) -> None:
        end = BootNs(self.core.now + round(seconds * SECOND))
        while (due := next_deadline(self.core.state, POLICY)) is not None and due <= end:
            self.spend(due)
            self.see(DeadlineReached(due))
        self.spend(end)
        self.core.now = BootNs(max(self.core.now, end))

    def spend(self, now: BootNs) -> None:
        if self.core.usable() and self.core.state.tether.state not in HELD:
            self.used_ns += now - self.core.now

    def see(self, obs: Observation) -> None:
        self.core.see(obs)
        self.check()

    def check(self) -> None:
        core = self.core
        allowed = sum(self.signed_ns.values()) + self.overrides * POLICY.grants.override_s * SECOND
        assert self.used_ns <= allowed, "used for longer than was signed, answered and taken"
        if core.usable() and core.state.tether.state not in HELD:
            assert core.state.asleep_until is None, "nothing is granted in a sleep"
        memory = core.state.grants.memory
        assert len(memory.used) <= 32
        assert memory.permit is None or memory.permit.boots < POLICY.grants.boots

    def start(self, clock_s: int, *, same: bool) -> None:
        core = self.core
        core.late.clear()
        core.state = initial(POLICY)
        if not same:
            self.boot += 1
            core.now = BootNs(clock_s * SECOND)
            core.last_proof = BootNs(-(10**18))
        core.remembered = core.kept
        self.see(Started(core.now, f"boot {self.boot}", core.kept))
        if core.store == "fails":
            self.see(StoreHealth(core.now, False, "full"))


def live(life: list[tuple[int, Act]], memory: GrantMemory | None = None) -> Books:
    core = Bench()
    books = Books(core)
    core.kept = Remembered("boot 1", "restricted", 0, 0, grants=memory or GrantMemory())
    books.start(100, same=True)
    for gap_s, act in life:
        books.pass_time(gap_s)
        match act:
            case Dock(seconds):
                books.spend(core.now)
                core.dock(seconds)
                core.dock(1, seated=False)
                books.check()
            case Boot(clock_s):
                books.start(clock_s, same=False)
            case Crash():
                books.start(0, same=True)
            case Disk(state):
                core.disk(state)
            case Permitted(number, minutes, scope):
                # Each number is one document: its length and scope are those of its first showing.
                signed = books.signed_ns.setdefault(("permit", number), minutes * MINUTE)
                books.see(PermitPresented(core.now, f"id {number}", number, scope, signed // MINUTE))
            case Coded(minutes, right):
                books.see(CodeRequested(core.now, "7K2MQ9TD", Scope.ANY, minutes))
                if right:
                    books.signed_ns[("code", len(books.signed_ns))] = minutes * MINUTE
                books.see(CodeAnswered(core.now, right))
            case OverrideTaken():
                running = core.now < core.state.grants.override_until
                books.overrides += 0 if running else 1  # asked for: an upper bound; see the test below
                books.see(replace(act, at=core.now))
            case Observation():
                books.see(replace(act, at=core.now))
    books.pass_time(4000)
    return books


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lives)
def test_no_more_time_is_used_than_was_given(life: list[tuple[int, Act]]) -> None:
    books = live(life)
    assert not books.core.usable() or books.core.state.tether.state in HELD, "in the end all is used up"


boots = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([0, 1, 30, 61]), st.builds(Boot, st.sampled_from([0, 5, 10**6]))),
        st.tuples(st.sampled_from([0, 1, 30, 61]), st.just(Crash())),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(boots, st.integers(1, 60))
def test_boots_and_crashes_cost_and_the_third_boot_ends_it(
    life: list[tuple[int, Boot | Crash]], minutes: int
) -> None:
    core = Bench()
    books = Books(core)
    core.kept = Remembered("boot 1", "restricted", 0, 0)
    books.start(100, same=True)
    books.signed_ns[("permit", 1)] = minutes * MINUTE
    books.see(PermitPresented(core.now, "id", 1, Scope.ANY, minutes))
    assert core.usable()
    booted = 0
    for gap_s, act in life:
        books.pass_time(gap_s)
        books.start(act.clock_s if isinstance(act, Boot) else 0, same=isinstance(act, Crash))
        booted += isinstance(act, Boot)
        if booted >= POLICY.grants.boots:
            assert not core.usable()
    books.pass_time(minutes * 60 + 120)
    assert not core.usable()
    assert books.used_ns <= minutes * MINUTE
    # Shown again, in this boot and the next, it grants nothing.
    for same in (True, False):
        books.see(PermitPresented(core.now, "id", 1, Scope.ANY, minutes))
        assert not core.usable()
        books.start(5, same=same)


reboots = st.one_of(st.builds(Boot, st.sampled_from([0, 5, 10**6])), st.just(Crash()))
overridden = st.lists(st.tuples(gaps, reboots | st.just(OverrideTaken(AT, 1000))), max_size=30)
guessed = st.lists(
    st.tuples(st.sampled_from([0, 1, 29, 31, 100]), reboots | st.just(Coded(1, False))), max_size=60
)


@settings(max_examples=100, deadline=None)
@given(overridden)
def test_overrides_are_counted_over_boots_and_crashes(life: list[tuple[int, Act]]) -> None:
    books = live(life)
    assert books.used_ns <= POLICY.grants.overrides * POLICY.grants.override_s * SECOND


@settings(max_examples=100, deadline=None)
@given(guessed)
def test_whoever_guesses_gets_few_tries_over_any_reboots(life: list[tuple[int, Act]]) -> None:
    """The time that must pass for n wrong answers to be looked at, however often it is rebooted."""
    books = live(life)
    tries = books.core.state.grants.memory.tries
    passed_s = sum(gap_s for gap_s, _ in life)
    waits = [min(30 << max(0, n - 3), POLICY.grants.delay_max_s) for n in range(3, tries)]
    assert passed_s >= sum(waits)


def test_the_last_words_grant_no_more_than_the_crash() -> None:
    core = Bench()
    core.kept = Remembered("boot 1", "restricted", 0, 0)
    core.start(core.kept, "boot 1")
    core.see(PermitPresented(core.now, "id", 1, Scope.ANY, 10))
    assert any(isinstance(effect, Remember) for effect in core.effects)
    core.run(30)
    words = last_words(core.state, core.now).grants.permit
    assert words is not None
    assert words.left_ns == 9 * MINUTE
