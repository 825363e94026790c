"""One vehicle of a soak: its life under its faults, inspected, then with fewer faults. Composition root."""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from agent.core import machine
from agent.core.battery import REFERENCE_C, limits_at
from agent.core.policy import Policy
from agent.core.state import IgnitionState, PowerMode, TetherState, initial
from agent.core.types import MINUTE, MS, SECOND, BootNs, KeyPosition, Observation
from simulator.compose_virtual import Options, World
from simulator.faults import schedule as schedules
from simulator.faults.base import Fault
from simulator.faults.knobs import Step
from simulator.faults.schedule import Schedule
from simulator.invariants.base import Violation
from simulator.invariants.facts import Limits
from simulator.invariants.leave import GrantLimits
from simulator.invariants.records import QueueKeeps
from simulator.invariants.registry import Inspector, registry
from simulator.invariants.rest import CONVERGED_NS, WallClockIgnored
from simulator.virtual import events as ev
from simulator.virtual.coverage import Coverage, Watch
from simulator.virtual.decider import Core
from simulator.virtual.decisions import DecisionWorld
from simulator.virtual.history import History
from simulator.virtual.lives import DAY, HOUR
from simulator.virtual.oracle import Account
from simulator.virtual.plan import WIRES, Plan
from simulator.virtual.reports import FIELD, Pace
from simulator.virtual.shrink import shrink

POLICY = Policy()
LOOK_NS = HOUR  # ours: how often the disk is measured and progress is told
LOG_IN_NS = 2 * MINUTE  # ours: after the key was turned in the epilogue, for a boot and a proof
OF_DECISIONS = frozenset({1, 2, 3, 4, 5, 6, 7, 10, 13, 14})  # invariants: without queue, wires and wall clock
WALL_CLOCK = "wall-clock-jump"
DEFECT = "0 NoDefect"  # no invariant: something of ours raised, or a run was not the same twice

Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one vehicle."""

    plan: Plan
    schedule: Schedule
    digest: str
    simulated_ns: int
    wall_s: float
    violations: tuple[Violation, ...]
    coverage: Coverage
    account: Account | None


class Drive:
    """One run: a life, its faults, then an epilogue in which all that was broken has to heal."""

    def __init__(
        self,
        plan: Plan,
        watch: Callable[[ev.Events], None] = lambda events: None,
        history: History | None = None,
        policy: Policy = POLICY,
        pace: Pace = FIELD,
    ) -> None:
        self.plan = plan
        self.schedule = plan.schedule()
        self.run_on_s = policy.power.run_on_s
        self.world: World | DecisionWorld
        if plan.fidelity == WIRES:
            self.world = World(plan.seed, Options(policy=policy, vehicle=plan.vehicle()), history)
            kinds = registry()
        else:
            self.world = DecisionWorld(plan.seed, core(policy), plan.vehicle(), history, pace)
            kinds = tuple(kind for kind in registry() if kind.number in OF_DECISIONS)
        self.inspector = Inspector(self.world.events, limits(policy), kinds)
        self._coverage = Watch(self.world.events)
        watch(self.world.events)
        for act in plan.life():
            self.world.at(BootNs(act.at_ns), partial(act.do, self.world))
        schedules.play(self.schedule, self.world, BootNs(0), self._fault)
        self.end = self._epilogue(BootNs(plan.days * DAY), policy)

    def _fault(self, fault: Fault, on: bool) -> None:
        self.world.events.emit(ev.Fault(self.world.now, fault.name(), on))

    def _epilogue(self, at: BootNs, policy: Policy) -> BootNs:
        """Somebody drives off, logs in, parks, and goes home."""
        world = self.world
        world.at(at, partial(world.turn_key, KeyPosition.ON))
        for wait_s in (5, 15):  # the second time with help, if the battery is too weak for the first
            world.at(BootNs(at + wait_s * SECOND), world.crank)
        world.at(BootNs(at + 20 * SECOND), world.press_button)
        world.at(BootNs(at + LOG_IN_NS), world.log_in)
        healed = BootNs(at + CONVERGED_NS)
        world.at(healed, lambda: world.events.emit(ev.Awaited(world.now, "in use")))
        world.at(healed, world.pull_key)
        asleep = BootNs(healed + CONVERGED_NS + (policy.power.run_on_s + 2 * policy.power.retry_s) * SECOND)
        world.at(asleep, lambda: world.events.emit(ev.Awaited(world.now, "asleep")))
        return asleep

    def run(
        self,
        tell: Tell = lambda ns: None,
        stop: Callable[[Sequence[Violation], BootNs], bool] = lambda violations, now: False,
    ) -> Outcome:
        """To the end, or until ``stop``. ``tell`` is told how much time has passed in the world."""
        began = time.monotonic()
        world, inspector = self.world, self.inspector
        with contextlib.closing(world):
            try:
                while world.now < self.end and not stop(inspector.violations, world.now):
                    before = world.now
                    world.run_until(BootNs(min(before + LOOK_NS, self.end)))
                    self._measure()
                    tell(world.now - before)
                inspector.finish(world.now)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what was looked for
                inspector.violations.append(Violation(DEFECT, world.now, _where(error)))
            return Outcome(
                self.plan,
                self.schedule,
                world.history.digest(),
                world.now,
                time.monotonic() - began,
                tuple(inspector.violations),
                self._coverage.coverage(),
                inspector.the(QueueKeeps).oracle.account() if isinstance(world, World) else None,
            )

    def _measure(self) -> None:
        world = self.world
        if isinstance(world, World):
            size = sum(file.stat().st_size for file in world.disk.folder.iterdir())
            world.events.emit(ev.DiskUse(world.now, size))


def live(plan: Plan, tell: Tell = lambda ns: None) -> Outcome:
    """Run a plan and, if its wall clock jumps, its twin whose wall clock does not (invariant 9)."""
    drive = Drive(plan)
    outcome = drive.run(tell)
    calm = without_wall_clock(outcome.schedule)
    if outcome.violations or calm is None or plan.fidelity != WIRES:
        return outcome
    twin = Drive(replace(plan, given=calm))
    beside = twin.run()
    mine, other = (each.inspector.the(WallClockIgnored) for each in (drive, twin))
    found = mine.compared(BootNs(outcome.simulated_ns), other)
    return replace(
        outcome,
        violations=() if found is None else (found,),
        wall_s=outcome.wall_s + beside.wall_s,
    )


def without_wall_clock(schedule: Schedule) -> Schedule | None:
    """The schedule of a twin; None if it has no jump, or counts writes, which hang on what is written."""
    entries = tuple(entry for entry in schedule.entries if entry.fault.name() != WALL_CLOCK)
    counts = any(entry.fault.to_json().get("of") == Step.WRITES.value for entry in entries)
    return None if counts or len(entries) == len(schedule.entries) else replace(schedule, entries=entries)


def smallest(outcome: Outcome, most_runs: int) -> tuple[Outcome, int]:
    """The first violation with as few faults as can be found, and in how many runs they were found."""
    first = outcome.violations[0]
    failed: dict[Schedule, Outcome] = {}

    def fails(schedule: Schedule) -> bool:
        again = _until(first, replace(outcome.plan, given=schedule))
        if again.violations and again.violations[0].invariant == first.invariant:
            failed[schedule] = again
        return schedule in failed

    try:
        shrunk = shrink(outcome.schedule, fails, most_runs)
    except ValueError:
        words = f"did not come again when the same plan was run once more: {first}"
        return replace(outcome, violations=(Violation(DEFECT, first.at, words),)), 1
    return failed[shrunk.schedule], shrunk.runs


def _until(first: Violation, plan: Plan) -> Outcome:
    """Run until something is violated, or it is past the time."""
    return Drive(plan).run(stop=lambda violations, now: bool(violations) or now > first.at + HOUR)


def core(policy: Policy) -> Core:
    return Core(policy, initial, machine.step, machine.next_deadline, machine.last_words)


def cells() -> tuple[dict[str, list[str]], list[str]]:
    """All states of the parts of the core, and all kinds of observations."""
    parts = {"tether": TetherState, "ignition": IgnitionState, "power": PowerMode}
    states = {part: [str(state.value) for state in words] for part, words in parts.items()}
    return states, sorted(kind.__name__ for kind in Observation.__subclasses__())


def quieten() -> None:
    """The agents' logs are of no use here, and cost time: what matters is an event."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _where(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{error!r} in {Path(frame.filename).name}:{frame.lineno}"


