"""Invariants 4, 5 and 9 over random streams of evidence that agree, contradict, fall silent and come back.

What a source last said, and for how long that counts, is kept by a model of its own beside the core.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import cache

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from agent.core.policy import IgnitionPolicy, Policy, PowerPolicy, TetherPolicy
from agent.core.state import IN_USE, IgnitionState, PowerMode
from agent.core.types import MS, SECOND, BootNs, Drained, KeyPosition, RequestPower, TabletPower
from simulator.compose_virtual import Options, World
from simulator.virtual import events as ev
from tests.core_driver import Core, status

RUN_ON_S = 6
POLICY = Policy(
    tether=TetherPolicy(refill_after_s=2),
    ignition=IgnitionPolicy(stuck_s=3600),  # no stream is so long: a wire that says ON counts
    power=PowerPolicy(
        run_on_s=RUN_ON_S, max_s=30, unknown_s=10, drain_s=3, suspend_drain_s=2, act_s=4, warn_s=4,
        filter_s=1, budget_wh=1, floor_s=2, retry_s=5, cut_s=5, resume_awake_s=4, hot_s=3,
    ),
)  # fmt: skip
IGNITION = POLICY.ignition
NEVER = -(10**18)
STEP_MS = 200
ON_KEYS = (KeyPosition.ON, KeyPosition.START)


@dataclass(frozen=True)
class Stretch:
    """Some time in which every source says the same; None: it is silent."""

    seconds: float
    wire: bool | None
    key: KeyPosition | None
    rpm: int | None
    mv: int
    percent: int = 80
    dock: bool = True


stretches = st.builds(
    Stretch,
    st.sampled_from([0.2, 0.6, 1.2, 3.0, 9.0, 14.0]),
    st.sampled_from([True, False, False, None]),
    st.sampled_from([None, None, *KeyPosition]),
    st.sampled_from([None, None, 0, 200, 800]),
    st.sampled_from([9000, 11_200, 11_900, 12_600, 14_000]),
    st.sampled_from([80, 80, 10]),
    st.sampled_from([True, True, True, False]),
)
streams = st.lists(stretches, min_size=1, max_size=8)


@dataclass
class Sources:
    """What each said last, and when."""

    on_at: dict[str, int] = field(default_factory=dict)
    off_at: dict[str, int] = field(default_factory=dict)

    def say(self, source: str, now: int, *, on: bool | None) -> None:
        """``on`` None: something, but neither."""
        self.on_at[source] = now if on is True else NEVER
        if on is False:  # kept when it says something else: a verdict waits for its delay
            self.off_at[source] = now

    def says_on(self, now: int) -> bool:
        return any(now < at + _fresh_ns(source) for source, at in self.on_at.items())

    def said_off(self, now: int, grace_ns: int) -> bool:
        return any(now < at + _fresh_ns(source) + grace_ns for source, at in self.off_at.items())


def _fresh_ns(source: str) -> int:
    return (IGNITION.wire_fresh_ms if source == "wire" else IGNITION.can_fresh_ms) * MS


class Played:
    """A core that hears a stream, with the model that hears the same."""

    def __init__(self) -> None:
        self.core = Core(POLICY, at_s=100).tethered(kl15=False)
        self.sources = Sources()
        self.sources.say("wire", self.core.now, on=False)
        self.last_on = self.crank_at = NEVER

    def hear(self, stretch: Stretch) -> None:
        core, sources = self.core, self.sources
        core.see(TabletPower(core.now, True, stretch.percent, -300, 8000, 250))
        for _ in range(max(1, round(stretch.seconds * 1000 / STEP_MS))):
            now = core.now
            if stretch.dock:
                if now >= core.last_proof + 30 * SECOND:
                    core.proof()
                if stretch.wire is not None:
                    sources.say("wire", now, on=stretch.wire)
                core.see(status(now, kl15=stretch.wire, vehicle_mv=stretch.mv, tablet_ma=9000))
            if stretch.key is not None:
                on = True if stretch.key in ON_KEYS else False if stretch.key is KeyPosition.OFF else None
                sources.say("key", now, on=on)
                core.key(stretch.key)
            if stretch.rpm is not None:
                sources.say("rpm", now, on=True if stretch.rpm else None)
                core.rpm(stretch.rpm)
            core.see(Drained(now, 0))
            self.check()
            core.run(STEP_MS / 1000)
            self.check()

    def check(self) -> None:
        """After each step; ``core.effects`` are those since the last."""
        core, now, power = self.core, self.core.now, self.core.state.power
        for effect in core.effects:
            if isinstance(effect, RequestPower) and effect.cause.rule != "power.hard_floor":
                at = effect.cause.at
                assert not self.sources.says_on(at), f"{effect.cause.rule} while a fresh source says ON"
                assert not self.sources.says_on(now), f"{effect.cause.rule} asked for while one says ON"
                if effect.cause.rule == "power.run_on_over":
                    assert at >= self.last_on + RUN_ON_S * SECOND, "the run-on is older than the last use"
        core.effects.clear()
        if core.state.ignition.state in IN_USE:
            self.last_on = now  # a word of a moment, which no verdict follows, begins no run-on anew
        past_return = power.mode in (PowerMode.SHUTTING_DOWN, PowerMode.POWERING_OFF)
        if core.state.ignition.state in IN_USE and not past_return:
            assert power.run_on_since is None, "a run-on timer survives ignition ON"
        # A verdict may wait for its delay before it changes, and a crank window holds it.
        grace_ns = max(IGNITION.settle_ms, IGNITION.off_debounce_ms) * MS
        if core.state.ignition.crank is not None:
            self.crank_at = now
        if core.state.ignition.state is IgnitionState.OFF and now > self.crank_at + grace_ns:
            assert self.sources.said_off(now, grace_ns), "OFF, and no source has said so"


# Without shrinking: a failure prints its stream, and to shrink it takes minutes.
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
OFF_LONG = Stretch(9.0, False, None, None, 12_600)
KEY_ONLY = Stretch(9.0, None, KeyPosition.ON, None, 12_600)


@settings(max_examples=40, deadline=None, phases=QUICK)
@given(streams)
@example([OFF_LONG, Stretch(3.0, True, None, None, 12_600), Stretch(3.0, False, None, None, 12_600)])
@example([OFF_LONG, KEY_ONLY, Stretch(14.0, None, None, None, 11_200)])
@example([Stretch(9.0, True, KeyPosition.ON, 800, 9000, 10), Stretch(14.0, True, None, None, 9000, 10)])
@example([Stretch(14.0, None, None, None, 12_600, dock=False), KEY_ONLY])
def test_4_and_5_no_shutdown_while_a_source_says_on_and_silence_is_never_off(stream: list[Stretch]) -> None:
    played = Played()
    for stretch in stream:
        played.hear(stretch)


@settings(max_examples=20, deadline=None, phases=QUICK)
@given(streams)
def test_5_when_all_is_silent_the_verdict_is_unknown_whatever_was_said_before(stream: list[Stretch]) -> None:
    played = Played()
    for stretch in stream:
        played.hear(stretch)
    played.core.run(IGNITION.crank_max_s + 5)
    assert played.core.state.ignition.state is IgnitionState.UNKNOWN


@cache
def decided(jumps: tuple[tuple[int, int], ...]) -> list[tuple[int, str, tuple[tuple[str, object], ...]]]:
    """Records of decisions of the whole agent over two minutes, with the wall clock set at those seconds."""
    with contextlib.closing(World(5, Options())) as world:
        found: list[tuple[int, str, tuple[tuple[str, object], ...]]] = []

        def attempted(event: ev.Event) -> None:
            assert isinstance(event, ev.Attempted)
            found.extend(
                (record.at, record.kind.name, tuple(record.as_dict().items()))
                for record in event.records if record.kind.name.endswith(".changed")
            )  # fmt: skip

        def jump(by_s: int) -> None:
            world.clock.step_wall(by_s * SECOND)

        world.events.subscribe(attempted, ev.Attempted)
        for at_s, by_s in jumps:
            world.at(BootNs(at_s * SECOND), lambda by_s=by_s: jump(by_s))  # type: ignore[misc]
        for at_s, position in ((20, KeyPosition.ON), (50, KeyPosition.ACCESSORY), (60, KeyPosition.OFF)):
            world.at(BootNs(at_s * SECOND), lambda position=position: world.turn_key(position))  # type: ignore[misc]
        world.at(BootNs(25 * SECOND), world.crank)
        world.at(BootNs(80 * SECOND), world.undock)
        world.at(BootNs(95 * SECOND), world.seat)
        world.run_until(BootNs(110 * SECOND))
        return found


@settings(max_examples=2, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 105), st.integers(-(10**8), 10**8)), min_size=1, max_size=8))
@example([(20, 3600), (40, -86_400 * 365), (85, 10**8)])
def test_9_whatever_the_wall_clock_does_every_decision_is_the_same(jumps: list[tuple[int, int]]) -> None:
    undisturbed = decided(())
    names = {name for _, name, _ in undisturbed}
    assert names >= {"ignition.changed", "tether.changed", "enforcement.changed"}
    assert decided(tuple(jumps)) == undisturbed
