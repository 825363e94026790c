"""What the black box adds to a STATUS on the loop: the tap on its bytes and the watcher of its step,
together; the median of the trials. The length is the number of STATUS in a trial.
"""

from __future__ import annotations

import statistics
import sys
import time

from agent.core.machine import step
from agent.core.policy import Policy
from agent.core.state import initial
from agent.core.types import SECOND, BootNs, Started
from agent.trace import Recorder
from tests.core_driver import status
from tests.evidence import claim, options
from tests.traces.stage import Pile

GOAL_US = 10.0
TRIALS = 9
FRAME = bytes(range(1, 48))  # as long as a STATUS on the wire


class Away(Pile):
    """What the thread would do with a batch is not done: it is not on the loop."""

    def put(self, batch: object) -> None:
        self.fresh = False


def trial(count: int) -> float:
    """Microseconds a STATUS."""
    policy = Policy()
    state, _ = step(initial(policy), Started(BootNs(SECOND), "boot", None), policy)
    recorder = Recorder(Away(), lambda: BootNs(0), lambda: 0)
    recorder.begin({}, lambda: policy)
    note = recorder.tap("dock")
    seen = [status(SECOND + number * SECOND // 5) for number in range(count)]
    began = time.perf_counter_ns()
    for each in seen:
        note("in", each.at, FRAME)
        recorder.watch(each, state, ())
    return (time.perf_counter_ns() - began) / count / 1000


def main() -> int:
    count, _ = options.length(__doc__, full=20_000, short=2000)
    value = statistics.median(trial(count) for _ in range(TRIALS))
    return claim.state(
        "what the black box adds to a STATUS on the loop",
        value,
        "us",
        GOAL_US,
        holds=value < GOAL_US,
        timed=True,
    )


if __name__ == "__main__":
    sys.exit(main())
