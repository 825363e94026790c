"""`ivmactl availability`: how long officers wait for the tablet, and what keeps it from them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from agent.cli import text
from agent.cli.client import OK, Client


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    availability = commands.add_parser(
        "availability", parents=[common], help="from ignition on to usable, share of shifts usable, causes"
    )
    availability.set_defaults(run=_availability)


def _availability(client: Client, options: argparse.Namespace) -> int:
    result: dict[str, Any] = client.ask("availability", options.reason, {})
    if options.json:
        text.show_json(result)
        return OK
    whole: Mapping[str, Any] = result["since_start"]
    print(f"since the agent's start, {text.duration(whole['period_s'] * 1000)} ago")
    share = whole["usable_percent"]
    print(f"  shifts    {whole['shifts']}, {text.duration(whole['shift_s'] * 1000)} in all")
    print(f"  usable    {'no shift yet' if share is None else f'{share} % of that'}")
    print(
        f"  first use {text.duration(whole['first_use_mean_ms'])} after ignition on, "
        f"{text.duration(whole['first_use_max_ms'])} at the longest; never in {whole['unused_shifts']} shifts"
    )
    for name, seconds in sorted(whole["causes_s"].items(), key=lambda item: -item[1]):
        print(f"  not usable: {name.replace('_', ' ')} {text.duration(seconds * 1000)}")
    return OK
