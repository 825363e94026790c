"""Sources without a key, over any life: what they never open, and what they hold where policy lets them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.catalogue import TETHER_CONFLICT
from agent.core.machine import last_words, next_deadline
from agent.core.policy import HintUse, Policy, TetherPolicy
from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    DeadlineReached,
    DockHint,
    DockLinkLost,
    HintKind,
    LinkLoss,
    Release,
    SleepSignal,
)
from tests.core_driver import Core

TETHER = TetherPolicy(refill_after_s=5, budget_ms=9000)
FRESH_NS, RIDE_NS = TETHER.hint_fresh_ms * MS, TETHER.crank_ride_through_ms * MS
maybe = st.sampled_from([True, True, False, None])


@dataclass(frozen=True)
class Said:
    hint: DockHint


@dataclass(frozen=True)
class Lost:
    dock: str


@dataclass(frozen=True)
class Again:
    """The agent is restarted, after an orderly stop or a crash."""

    orderly: bool


@dataclass(frozen=True)
class Slept:
    pass


@dataclass(frozen=True)
class Seated:
    """Some seconds of a tablet in its cradle: a look a second."""

    seconds: int


Act = Said | Lost | Again | Slept | Seated
docks = st.sampled_from(["cradle", "cradle", "hub", "tray"])
acts: st.SearchStrategy[Act] = st.one_of(
    st.builds(
        Said,
        st.builds(DockHint, st.just(BootNs(0)), docks, st.sampled_from(HintKind), maybe, maybe, maybe, maybe),
    ),
    st.builds(Seated, st.integers(1, 8)),
    st.builds(Seated, st.integers(1, 8)),
    st.builds(Lost, docks),
    st.builds(Again, st.booleans()),
    st.builds(Slept),
)
lives = st.lists(st.tuples(st.sampled_from([0, 1, 50, 400, 1000, 2600, 7000]), acts), max_size=40)


class Judge:
    """Counts as evidence only what the policy under test lets count, and takes it generously."""

    def __init__(self, policy: Policy) -> None:
        self.core = Core(policy, at_s=100)
        self.core.start()
        self.in_at: int | None = None  # last word of control lines with the seat in it
        self.released = 0

    def see(self, hint: DockHint) -> None:
        if hint.kind is HintKind.LINES and hint.seated:
            self.in_at = hint.at
        self.core.see(hint)
        self.check()

    def check(self) -> None:
        if not self.core.usable():
            return
        assert self.in_at is not None
        assert self.core.now < self.in_at + max(FRESH_NS, RIDE_NS)

    def run(self, ns: int) -> None:
        end = BootNs(self.core.now + ns)
        while (due := next_deadline(self.core.state, self.core.policy)) is not None and due <= end:
            self.core.see(DeadlineReached(due))
            self.check()
        self.core.now = BootNs(max(self.core.now, end))

    def live(self, life: list[tuple[int, Act]]) -> None:
        for gap_ms, act in life:
            self.run(gap_ms * MS)
            now = self.core.now
            match act:
                case Said():
                    self.see(replace(act.hint, at=now))
                case Seated():
                    for _ in range(act.seconds):
                        self.see(DockHint(self.core.now, "cradle", HintKind.LINES, seated=True))
                        self.run(SECOND)
                case Lost():
                    self.core.see(DockLinkLost(now, act.dock, LinkLoss.UNPLUGGED))
                case Again():
                    words = last_words(self.core.state, now) if act.orderly else self.core.remembered
                    self.core.restart(words)
                case Slept():
                    self.core.see(SleepSignal(now, True))
                    self.core.see(SleepSignal(BootNs(now + SECOND), False))
            self.check()


@pytest.mark.parametrize("use", [HintUse.REPORT, HintUse.RESTRICT])
@given(life=lives)
@settings(max_examples=60, deadline=None)
def test_hints_alone_never_open_unless_policy_says_so(use: HintUse, life: list[tuple[int, Act]]) -> None:
    judge = Judge(Policy(tether=replace(TETHER, hint_lines=use, hint_usb=use, hint_switch=use)))
    judge.live(life)
    assert judge.core.made(Release) == []
    assert not judge.core.usable()


@given(life=lives)
@settings(max_examples=150, deadline=None)
def test_control_lines_hold_no_longer_than_they_are_fresh_and_the_ride_through(
    life: list[tuple[int, Act]],
) -> None:
    judge = Judge(Policy(tether=replace(TETHER, hint_lines=HintUse.ALLOW, hint_usb=HintUse.RESTRICT)))
    judge.live(life)
    # Once all sources are quiet and say in, all converges.
    for hint in judge.core.state.tether.hints:
        judge.see(replace(hint.said, at=judge.core.now, seated=True, mated=True))
    for _ in range(5):
        for hint in judge.core.state.tether.hints:
            judge.see(replace(hint.said, at=judge.core.now, seated=True, mated=True))
        judge.see(DockHint(judge.core.now, "cradle", HintKind.LINES, seated=True))
        judge.run(SECOND)
    assert judge.core.usable()


@given(life=lives)
@settings(max_examples=60, deadline=None)
def test_beside_proof_hints_that_only_report_change_nothing_and_their_records_are_bounded(
    life: list[tuple[int, Act]],
) -> None:
    core = Core(Policy(tether=TETHER))
    core.tethered()
    begun_s = core.now / SECOND
    for gap_ms, act in life:
        core.dock(max(0.2, gap_ms / 1000))
        if isinstance(act, Said):
            core.see(replace(act.hint, at=core.now))
        elif isinstance(act, Lost):
            core.see(DockLinkLost(core.now, act.dock, LinkLoss.UNPLUGGED))
        assert core.usable()
    spent_s = core.now / SECOND - begun_s
    assert len(core.records(TETHER_CONFLICT)) <= 3 * (2 + 2 * spent_s / (TETHER.hint_hold_ms / 1000))
