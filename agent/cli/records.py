"""`ivmactl events | queue`: the last records in memory, and what still waits for the fleet."""

from __future__ import annotations

import argparse
from typing import Any

from agent.cli import text
from agent.cli.client import NOT_WELL, OK, Client


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    events = commands.add_parser("events", parents=[common], help="the newest records, from memory")
    events.add_argument("-n", "--last", type=int, default=20, metavar="N", help="how many [20]")
    events.set_defaults(run=_events)
    queue = commands.add_parser(
        "queue", parents=[common], help="streams, what is pending, the way to the fleet"
    )
    queue.set_defaults(run=_queue)


def _events(client: Client, options: argparse.Namespace) -> int:
    result: dict[str, Any] = client.ask("events", options.reason, {"last": options.last})
    if options.json:
        text.show_json(result)
        return OK
    text.table(
        ("age", "stream", "kind", "what"),
        [
            (
                text.duration(event.get("age_ms")),
                text.word(event.get("stream")),
                text.word(event.get("kind")),
                text.details(event.get("body", {})),
            )
            for event in result.get("events", [])
        ],
    )
    return OK


def _queue(client: Client, options: argparse.Namespace) -> int:
    result: dict[str, Any] = client.ask("queue", options.reason, {})
    if options.json:
        text.show_json(result)
    else:
        text.records(result.get("streams", []))
        for name, part in result.items():
            if isinstance(part, dict):
                print(f"{name}: {text.details(part)}")
        for problem in result.get("problems", []):
            print(f"problem: {text.word(problem)}")
    return NOT_WELL if result.get("problems") else OK
