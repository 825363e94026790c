"""Plays a scenario in real time against a rig, and judges what is seen.

A rig is whatever can do the actions and be looked at; the player knows nothing of processes or wires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.core.types import SECOND, BootNs
from simulator.scenario import Expectation, Scenario, Step


class Rig(Protocol):
    async def perform(self, action: str, arguments: Mapping[str, int | str]) -> None:
        """Do an action of ``simulator.scenario.ACTIONS``."""

    def seen(self) -> Mapping[str, str]:
        """What is to be seen now: values of ``simulator.scenario.OBSERVABLES``; unknown ones are left out."""

    @property
    def provides(self) -> frozenset[str]:
        """Words that a step may need; a step that needs another is left out."""

    async def change(self) -> None:
        """Return once something that ``seen`` reports may have changed since the last call."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one expectation. ``saw`` is what was seen instead, or why it does not hold."""

    step: Step
    expectation: Expectation
    held: bool
    took_ns: int
    saw: str


class Audience(Protocol):
    """Is told of the play as it goes on."""

    def step(self, step: Step) -> None: ...
    def skipped(self, step: Step) -> None: ...
    def verdict(self, verdict: Verdict) -> None: ...


async def play(
    scenario: Scenario, rig: Rig, audience: Audience, now: Callable[[], BootNs]
) -> Sequence[Verdict]:
    """Play all steps, also after an expectation that did not hold. A late step runs at once."""
    verdicts = []
    started = now()
    for step in scenario.steps:
        if not step.needs <= rig.provides:
            audience.skipped(step)
            continue
        due = now() + step.after_ns if step.at_ns is None else started + step.at_ns
        await asyncio.sleep(max(0, due - now()) / SECOND)
        audience.step(step)
        began = now()
        await rig.perform(step.action.name, step.arguments)
        for expectation in step.expectations:
            verdict = await judge(step, expectation, rig, began, now)
            audience.verdict(verdict)
            verdicts.append(verdict)
            began = now()
    return verdicts


async def judge(
    step: Step, expectation: Expectation, rig: Rig, began: BootNs, now: Callable[[], BootNs]
) -> Verdict:
    """Watch the rig until the expectation is decided. Times count from ``began``."""
    until = began + expectation.limit_ns
    while True:
        other = missing(expectation, rig.seen())
        took = now() - began
        over = took >= expectation.limit_ns
        if expectation.throughout and (other or over):
            return Verdict(step, expectation, not other, took, other)
        if not expectation.throughout and (over or not other):
            return Verdict(step, expectation, not other and not over, took, other or "seen too late" * over)
        try:
            async with asyncio.timeout((until - now()) / SECOND):
                await rig.change()
        except TimeoutError:
            continue


def missing(expectation: Expectation, seen: Mapping[str, str]) -> str:
    """What is seen otherwise than expected, in words; empty if nothing is."""
    return ", ".join(
        f"{name} was {seen.get(name, 'not to be seen')}"
        for name, value in expectation.values.items()
        if seen.get(name) != value
    )
