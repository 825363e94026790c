"""Faults and their schedules: bounded, printed, read back, played, and over when they should be."""

from __future__ import annotations

import json
import random
from dataclasses import FrozenInstanceError, fields
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simulator.faults
from agent.core.types import MS, SECOND, BootNs
from simulator.faults.base import Fault, FaultError, Span
from simulator.faults.can_bus import SilentBus
from simulator.faults.dock_wire import BitFlip, ByteLoss
from simulator.faults.knobs import Step
from simulator.faults.machine import KillAgent, WallClockJump
from simulator.faults.network import HalfOpen, Reconnects, SilentPeer
from simulator.faults.registry import families, from_json, registry
from simulator.faults.schedule import HOUR_MS, MOST_ENTRIES, NEAR_MS, Entry, Schedule, draw, play, swarm
from simulator.faults.supply import BrownOutRamp, IgnitionBounce
from tests.fault_world import KnobWorld

KINDS = [*registry().values()]
SEEDS = st.integers(0, 100_000)


# --- each fault --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name())
class TestEachFault:
    def test_it_goes_through_json_and_prints_as_one_line(self, kind: type[Fault]) -> None:
        for seed in range(50):
            fault = kind.draw(random.Random(seed))
            assert fault == kind.draw(random.Random(seed))
            assert from_json(json.loads(json.dumps(fault.to_json()))) == fault
            assert str(fault).startswith(kind.name())
            assert "\n" not in str(fault)

    def test_it_says_what_goes_wrong_and_cannot_be_changed(self, kind: type[Fault]) -> None:
        assert kind.__doc__
        assert "(" not in kind.__doc__.split("\n")[0][:20], "a dataclass's signature is no description"
        fault = kind.draw(random.Random(1))
        for field in fields(fault):
            with pytest.raises(FrozenInstanceError):
                setattr(fault, field.name, 1)

    def test_its_parameters_have_bounds_that_hold(self, kind: type[Fault]) -> None:
        values = {field.name: getattr(kind.draw(random.Random(1)), field.name) for field in fields(kind)}
        for field in fields(kind):
            with pytest.raises(FaultError, match=field.name):
                kind(**{**values, field.name: "much"})
            bounds = field.metadata.get("span")
            for value in () if bounds is None else (bounds.least - 1, bounds.most + 1, 1.5, True):
                with pytest.raises(FaultError, match=field.name):
                    kind(**{**values, field.name: value})

    def test_it_turns_the_knobs_that_it_holds_and_no_other_and_puts_them_back(
        self, kind: type[Fault]
    ) -> None:
        for seed in range(20):
            fault = kind.draw(random.Random(seed))
            world = KnobWorld()
            play(Schedule(10_000, (Entry(1_000, 5_000, fault),)), world, BootNs(0))
            world.agenda.run_until(BootNs(1_000 * MS - 1))
            assert not world.turned
            world.agenda.run_until(BootNs(6_000 * MS))
            assert set(world.turned) == kind.holds
            assert world.off_rest() == {}

    def test_something_is_wrong_while_it_lasts(self, kind: type[Fault]) -> None:
        world = KnobWorld()
        fault = kind.draw(random.Random(3))
        play(Schedule(200_000, (Entry(1_000, 100_000, fault),)), world, BootNs(0))
        world.agenda.run_until(BootNs(90_000 * MS))
        assert world.off_rest() or world.network.drops


OF_THE_DESIGN = {
    "dock-wire": {
        "byte-loss",
        "bit-flip",
        "split-writes",
        "merged-writes",
        "delayed-bytes",
        "duplicated-writes",
        "replaying-relay",
    },
    "dock-attack": {
        "forging-dock",
        "twin-dock",
        "reflector",
        "second-dock",
        "changed-frames",
        "version-downgrade",
    },
    "dock-plug": {"unplug", "other-device", "foreign-dock", "replayed-dock"},
    "can-bus": {"bus-off", "silent-bus", "frozen-counter", "foreign-frames"},
    "supply": {"brown-out-ramp", "ignition-bounce", "stuck-ignition", "power-cut"},
    "disk": {"disk-full", "disk-read-only", "disk-errors", "slow-disk", "torn-writes"},
    "network": {"network-cut", "silent-peer", "half-open", "slow-network", "reconnects"},
    "fleet": {
        "puback-lost",
        "ack-lost",
        "duplicate-delivery",
        "silent-depot",
        "depot-restored",
        "broker-restart",
    },
    "guard": {"agent-stopped", "guard-down"},
    "grants": {"override-taken", "permit-loaded"},
    "tablet": {"wall-clock-jump", "suspend-and-resume", "kill-agent", "lock-ignored"},
}


