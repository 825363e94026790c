"""`ivma-sim scene`: what ignition really was against what the core said, over scenes and lives.

Composition root, at the level of decisions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agent.core.policy import Policy
from agent.core.types import SECOND, BootNs, KeyPosition, Observation
from simulator import compose_soak
from simulator.invariants.registry import Inspector, registry
from simulator.vehicle import Engine
from simulator.virtual.decisions import DecisionWorld
from simulator.virtual.lives import DAY
from simulator.virtual.plan import DECISIONS, Plan
from simulator.virtual.scenes import SCENES, Scene

# Ours: evidence may be 2 s old and a verdict waits 2 s; a source that is gone is stale 2 s later.
GRACE_NS = 6 * SECOND
GAP_NS = 2 * SECOND  # ours: between two observations so far apart the tablet slept or was off
KEPT = 2_000_000  # ours: observations of a scene that are kept
SAYS_ON = ("on", "cranking", "running")


@dataclass
class Compared:
    """Seconds are those in which an agent heard. ``wrong`` counts stretches, by verdict and grade."""

    heard_ns: Counter[str] = field(default_factory=Counter)  # by verdict
    graded_ns: Counter[str] = field(default_factory=Counter)  # by grade, of verdicts that say something
    wrong_ns: Counter[str] = field(default_factory=Counter)  # by grade
    wrong: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)  # how many, by grade
    took_ns: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # by rule

    def add(self, other: Compared) -> None:
        for name in ("heard_ns", "graded_ns", "wrong_ns", "wrong", "verdicts"):
            getattr(self, name).update(getattr(other, name))
        for rule, times in other.took_ns.items():
            self.took_ns[rule] += times

    @property
    def unknown_share(self) -> float:
        return self.heard_ns["unknown"] / max(1, self.heard_ns.total())


class _Watch:
    def __init__(self, world: DecisionWorld) -> None:
        self.found = Compared()
        self._vehicle = world.vehicle
        self._truth = self._now_true()
        self._since = self._at = 0
        self._heard_at_change = False
        self._verdict: Any = None
        self._was_wrong = ""
        world.events.subscribe_steps(self._observed)

    def _now_true(self) -> str:
        vehicle = self._vehicle
        if vehicle.engine in (Engine.RUNNING, Engine.CRANKING) or vehicle.kl15:
            return "on"
        return "accessory" if vehicle.key is KeyPosition.ACCESSORY else "off"

    def _observed(self, at: int, _observation: object, state: Any) -> None:
        found, span = self.found, at - self._at
        heard = span <= GAP_NS
        truth = self._now_true()
        if truth != self._truth:
            self._truth, self._since, self._heard_at_change = truth, at, heard
        verdict, grade = state.ignition.state.value, state.ignition.grade.value
        if verdict != self._verdict:
            found.verdicts[grade] += verdict != "unknown"
            if self._heard_at_change and self._says(verdict):
                found.took_ns[state.ignition.decision.rule].append(at - self._since)
                self._heard_at_change = False
            self._verdict = verdict
        wrong = self._wrong(verdict) if at - self._since > GRACE_NS else ""
        if wrong and not self._was_wrong:
            found.wrong[f"{wrong}, {grade}"] += 1
        self._was_wrong = wrong
        if heard:
            found.heard_ns[verdict] += span
            if verdict != "unknown":
                found.graded_ns[grade] += span
                found.wrong_ns[grade] += span if wrong else 0
        self._at = at

    def _says(self, verdict: str) -> bool:
        return verdict in SAYS_ON if self._truth == "on" else verdict == self._truth

    def _wrong(self, verdict: str) -> str:
        if verdict in SAYS_ON and self._truth != "on":
            return "false ON"
        return "false OFF" if verdict == "off" and self._truth == "on" else ""


@dataclass
class Judged:
    """What came of a scene."""

    world: DecisionWorld
    compared: Compared
    violations: list[str] = field(default_factory=list)
    verdicts_in_use: set[str] = field(default_factory=set)  # while the key was on, after the grace
    verdict_on_charger: set[str] = field(default_factory=set)
    verdicts_run_lock: set[str] = field(default_factory=set)  # with the key out and the engine running
    power_rules: set[str] = field(default_factory=set)  # by which power decided
    guard_opened: bool = False  # the charge guard cut the dock's supply
    conflicts: set[str] = field(default_factory=set)
    observed: list[Observation] = field(default_factory=list)


def judged(scene: Scene) -> Judged:
    """A scene, lived by the core, with every invariant of the level watched."""
    compose_soak.quieten()
    policy = Policy()
    world = DecisionWorld(1, compose_soak.core(policy), scene.vehicle)
    kinds = [kind for kind in registry() if kind.number in compose_soak.OF_DECISIONS]
    inspector = Inspector(world.events, compose_soak.limits(policy), kinds)
    watch = _Watch(world)
    found = Judged(world, watch.found)
    vehicle = world.vehicle
    key_since = charger_since = lock_since = 0

    def see(at: int, observation: Observation, state: Any) -> None:
        nonlocal key_since, charger_since, lock_since
        if not vehicle.kl15:
            key_since = at
        elif at - key_since > GRACE_NS:
            found.verdicts_in_use.add(state.ignition.state.value)
        if vehicle.charger is None:
            charger_since = at
        elif at - charger_since > GRACE_NS:
            found.verdict_on_charger.add(state.ignition.state.value)
        if vehicle.engine is not Engine.RUNNING or vehicle.key_in:
            lock_since = at
        elif at - lock_since > GRACE_NS:
            found.verdicts_run_lock.add(state.ignition.state.value)
        found.power_rules.add(state.power.decision.rule)
        found.guard_opened = found.guard_opened or (vehicle.guard is not None and vehicle.guard.open)
        if state.ignition.conflict:
            found.conflicts.add(state.ignition.conflict)
        if len(found.observed) < KEPT:
            found.observed.append(observation)

    world.events.subscribe_steps(see)
    for act in scene.acts:
        world.at(BootNs(act.at_ns), partial(act.do, world))
    if scene.stuck_from_ns is not None:
        world.at(BootNs(scene.stuck_from_ns), lambda: setattr(world.wiring, "kl15", True))
    world.run_until(BootNs(scene.days * DAY))
    inspector.finish(world.now)
    found.violations = [str(violation) for violation in inspector.violations]
    return found


def compared(seed: int, days: int, faults: tuple[str, ...]) -> Compared:
    """One vehicle's life.

    Raises:
        RuntimeError: an invariant was violated; what such a run shows says nothing.
    """
    compose_soak.quieten()
    drive = compose_soak.Drive(Plan(seed, days, DECISIONS, faults))
    if not isinstance(drive.world, DecisionWorld):
        raise TypeError("a plan of decisions makes a world of decisions")
    watch = _Watch(drive.world)
    outcome = drive.run()
    if outcome.violations:
        raise RuntimeError(f"seed {seed} violated {outcome.violations[0]}")
    return watch.found


# --- the command ------------------------------------------------------------------------------------


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = sub.add_parser(
        "scene", help="vehicles that are hard on a battery or on whoever judges the ignition",
        description="Lives scenes at decision level, all unless some are named. Exit code 0: no verdict was "
        "false and no invariant violated; 1: one was; 2: bad usage.",
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="SCENE", help=", ".join(SCENES))
    parser.add_argument("--json", action="store_true", help="a line of JSON for each")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    if unknown := [name for name in args.names if name not in SCENES]:
        sys.stderr.write(f"ivma-sim scene: no scene {', '.join(unknown)}; there are {', '.join(SCENES)}\n")
        return 2
    well = True
    for name in args.names or SCENES:
        found = judged(SCENES[name])
        figures = told(SCENES[name], found)
        well = well and not (found.compared.wrong or found.violations)
        if args.json:
            sys.stdout.write(json.dumps(figures) + "\n")
        else:
            sys.stdout.write(f"{name}: {SCENES[name].words}\n")
            sys.stdout.writelines(
                f"    {key.replace('_', ' '):28} {value}\n"
                for key, value in figures.items()
                if key != "scene"
            )
        sys.stdout.flush()
    return 0 if well else 1


def told(scene: Scene, found: Judged) -> dict[str, Any]:
    """The figures of a scene, for people and for JSON."""
    compared, vehicle = found.compared, found.world.vehicle
    return {
        "scene": scene.name,
        "days": scene.days,
        "hours_heard": round(compared.heard_ns.total() / (3600 * SECOND), 1),
        "hours_by_verdict": {
            verdict: round(ns / (3600 * SECOND), 2) for verdict, ns in sorted(compared.heard_ns.items())
        },
        "false_verdicts": dict(compared.wrong),
        "conflicts": sorted(found.conflicts),
        "starts_failed": vehicle.failed_starts,
        "charge_left_percent": round(100 * vehicle.battery.charge_mas / vehicle.battery.capacity_mas),
        "violations": found.violations,
    }
