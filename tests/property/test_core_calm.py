"""What a step saves, it saves without a difference: state, effects and deadline are those of a full step.

Reports and explanations are made of the state alone, so they are covered.
A copy by ``dataclasses.replace`` has no note of calm, so every step from it is settled in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.catalogue import TETHER_CHANGED
from agent.core.machine import next_deadline, step, step_in_full
from agent.core.policy import DockBit, IgnitionPolicy, Policy, PowerPolicy, TetherPolicy, Wire
from agent.core.state import Grant
from agent.core.types import (
    MS,
    SECOND,
    Announce,
    BootNs,
    BusState,
    CanBus,
    CanSignal,
    DeadlineReached,
    DockForeign,
    DockProof,
    DockStatus,
    Effects,
    ForeignReason,
    KeyPosition,
    Observation,
    PowerOutcome,
    PowerVerb,
    ShutdownSignal,
    SignalKind,
    SleepSignal,
    TabletPower,
)
from tests.core_driver import Core, status

SHORT = Policy(
    tether=TetherPolicy(refill_after_s=5, budget_ms=9000, start_allowance_s=3),
    ignition=IgnitionPolicy(stuck_s=10, crank_max_s=8, crank_quiet_s=5),
    power=PowerPolicy(
        run_on_s=8, max_s=40, unknown_s=10, drain_s=3, suspend_drain_s=2, warn_s=5, act_s=5, filter_s=1,
        resume_awake_s=4, retry_s=5, cut_s=5, floor_s=1, restore_s=3, sample_s=30,
    ),
)  # fmt: skip
FEED = replace(
    SHORT,
    tether=replace(SHORT.tether, required=(DockBit.SEATED, DockBit.LOCKED), return_ms=0, hold_latch=False),
    ignition=replace(SHORT.ignition, wire=Wire.ACCESSORY, on_debounce_ms=0, settle_ms=0),
    power=replace(SHORT.power, locked_off_s=60),
)
policies = st.sampled_from([SHORT, FEED, Policy()])


class Twins(Core):
    """A core whose every step is compared with the same step in full."""

    saved = 0

    def see(self, obs: Observation) -> Effects:
        before = self.state
        expected, effects = step_in_full(replace(before), obs, self.policy)
        made = super().see(obs)
        assert made == effects
        assert self.state == expected
        due = next_deadline(self.state, self.policy)
        assert due == next_deadline(replace(expected), self.policy)
        self.saved += before.calm is not None and self.state.calm is before.calm
        return made


@dataclass(frozen=True)
class Drive:
    """Some seconds of STATUS at 5 Hz and signals at 10 Hz; engine speed and supply go on by their steps."""

    seconds: float
    kl15: bool | None
    rpm: int
    rpm_step: int
    mv: int
    mv_step: int
    key: KeyPosition | None
    ready: bool | None
    seated: bool
    locked: bool
    age_ms: int


drives = st.builds(
    Drive,
    st.sampled_from([0.3, 1.0, 3.0, 6.0]),
    st.sampled_from([True, True, True, False, None]),
    st.sampled_from([0, 350, 398, 800]),
    st.sampled_from([0, 0, 1, 30]),
    st.sampled_from([11_400, 11_990, 12_600, 13_190, 13_800]),
    st.sampled_from([0, 0, 3, -3, 40]),
    st.sampled_from([None, None, *KeyPosition]),
    st.sampled_from([None, None, True, False]),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([0, 0, 0, 300, 1400, 1499, 1600]),
)


@dataclass(frozen=True)
class Late:
    """Time in which no deadline is served: a process that was stopped."""

    ms: int


class Restart:
    """Another run of the agent."""


Act = Drive | Late | Restart | Policy | Observation
AT = BootNs(0)
at_once = st.just(AT)
maybe = st.sampled_from([True, True, True, False, None])
single: st.SearchStrategy[Observation] = st.one_of(
    st.builds(
        status, at_once, authenticated=st.sampled_from([True, True, True, False]), seated=maybe, locked=maybe,
        kl15=maybe, dock=st.sampled_from(["dock", "dock", "dock", "other"]),
        vehicle_mv=st.sampled_from([None, 9000, 11_400, 12_600, 13_199, 13_200]),
    ),
    st.builds(DockProof, at_once, st.sampled_from(["dock", "dock", "other"]), at_once),
    st.builds(DockForeign, at_once, st.just("dock"), st.sampled_from(ForeignReason), at_once),
    st.builds(
        CanSignal, at_once, st.just("can"), st.sampled_from(SignalKind),
        st.sampled_from([0, 1, 399, 400, 9000, 13_199, 13_200, True, False, *KeyPosition]),
    ),
    st.builds(CanBus, at_once, st.just("can"), st.sampled_from(BusState)),
    st.builds(TabletPower, at_once, maybe, st.sampled_from([3, 12, 80]), st.just(-500), st.none(), st.none()),
    st.builds(SleepSignal, at_once, st.booleans()),
    st.builds(ShutdownSignal, at_once, st.booleans()),
    st.builds(PowerOutcome, at_once, st.sampled_from(PowerVerb), st.booleans(), st.just("")),
    st.builds(DeadlineReached, at_once),
)  # fmt: skip
gaps_ms = st.sampled_from([0, 0, 1, 90, 200, 700, 1499, 1500, 2000, 4000, 11_000])
late = st.builds(Late, st.sampled_from([200, 700, 2000, 5000]))
acts = st.one_of(drives, drives, drives, single, single, policies, st.just(Restart()), late)
lives = st.lists(st.tuples(gaps_ms, acts), max_size=14)


def drive(core: Core, act: Drive) -> None:
    begin = core.now
    for n in range(max(1, round(act.seconds * 10))):
        core.until(BootNs(begin + n * 100 * MS))
        now = core.now
        if n % 2 == 0:
            evidence_at = BootNs(now - act.age_ms * MS)
            mv = act.mv + n * act.mv_step
            held = {"seated": act.seated, "locked": act.locked}
            core.see(status(now, evidence_at=evidence_at, kl15=act.kl15, vehicle_mv=mv, **held))
        core.rpm(act.rpm + n * act.rpm_step)
        core.see(CanSignal(now, "can", SignalKind.SPEED, n))
        core.see(CanSignal(now, "can", SignalKind.BATTERY, act.mv + n * act.mv_step))
        if act.key is not None:
            core.key(act.key)
        if act.ready is not None:
            core.see(CanSignal(now, "can", SignalKind.READY, act.ready))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policies, lives)
def test_a_saved_step_differs_in_nothing_from_one_in_full(
    policy: Policy, life: list[tuple[int, Act]]
) -> None:
    core = Twins(policy, at_s=100)
    core.start()
    core.dock(1)
    for gap_ms, act in life:
        core.run(gap_ms / 1000)
        match act:
            case Drive():
                if core.now >= core.last_proof + 20 * SECOND:
                    core.proof()
                drive(core, act)
            case Late(ms):
                core.now = BootNs(core.now + ms * MS)
            case Restart():
                core.restart(core.remembered)
            case Policy():
                core.policy = act
                core.see(DeadlineReached(core.now))
            case DockStatus() | DockProof() | DockForeign():
                core.see(replace(act, at=core.now, evidence_at=core.now))
            case Observation():
                core.see(replace(act, at=core.now))


def test_a_quiet_drive_is_hardly_ever_settled() -> None:
    core = Twins(at_s=100)
    core.start()
    steps = 0
    for _ in range(20):
        core.proof()
        drive(core, Drive(20, True, 800, 1, 13_800, 1, KeyPosition.ON, None, True, True, 100))
        steps += 4 * 200 + 100
    assert core.saved > 0.99 * steps


PLAIN = Drive(1, True, 0, 0, 12_600, 0, None, None, True, True, 0)
LOCKED_ONLY = replace(SHORT, tether=replace(SHORT.tether, required=(DockBit.LOCKED,)))


@pytest.mark.parametrize(
    "drives",
    [
        pytest.param([replace(PLAIN, ready=False), replace(PLAIN, ready=True)], id="ready"),
        pytest.param([replace(PLAIN, kl15=None, mv=13_190, mv_step=1, seconds=4)], id="charging"),
        pytest.param([replace(PLAIN, kl15=None, mv=13_220, mv_step=-1, seconds=4)], id="no longer charging"),
        pytest.param([PLAIN, replace(PLAIN, locked=False)], id="unlocked"),
        pytest.param([replace(PLAIN, locked=False), replace(PLAIN, locked=False, seated=False)], id="out"),
        pytest.param([replace(PLAIN, mv=12_030, mv_step=-1, seconds=15)], id="warn"),
        pytest.param([replace(PLAIN, mv=11_570, mv_step=-1, seconds=18)], id="act"),
        pytest.param([replace(PLAIN, mv=13_170, mv_step=1, seconds=15)], id="restore"),
    ],
)
@pytest.mark.parametrize("proved", [True, False])
def test_what_is_new_is_settled_at_once(drives: list[Drive], proved: bool) -> None:
    core = Twins(LOCKED_ONLY, at_s=100)
    core.start()
    core.run(LOCKED_ONLY.tether.start_allowance_s)
    if proved:
        core.proof()
    for each in drives:
        drive(core, each)
    assert core.saved > 0


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        pytest.param(SignalKind.BATTERY, range(13_190, 13_210), id="charging"),
        pytest.param(SignalKind.BATTERY, range(13_210, 13_190, -1), id="no longer charging"),
        pytest.param(SignalKind.ALTERNATOR, range(13_190, 13_210), id="charging by the alternator"),
        pytest.param(SignalKind.BATTERY, [13_800] * 60, id="charging on"),
        pytest.param(SignalKind.BATTERY, range(12_020, 11_900, -1), id="low"),
        pytest.param(SignalKind.ENGINE_SPEED, [350] * 100, id="cranking"),
        pytest.param(SignalKind.ENGINE_SPEED, range(390, 410), id="cranked to running"),
        pytest.param(SignalKind.IGNITION, [KeyPosition.ON] * 30, id="key"),
        pytest.param(SignalKind.READY, [True] * 30, id="ready"),
    ],
)
def test_a_bus_without_a_dock_is_settled_as_in_full(
    kind: SignalKind, values: Sequence[int | KeyPosition]
) -> None:
    core = Twins(SHORT, at_s=100)
    core.start()
    for value in values:
        core.see(CanSignal(core.now, "can", kind, value))
        core.run(0.1)


def test_a_dock_without_a_bus_is_settled_as_in_full() -> None:
    core = Twins(SHORT, at_s=100)
    core.start()
    core.dock(7)
    core.dock(8, vehicle_mv=10_000)  # a fall that opens a crank window, which closes after 5 s
    core.dock(3)
    assert core.saved > 0


def test_evidence_does_not_undo_what_was_due_before_it_came() -> None:
    core = Core().tethered(kl15=None)  # with the wire known, that it was stale would be news as well
    core.now = BootNs(core.now + 1600 * MS)
    core.see(status(core.now, kl15=None))
    rules = [record.as_dict()["rule"] for record in core.records(TETHER_CHANGED)]
    assert rules == ["tether.evidence_lost", "tether.proven"]


def test_another_policy_is_settled_at_once() -> None:
    core = Core().tethered(kl15=False)
    short = replace(core.policy, power=replace(core.policy.power, run_on_s=60))
    obs = status(core.now, kl15=False)
    calm, effects = step(core.state, obs, core.policy)
    assert calm.calm is core.state.calm
    assert effects == ()
    assert next_deadline(calm, short) == next_deadline(replace(calm), short)
    _, effects = step(core.state, obs, short)
    assert Announce("sleeping") in effects


def test_a_state_made_by_others_is_settled_in_full() -> None:
    core = Core().tethered()
    grant = Grant("override", BootNs(core.now + 50 * MS))
    core.state = replace(core.state, tether=replace(core.state.tether, grants=(grant,)))
    assert next_deadline(core.state, core.policy) == grant.until
