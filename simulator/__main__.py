"""``ivma-sim``: play a shift, play any scenario, or play the dock on a real serial port."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

# Each has ``add_parser(subparsers)``, whose parsers set ``func``: arguments -> exit status.
COMMANDS = (
    "simulator.compose_demo",
    "simulator.dock_command",
    "simulator.soak_command",
    "simulator.soak_report",
    "simulator.compose_weeks",
    "simulator.compose_scenes",
    "simulator.compose_verdicts",
    "simulator.history_command",
    "simulator.compose_replay",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 when all held, 1 when something did not, 2 for bad usage."""
    parser = argparse.ArgumentParser(prog="ivma-sim", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        import_module(name).add_parser(subparsers)
    arguments = parser.parse_args(argv)
    status: int = arguments.func(arguments)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
