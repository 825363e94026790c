"""Invariants 6 and 13 over random evidence: chatter makes few changes, and a weak battery is let go of."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.core.catalogue import IGNITION_CHANGED, POWER_CHANGED, TETHER_CHANGED
from agent.core.ignition_words import crank_open
from agent.core.policy import Policy, PowerPolicy, TetherPolicy
from agent.core.types import MS, SECOND, BootNs, DeadlineReached, KeyPosition, TabletPower
from tests.core_driver import Core, status

POLICY = Policy(
    tether=TetherPolicy(refill_after_s=2),
    power=PowerPolicy(warn_s=5, act_s=5, filter_s=2, drain_s=3, run_on_s=600, max_s=1200),
)
# As simulator.invariants.ignition.BoundedChatter: into a state and out of it takes the delay of the way in.
WINDOW_S = 30
MOST_IGNITION = 2 * (WINDOW_S * 1000 // POLICY.ignition.on_debounce_ms + 1)
MOST_TETHER = 2 * (WINDOW_S * 1000 // POLICY.tether.return_ms + 1)
words = st.sampled_from([True, False, None])
keys = st.sampled_from([None, *KeyPosition])
speeds = st.sampled_from([None, 0, 200, 800])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(words, st.booleans(), keys, speeds, st.sampled_from([9000, 12_000, 14_000])),
             min_size=1, max_size=40),
    st.sampled_from([20, 50, 100, 190]),
)  # fmt: skip
def test_chatter_of_every_source_makes_a_bounded_number_of_changes(
    pattern: list[tuple[bool | None, bool, KeyPosition | None, int | None, int]], step_ms: int
) -> None:
    core = Core(POLICY, at_s=100).tethered()
    core.effects.clear()
    for n in range(WINDOW_S * 1000 // step_ms):
        kl15, seated, key, rpm, mv = pattern[n % len(pattern)]
        if n % 50 == 0:
            core.proof()
        core.see(status(core.now, kl15=kl15, seated=seated, vehicle_mv=mv))
        if key is not None:
            core.key(key)
        if rpm is not None:
            core.rpm(rpm)
        core.run(step_ms / 1000)
    assert len(core.records(IGNITION_CHANGED)) <= MOST_IGNITION
    assert len(core.records(TETHER_CHANGED)) <= MOST_TETHER
    assert len(core.records(POWER_CHANGED)) <= 2 * MOST_IGNITION


ALLOWED_S = 5 + 3 + 5 * 2 + 2  # the act delay, the drain, the filter and a step
voltages = st.lists(
    st.tuples(st.sampled_from([9500, 10_900, 11_400, 11_800, 12_100, 12_700, 13_500]), st.integers(1, 25)),
    min_size=1, max_size=14,
)  # fmt: skip


CRANKS = [(9500, 1), (11_400, 1)] * 45  # of an engine that does not start


@settings(max_examples=60, deadline=None)
@given(voltages, st.booleans(), st.sampled_from([None, 0]))
@example([(9500, 1), (9500, 1), (11_400, 1), (9500, 18)], False, None)
@example(CRANKS, False, None)
@example(CRANKS, True, 0)
def test_a_battery_below_the_act_threshold_is_let_go_of_within_the_act_delay(
    life: list[tuple[int, int]], kl15: bool, rpm: int | None
) -> None:
    """Whatever ignition says: nothing is taken from it, or the tablet is on its way off.

    The delay stands still while the engine may be cranked, which is never longer than a crank window.
    """
    core = Core(POLICY, at_s=100).tethered(kl15=kl15)
    core.see(TabletPower(core.now, True, 80, 300, 8000, 250))
    low_since: BootNs | None = None
    in_window_ns = 0
    for mv, seconds in life:
        for _ in range(seconds * 5):
            before = core.now
            if core.now >= core.last_proof + 30 * SECOND:
                core.proof()
            core.see(status(core.now, kl15=kl15, vehicle_mv=mv))
            if rpm is not None:
                core.rpm(rpm)
            core.run(0.2)
            limits = core.state.power.limits
            assert limits is not None
            low_since = (low_since or core.now) if mv < limits.act_mv else None
            if low_since is None:
                in_window_ns = 0
                continue
            if crank_open(core.state.ignition, core.now, POLICY.ignition):
                in_window_ns += core.now - before
                assert in_window_ns <= (POLICY.ignition.crank_max_s + 1) * SECOND
            if core.now < low_since + in_window_ns + ALLOWED_S * SECOND:
                continue
            ending = core.state.power.mode.value in ("shutting_down", "powering_off")
            assert ending or core.state.outputs.supply_enable is False


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 700 * MS), min_size=1, max_size=60), st.booleans())
def test_deadlines_that_come_early_late_or_twice_change_nothing_by_themselves(
    gaps: list[int], kl15: bool
) -> None:
    """A timer is a reminder: what is decided rests on evidence and its age."""
    quiet, poked = (Core(POLICY, at_s=100).tethered(kl15=kl15) for _ in range(2))
    start = quiet.now
    for gap in gaps:
        at = BootNs(poked.now + gap)
        poked.until(at)
        poked.see(DeadlineReached(at))
        poked.see(DeadlineReached(at))
    quiet.until(BootNs(start + sum(gaps)))
    assert quiet.state.tether.state is poked.state.tether.state
    assert quiet.state.ignition.state is poked.state.ignition.state
    assert quiet.state.power.mode is poked.state.power.mode
