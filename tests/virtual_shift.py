"""A short shift in the virtual world; ``python -m tests.virtual_shift SEED`` prints its history's hash."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog

from agent.core.policy import Policy, PowerPolicy
from agent.core.types import SECOND, BootNs, KeyPosition
from simulator.compose_virtual import Options, World
from simulator.faults.knobs import Behind, Step
from simulator.virtual.events import Event

# A run-on of two minutes, and off an hour after the key.
POLICY = replace(Policy(), power=PowerPolicy(run_on_s=120, max_s=3600))


def shift(seed: int, watch: Callable[[Event], None] = lambda event: None) -> str:
    """Boot, prove, crank, drive, undock and return, faults on every wire, key off, suspend, wake, power off,
    and the next day. Returns the hash of its history.
    """
    world = World(seed, Options(POLICY))
    world.events.subscribe(watch)
    script: list[tuple[float, Callable[[], object]]] = [
        (30, lambda: world.turn_key(KeyPosition.ON)),
        (35, world.log_in),
        (40, lambda: world.crank("bmw")),
        (60, lambda: world.drive(500)),
        (100, world.undock),
        (110, world.seat),
        (112, world.log_in),
        (150, lambda: setattr(world.dockwire, "lose_permille", 20)),
        (160, lambda: setattr(world.dockwire, "lose_permille", 0)),
        (170, lambda: world.dockwire.plug(Behind.REPLAYER, 77)),
        (180, lambda: world.dockwire.plug(None)),
        (185, world.log_in),
        (200, lambda: world.tablet.kill_agent(3, Step.EFFECTS)),
        (220, lambda: setattr(world.network, "cut", True)),
        (260, lambda: setattr(world.network, "cut", False)),
        (280, lambda: world.clock.step_wall(-3600 * SECOND)),
        (300, world.pull_key),
        (600, world.press_button),
        (2000, lambda: world.turn_key(KeyPosition.ON)),
        (2030, world.log_in),
        (2050, world.pull_key),
        (9000, lambda: world.turn_key(KeyPosition.ON)),
        (9030, world.log_in),
        (9100, lambda: world.tablet.cut_power(5, Step.WRITES)),
        (9200, world.press_button),
    ]
    for at_s, act in script:
        world.at(BootNs(int(at_s * SECOND)), partial(_do, act))
    try:
        world.run_until(BootNs(9300 * SECOND))
        return world.history.digest()
    finally:
        world.close()


def _do(act: Callable[[], object]) -> None:
    act()


def quiet() -> None:
    """What production logs in a hostile world is not for the reader of a test."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


if __name__ == "__main__":
    quiet()
    sys.stdout.write(shift(int(sys.argv[1])) + "\n")