def test_the_design_s_faults_are_there() -> None:
    there = families()
    assert {name: names - {kind.name() for kind in there[name]} for name, names in OF_THE_DESIGN.items()} == {
        name: set() for name in OF_THE_DESIGN
    }


def test_a_fault_s_file_is_all_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stuck_door.py").write_text(
        "from simulator.faults.disk import DiskFull\nclass StuckDoor(DiskFull):\n    '''It sticks.'''\n"
    )
    monkeypatch.setattr(simulator.faults, "__path__", [*simulator.faults.__path__, str(tmp_path)])
    registry.cache_clear()
    try:
        assert registry()["stuck-door"].family == "disk"
    finally:
        registry.cache_clear()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"fault": "gremlin"}, "no fault 'gremlin'; there are ack-lost, agent-stopped"),
        ({}, "no fault"),
        ({"fault": "byte-loss"}, r"byte-loss: its parameters are \['permille'\], not \[\]"),
        ({"fault": "byte-loss", "permille": 5, "hue": 1}, "its parameters are"),
        (
            {"fault": "byte-loss", "permille": 2000},
            "permille is a whole number from 1 to 1000, not 2000",
        ),
        ({"fault": "kill-agent", "after": 1, "of": "days"}, r"of is one of \['effects', 'writes'\]"),
        ({"fault": "broker-restart", "keep": 1}, "keep is true or false, not 1"),
    ],
)
def test_what_is_no_fault_is_refused_by_name(data: dict[str, object], words: str) -> None:
    with pytest.raises(FaultError, match=words):
        from_json(data)


@given(st.integers(0, 10**9), st.integers(0, 10**9), SEEDS)
def test_a_span_draws_within_its_bounds(one: int, other: int, seed: int) -> None:
    bounds = Span(min(one, other), max(one, other))
    assert bounds.draw(random.Random(seed)) in bounds


def test_a_span_draws_every_order_of_magnitude() -> None:
    rng = random.Random(1)
    drawn = [Span(1, 100_000).draw(rng) for _ in range(2_000)]
    for least in (1, 10, 100, 1_000, 10_000):
        assert sum(least <= value < 10 * least for value in drawn) > 200


# --- faults that move ----------------------------------------------------------------------------------


def test_a_brown_out_sinks_in_small_steps_to_its_depth_and_stays_there() -> None:
    world = KnobWorld()
    fault = BrownOutRamp(depth_mv=6_000, ramp_ms=1_000)
    play(Schedule(5_000, (Entry(0, 3_000, fault),)), world, BootNs(0))
    sags = []
    for ms in range(2_999):
        world.agenda.run_until(BootNs(ms * MS))
        sags.append(world.wiring.sag_mv)
    assert sags == sorted(sags)
    assert sags[-1] == sags[1_001] == 6_000
    assert max(later - earlier for earlier, later in pairwise(sags)) <= 300


def test_a_bouncing_ignition_shows_both_values_in_turn() -> None:
    world = KnobWorld()
    play(Schedule(5_000, (Entry(0, 1_000, IgnitionBounce(period_ms=100)),)), world, BootNs(0))
    seen = []
    for ms in range(50, 1_000, 100):
        world.agenda.run_until(BootNs(ms * MS))
        seen.append(world.wiring.kl15)
    assert seen == [False, True] * 5


def test_reconnects_end_a_connection_a_period() -> None:
    world = KnobWorld()
    play(Schedule(5_000, (Entry(0, 1_000, Reconnects(period_ms=100)),)), world, BootNs(0))
    world.agenda.run_until(BootNs(5 * SECOND))
    assert world.network.drops == 10


# --- schedules -----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 14 * 24))
def test_a_drawn_schedule_is_bounded_ordered_over_in_time_and_goes_through_json(
    seed: int, hours: int
) -> None:
    schedule = draw(random.Random(seed), hours * HOUR_MS)
    assert schedule == draw(random.Random(seed), hours * HOUR_MS)
    assert len(schedule.entries) <= MOST_ENTRIES
    assert all(entry.at_ms >= 0 and entry.end_ms <= hours * HOUR_MS for entry in schedule.entries)
    assert all(entry.for_ms in entry.fault.length_ms for entry in schedule.entries)
    assert Schedule.from_json(schedule.to_json()) == schedule
    assert len(str(schedule).splitlines()) == len(schedule.entries) + 1


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_played_to_its_end_a_schedule_leaves_every_knob_at_rest(seed: int) -> None:
    world, start = KnobWorld(), BootNs(7 * SECOND)
    schedule = draw(random.Random(seed), 2 * HOUR_MS, on=families())
    active: list[Fault] = []
    started: list[Fault] = []

    def note(fault: Fault, on: bool) -> None:
        if on:
            assert not any(fault.holds & other.holds for other in active)
            active.append(fault)
            started.append(fault)
        else:
            active.remove(fault)

    play(schedule, world, start, note)
    world.agenda.run_until(BootNs(start + schedule.quiet_ms * MS))
    assert started == [entry.fault for entry in schedule.entries]
    assert active == []
    assert world.off_rest() == {}
    assert world.agenda.next_at() is None


