"""`ivmactl events | queue`: the newest records, and what still waits for the fleet."""

from __future__ import annotations

import argparse
from importlib.metadata import entry_points
from typing import Any

from agent.cli import text
from agent.cli.client import NOT_WELL, OK, Client

OFFLINE = "ivma.cli.queue"  # of entry points: functions that add to `queue` what works without an agent


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    events = commands.add_parser("events", parents=[common], help="the newest records, from memory")
    events.add_argument("-n", "--last", type=int, default=20, metavar="N", help="how many [20]")
    events.set_defaults(run=_events)
    queue = commands.add_parser(
        "queue", parents=[common], help="each stream: last record, acknowledged, pending"
    )
    queue.set_defaults(run=_queue)
    # What needs no agent is offered by whoever knows the file: this package does not.
    what = queue.add_subparsers(metavar="WHAT")
    for point in sorted(entry_points(group=OFFLINE), key=lambda point: point.name):
        point.load()(what, common)


def _events(client: Client, options: argparse.Namespace) -> int:
    result: dict[str, Any] = client.ask("events", options.reason, {"last": options.last})
    if options.json:
        text.show_json(result)
        return OK
    now_ms = result["now_ns"] // 1_000_000
    text.table(
        ("age", "stream", "kind", "fields"),
        [
            (
                text.duration(now_ms - event["boot_ns"] // 1_000_000),
                text.word(event["stream"]),
                text.word(event["kind"]),
                text.details(event["fields"]),
            )
            for event in result["events"]
        ],
    )
    return OK


def _queue(client: Client, options: argparse.Namespace) -> int:
    streams: dict[str, dict[str, Any]] = client.ask("queue", options.reason, {})
    if options.json:
        text.show_json(streams)
    else:
        heads = ("head", "acknowledged", "pending", "bytes", "quota", "refused")
        rows = [(name, *(text.word(stream[head]) for head in heads)) for name, stream in streams.items()]
        text.table(("stream", *heads), rows)
    return NOT_WELL if any(stream["refused"] for stream in streams.values()) else OK
