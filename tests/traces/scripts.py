"""Traces that are recorded by a script: what happens in them, and the bytes that come of it."""

from __future__ import annotations

from dataclasses import replace

from agent.core.policy import Policy
from agent.core.types import KeyPosition, SleepSignal, UsedWhileLocked
from tests.traces.stage import Stage


def reference_dock() -> bytes:
    """A shift at the reference dock: start, crank, glitch, foreign dock, theft, return, run-on, sleep."""
    policy = Policy()
    policy = replace(
        policy,
        tether=replace(policy.tether, refill_after_s=10),
        power=replace(policy.power, run_on_s=10, resume_awake_s=5),
    )
    stage = Stage(bytes(range(32)), policy)
    stage.put(seated=True, mated=True, kl15=False, vehicle_mv=12_500, dock_mv=12_000, tablet_ma=900)
    stage.start()
    stage.run(3)
    stage.put(kl15=True)
    stage.key(KeyPosition.ON)
    stage.run(2)
    stage.crank()
    stage.drive(20)
    stage.broken = True  # a pothole
    stage.run(1.2)
    stage.broken = False
    stage.drive(5)
    stage.dock.brown_out(stage.at)
    stage.drive(5)
    stage.unplug()
    stage.plug(stage.foreign)
    stage.drive(8)
    stage.unplug()
    stage.plug(stage.dock)
    stage.drive(4)
    stage.put(seated=False)  # taken out
    stage.run(1)
    stage.see(UsedWhileLocked(stage.at, "session 2 was unlocked"))
    stage.run(2)
    stage.put(seated=True)
    stage.drive(3)
    stage.kill()
    stage.run(0.4)
    stage.start()
    stage.drive(3)
    stage.key(KeyPosition.OFF)
    stage.put(kl15=False, vehicle_mv=12_600)
    stage.run(20)
    stage.see(SleepSignal(stage.at, False))
    stage.run(3)
    stage.recorder.flush()
    return stage.pile.file()


SCRIPTS = {"reference-dock": reference_dock}