def test_swarms_switch_each_family_on_and_off() -> None:
    swarms = [swarm(random.Random(seed)) for seed in range(200)]
    for name in families():
        assert 60 < sum(name in on for on in swarms) < 140
    assert all(swarms)
    for seed in range(20):
        assert draw(random.Random(seed), 24 * HOUR_MS).families() <= swarm(random.Random(seed))


def test_the_families_can_be_named() -> None:
    schedule = draw(random.Random(4), 24 * HOUR_MS, on=["disk"])
    assert schedule.families() == {"disk"}
    assert draw(random.Random(4), 24 * HOUR_MS, on=[]).entries == ()
    with pytest.raises(FaultError, match="no family of faults weather; there are can-bus, disk"):
        draw(random.Random(4), 24 * HOUR_MS, on=["disk", "weather"])


def test_every_fault_is_drawn_by_some_seed() -> None:
    drawn = {
        type(entry.fault) for seed in range(60) for entry in draw(random.Random(seed), 24 * HOUR_MS).entries
    }
    assert drawn == set(KINDS)


def test_most_faults_begin_near_what_happens_anyway() -> None:
    moments = [HOUR_MS, 20 * HOUR_MS]
    entries = [
        entry
        for seed in range(20)
        for entry in draw(random.Random(seed), 24 * HOUR_MS, near_ms=moments).entries
    ]
    near = [entry for entry in entries if any(abs(entry.at_ms - at) <= NEAR_MS for at in moments)]
    # Faults that would overlap another are left out, and near ones overlap more.
    assert 0.2 < len(near) / len(entries) < 0.8


def test_a_schedule_holds_no_knob_twice_at_a_time() -> None:
    with pytest.raises(FaultError, match=r"network\.stall_down is held by an earlier fault"):
        Schedule(10_000, (Entry(0, 5_000, HalfOpen()), Entry(5_000, 100, SilentPeer())))
    Schedule(10_000, (Entry(0, 5_000, HalfOpen()), Entry(5_001, 100, SilentPeer())))


@pytest.mark.parametrize(
    "entries",
    [
        (Entry(-1, 100, SilentBus()),),
        (Entry(0, 0, SilentBus()),),
        (Entry(950, 100, SilentBus()),),
        (Entry(500, 100, SilentBus()), Entry(0, 100, HalfOpen())),
    ],
)
def test_a_schedule_lies_in_order_between_its_bounds(entries: tuple[Entry, ...]) -> None:
    with pytest.raises(FaultError):
        Schedule(1_000, entries)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"quiet_ms": 5}',
        '{"quiet_ms": 5, "entries": [7]}',
        '{"quiet_ms": 5, "entries": [{"fault": "bus-off"}]}',
        '{"quiet_ms": 5, "entries": [{"fault": "bus-off", "at_ms": 0, "for_ms": 1.5}]}',
        '{"quiet_ms": 5, "entries": [{"fault": ["bus-off"], "at_ms": 0, "for_ms": 1}]}',
        '{"quiet_ms": "x", "entries": [{"fault": "bus-off", "at_ms": 0, "for_ms": 1}]}',
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(FaultError):
        Schedule.from_json(text)


def test_a_schedule_reads_well() -> None:
    entries = (
        Entry(500, 1_250, BitFlip(permille=7)),
        Entry(60_000, 1, KillAgent(of=Step.WRITES, after=3)),
        Entry(70_000, 9, WallClockJump(by_s=-60)),
    )
    assert str(Schedule(90_000, entries)).splitlines() == [
        "       0.500 s  for      1.250 s  bit-flip permille=7",
        "      60.000 s  for      0.001 s  kill-agent of=writes after=3",
        "      70.000 s  for      0.009 s  wall-clock-jump by_s=-60",
        "      90.000 s  quiet",
    ]
    lines = Schedule(90_000, entries).to_json().splitlines()
    assert json.loads(lines[1].rstrip(",")) == {
        "at_ms": 500,
        "for_ms": 1_250,
        "fault": "bit-flip",
        "permille": 7,
    }


def test_a_lost_byte_is_the_same_fault_whoever_draws_it() -> None:
    assert ByteLoss(permille=3) == ByteLoss(permille=3) != ByteLoss(permille=4)
    assert len({ByteLoss(permille=3), ByteLoss(permille=3)}) == 1
