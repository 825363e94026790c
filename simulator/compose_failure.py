"""`ivma-sim replay FAILURE`: a run that failed once more, as a log for a person. Composition root."""

from __future__ import annotations

import sys
from pathlib import Path

from agent.core.types import SECOND, BootNs
from simulator.compose_soak import Drive, Outcome, quieten
from simulator.virtual import story
from simulator.virtual.events import Event, Events
from simulator.virtual.lives import HOUR
from simulator.virtual.plan import read_failure

BEFORE_S = 120.0  # ours: how much of what led to it is shown


def replay_failure(path: Path, *, everything: bool) -> int:
    """Run it again and tell what happens around the first violation, or everything.

    Returns 0 if nothing is violated any more, 1 if something is, 2 if the file cannot be used.
    """
    try:
        plan, at_s = read_failure(path)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"ivma-sim replay: {error}\n")
        return 2
    quieten()
    since, until = (at_s - BEFORE_S) * SECOND, at_s * SECOND + 1

    def tell(event: Event) -> None:
        if everything or since <= event.at <= until:
            text = story.line(event)
            if text is not None:
                sys.stdout.write(f"{text}\n")

    def watch(events: Events) -> None:
        events.subscribe(tell)

    sys.stdout.write(f"seed {plan.seed}, {plan.days} days, fidelity {plan.fidelity}\n{plan.schedule()}\n\n")
    drive = Drive(plan, watch)
    last = BootNs(round(until) + HOUR)
    outcome = drive.run(stop=lambda violations, now: not everything and (bool(violations) or now > last))
    return _verdict(outcome)


def _verdict(outcome: Outcome) -> int:
    sys.stdout.write("\n")
    for violation in outcome.violations:
        sys.stdout.write(f"{story.clock(violation.at)}  VIOLATED  {violation}\n")
    if not outcome.violations:
        sys.stdout.write("nothing was violated\n")
    return 1 if outcome.violations else 0
