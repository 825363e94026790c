"""Hours that the black box holds at its default size: docked, dock at 5 Hz, ten CAN signals a second, supply
and current that vary; the recorder's own batches, in virtual time. The length is in minutes.
"""

from __future__ import annotations

import random
import sys

from agent.config import Trace
from agent.core.policy import Policy
from tests.evidence import claim, options
from tests.traces.stage import Stage

GOAL_H = 10.0  # a shift
SEED = 1


def bytes_per_s(minutes: int) -> float:
    dice = random.Random(SEED)
    stage = Stage(dice.randbytes(32), Policy(), SEED)
    stage.put(seated=True, mated=True, kl15=True, vehicle_mv=14_200, dock_mv=12_000, tablet_ma=900)
    stage.start()
    stage.run(60)
    stage.recorder.flush()
    before = len(stage.pile.file())
    for _ in range(60 * minutes):
        stage.put(vehicle_mv=14_200 + dice.randrange(-60, 60), tablet_ma=900 + dice.randrange(-80, 80))
        stage.drive(1)
    stage.recorder.flush()
    return (len(stage.pile.file()) - before) / (60 * minutes)


def main() -> int:
    minutes, _ = options.length(__doc__, full=30, short=3)
    hours = Trace().size / bytes_per_s(minutes) / 3600
    return claim.state(
        "driving time that the black box holds at its default size",
        hours, "h", GOAL_H, holds=hours >= GOAL_H, seed=SEED,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