def limits(policy: Policy) -> Limits:
    """The figures of a policy that the invariants speak of."""
    tether, ignition, power = policy.tether, policy.ignition, policy.power
    return Limits(
        ride_through_ns=tether.ride_through_ms * MS,
        crank_ride_through_ns=tether.crank_ride_through_ms * MS,
        crank_fall_mv=ignition.crank_fall_mv,
        crank_max_ns=ignition.crank_max_s * SECOND,
        status_fresh_ns=tether.status_fresh_ms * MS,
        proof_fresh_ns=tether.proof_fresh_s * SECOND,
        budget_ns=tether.budget_ms * MS,
        refill_after_ns=tether.refill_after_s * SECOND,
        return_ns=tether.return_ms * MS,
        wire_fresh_ns=ignition.wire_fresh_ms * MS,
        can_fresh_ns=ignition.can_fresh_ms * MS,
        voltage_fresh_ns=ignition.voltage_fresh_ms * MS,
        on_debounce_ns=ignition.on_debounce_ms * MS,
        settle_ns=ignition.settle_ms * MS,
        stuck_ns=ignition.stuck_s * SECOND,
        running_rpm=ignition.running_rpm,
        run_on_ns=power.run_on_s * SECOND,
        drain_ns=power.drain_s * SECOND,
        cut_ns=power.cut_s * SECOND,
        filter_ns=power.filter_s * SECOND,
        act_mv=limits_at(power, REFERENCE_C).act_mv,
        act_ns=power.act_s * SECOND,
        warn_ns=power.warn_s * SECOND,
        hard_floor_percent=power.hard_floor_percent,
        grants=GrantLimits(
            override_ns=policy.grants.override_s * SECOND,
            overrides=policy.grants.overrides,
            refill_ns=policy.grants.refill_s * SECOND,
            boot_cost_ns=policy.grants.boot_cost_s * SECOND,
            boots=policy.grants.boots,
        ),
    )
