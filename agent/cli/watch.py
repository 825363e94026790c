"""`ivmactl watch`: events as they come."""

from __future__ import annotations

import argparse
from typing import Any

from agent.cli import text
from agent.cli.client import OK, Client


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    watch = commands.add_parser("watch", parents=[common], help="events as they come; Ctrl-C ends it")
    watch.set_defaults(run=_watch)


def _watch(client: Client, options: argparse.Namespace) -> int:
    client.ask("subscribe", options.reason, {})
    try:
        for event in client.events():
            if options.json:
                text.show_json(event)
            else:
                name = text.word(event.pop("event", None))
                print(f"{name:<12} {text.details(event)}", flush=True)
    except KeyboardInterrupt:
        pass
    return OK
