"""What a step of the core costs, what a STATUS costs at both ends of the wire, and what days of them cost.

`python tests/bench/bench_core.py`. CPU time, best of several rounds; the limit, a call that does nothing with
the same observations, is measured in turn with each. Prints one line of JSON a figure; exit 1 if a goal is
missed. Tight loops find all code in the caches: within a whole agent a step takes about twice as long.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agent.core.machine import next_deadline, step, step_in_full
from agent.core.policy import Policy
from agent.core.state import State
from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CanSignal,
    DeadlineReached,
    DockFault,
    DockProof,
    DockStatus,
    Effects,
    KeyPosition,
    Observation,
    SignalKind,
    SleepSignal,
    TabletPower,
)
from drivers.vehicles import vw_mqb
from drivers.vehicles.watch import CompiledProfile
from tests.core_driver import Core
from tests.dock_rig import Rig

ROUNDS = 9
COUNT = 3000
TICK_NS = 200 * MS  # a STATUS (5 Hz) and two signals
PROOF_TICKS, STOP_TICKS = 150, 9000  # a proof every 30 s; the engine is stopped and started every 30 min
MEASURED_H, BUSY_H = 1, 10
WEEK_H = 7 * 24

Step = Callable[[State, Observation, Policy], tuple[State, Effects]]


def dock_status(at: BootNs, mv: int, ma: int, *, kl15: bool = True) -> DockStatus:
    none = DockFault.NONE
    return DockStatus(at, "dock", at, True, True, True, True, kl15, mv, 12_000, ma, 250, none)


def nothing(state: State, _obs: Observation, _policy: Policy) -> tuple[State, Effects]:
    return state, ()


def driven() -> Core:
    """A tablet in its dock, engine running, all evidence fresh."""
    core = Core().tethered(vehicle_mv=13_800)
    core.proof()
    for _ in range(30):
        core.rpm(800)
        core.key(KeyPosition.ON)
        core.dock(0.2, vehicle_mv=13_800)
    return core


def seconds(run: Callable[[], object]) -> float:
    begun = time.process_time()  # what others take of the core does not count
    run()
    return time.process_time() - begun


def best(*runs: Callable[[], object]) -> list[float]:
    """The best time of each in s, all in turn: a busy machine is busy for all of them."""
    rounds = [[seconds(run) for run in runs] for _ in range(ROUNDS)]
    return [min(times) for times in zip(*rounds, strict=True)]


def tell(name: str, value: float, unit: str, goal: float | None = None, **more: float) -> bool:
    line: dict[str, object] = {"bench": "core", "name": name, unit: round(value, 3)}
    if unit == "us":
        line["per_s"] = round(1e6 / value)
    line |= {key: round(figure, 3) for key, figure in more.items()}
    if goal is not None:
        line |= {"goal": goal, "holds": value <= goal}
    print(json.dumps(line), flush=True)
    return goal is None or value <= goal


def steps(name: str, core: Core, observations: Sequence[Observation], goal: float) -> bool:
    def run(how: Step) -> Callable[[], None]:
        def all_of_them() -> None:
            state = core.state
            for obs in observations:
                state, _ = how(state, obs, core.policy)

        return all_of_them

    times = best(run(step), run(step_in_full), run(nothing))
    ours, full, limit = (1e6 * took / len(observations) for took in times)
    return tell(name, ours, "us", goal, in_full_us=full, bare_loop_us=limit)


def single_steps() -> list[bool]:
    core = driven()
    now = core.now
    statuses = [dock_status(BootNs(now + n * 2 * MS), 13_800 + n % 7, 900 + n % 11) for n in range(COUNT)]
    signals = [
        CanSignal(BootNs(now + n * MS), "can", SignalKind.ENGINE_SPEED, 800 + n % 40) for n in range(1000)
    ]
    voltages = [
        CanSignal(BootNs(now + n * MS), "can", SignalKind.BATTERY, 13_800 + n % 9) for n in range(1000)
    ]

    def deadlines() -> None:
        state, policy = core.state, core.policy
        for _ in range(COUNT):
            next_deadline(state, policy)

    return [
        steps("status", core, statuses, 10),
        steps("engine_speed", core, signals, 5),
        steps("voltage", core, voltages, 5),
        tell("next_deadline", 1e6 * best(deadlines)[0] / COUNT, "us", 2),
    ]


def wires() -> list[bool]:
    """A STATUS from the dock's sensors to the observation; a lease and its answer; a CAN frame."""

    def rig() -> Rig:
        each = Rig()
        each.run(10 * SECOND)
        return each

    def statuses() -> None:
        for n in range(COUNT):
            at = BootNs(link.at + n * MS)
            dock._send_status(at)
            session.feed(dock.outgoing(), at)
            session.outgoing()
            session.next_deadline()
            dock.next_deadline()

    def leases() -> None:
        at = other.at
        for _ in range(COUNT):
            at = BootNs(at + 450 * MS)
            other.session.timer(at)
            other.dock.feed(other.session.outgoing(), at)
            other.session.feed(other.dock.outgoing(), at)
        other.at = at

    def frames_of_a_bus() -> None:
        for n, frame in enumerate(frames):
            watch.feed((frame,), BootNs(n * 100 * MS))

    link, other = rig(), rig()
    session, dock = link.session, link.dock
    watch = CompiledProfile(vw_mqb(), "powertrain")
    engine = vw_mqb().frames[1]
    frames = [engine.encode({SignalKind.ENGINE_SPEED: 800 + n % 40}, n) for n in range(COUNT)]
    both, lease, can = (1e6 * took / COUNT for took in best(statuses, leases, frames_of_a_bus))
    return [
        tell("status_both_ends", both, "us", 25),
        tell("lease_and_ack_both_ends", lease, "us"),
        tell("can_frame", can, "us"),
    ]


def busy(hours: float) -> Iterator[Observation]:
    """STATUS at 5 Hz and ten signals a second; every half hour the engine stops for a minute."""
    for tick in range(round(hours * 3600 * SECOND / TICK_NS)):
        at = BootNs(100 * SECOND + tick * TICK_NS)
        since_stop = tick % STOP_TICKS
        off, cranks = since_stop < 300, 300 <= since_stop < 305
        if tick % PROOF_TICKS == 0:
            yield DockProof(at, "dock", at)
        mv = 12_500 if off else 9_500 if cranks else 13_900 + tick % 5
        yield dock_status(at, mv, 900 + tick % 13, kl15=not off)
        rpm = 0 if off else 250 if cranks else 780 + tick * 7 % 90
        yield CanSignal(at, "can", SignalKind.ENGINE_SPEED, rpm)
        match tick % 5:
            case 0:
                position = KeyPosition.OFF if off else KeyPosition.START if cranks else KeyPosition.ON
                yield CanSignal(at, "can", SignalKind.IGNITION, position)
            case 1 | 3:
                yield CanSignal(at, "can", SignalKind.SPEED, tick % 500)
            case _:
                yield CanSignal(at, "can", SignalKind.BATTERY, mv)


def quiet() -> Iterator[Observation]:
    """A parked week: every hour the tablet wakes for a minute, proves its dock, and goes back to sleep."""
    for hour in range(WEEK_H):
        woken = BootNs(100 * SECOND + hour * 3600 * SECOND)
        yield SleepSignal(woken, starting=False)
        yield TabletPower(
            woken, external=True, percent=80, battery_ma=0, battery_mv=None, temperature_dc=None
        )
        yield DockProof(woken, "dock", woken)
        for second in range(60):
            yield dock_status(BootNs(woken + second * SECOND), 12_600, 0, kl15=False)
        yield SleepSignal(BootNs(woken + 60 * SECOND), starting=True)


def live(observations: Iterator[Observation]) -> int:
    """The core as a simulated runtime drives it: every deadline is served, and asked for after each step."""
    core = Core()
    core.start()
    state, policy, steps = core.state, core.policy, 0
    due = next_deadline(state, policy)
    for obs in observations:
        # A tablet that sleeps serves no deadline.
        while due is not None and due <= obs.at and not isinstance(obs, SleepSignal):
            state, _ = step(state, DeadlineReached(due), policy)
            due = next_deadline(state, policy)
            steps += 1
        state, _ = step(state, obs, policy)
        due = next_deadline(state, policy)
        steps += 1
    return steps


def made(observations: Iterator[Observation]) -> None:
    """The limit: the same observations are made, and nobody looks at them."""
    for _ in observations:
        pass


def days() -> list[bool]:
    day, bare = best(lambda: live(busy(MEASURED_H)), lambda: made(busy(MEASURED_H)))
    week, bare_week = best(lambda: live(quiet()), lambda: made(quiet()))
    more, more_week = live(busy(MEASURED_H)), live(quiet())
    scale = BUSY_H / MEASURED_H
    return [
        tell("busy_day", day * scale, "s", 4, making_alone_s=bare * scale, steps_per_s=more / day),
        tell("quiet_week", week, "s", 1, making_alone_s=bare_week, steps_per_s=more_week / week),
    ]


def main() -> int:
    return 0 if all([*single_steps(), *wires(), *days()]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
