"""ivmactl: ask the agent on this tablet. Exit codes: docs/operating.md."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

from agent.cli import availability, dock, permit, records, show, trace, watch
from agent.cli.client import DEFAULT_SOCKET, OK, PROTOCOL, SERVICE_USER, Client, ClientError

GROUP = "ivma.cli"  # of entry points: functions that add a verb
EXIT_CODES = """\
exit codes: 0 well; 1 what was asked about is not well; 2 wrong usage; 3 the agent is not running;
4 refused; 5 no answer, or none that can be understood"""


def parser() -> argparse.ArgumentParser:
    """The whole command line; docs/operating.md is checked against it."""
    common = argparse.ArgumentParser(add_help=False)
    common.set_defaults(connect=Client)
    common.add_argument("--json", action="store_true", help="the agent's answer as it is")
    common.add_argument("--reason", metavar="TEXT", help="why you look at records; logged with your user id")
    top = argparse.ArgumentParser(
        prog="ivmactl",
        description="Ask the agent on this tablet.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--socket",
        type=Path,
        default=Path(os.environ.get("IVMA_SOCKET", DEFAULT_SOCKET)),
        metavar="PATH",
        help=f"the agent's socket [$IVMA_SOCKET, else {DEFAULT_SOCKET}]",
    )
    top.add_argument(
        "--user",
        default=os.environ.get("IVMA_USER", SERVICE_USER),
        help=f"the user that the agent runs as [$IVMA_USER, else {SERVICE_USER}]",
    )
    commands = top.add_subparsers(required=True, metavar="VERB")
    for group in (show, availability, records, watch, trace, dock, permit):
        group.add(commands, common)
    # What needs a driver is offered by the drivers: this package does not know them.
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        point.load()(commands, common)
    return top


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)  # ends with 2, wrong usage, by itself
    try:
        with options.connect(options.socket, user=options.user) as client:
            code: int = options.run(client, options)
            sys.stdout.flush()  # here, where a reader that has gone is no error
            return code
    except ClientError as error:
        print(f"ivmactl: {error}", file=sys.stderr)
        if error.hint:
            print(f"ivmactl: {error.hint}", file=sys.stderr)
        return error.code
    except (AttributeError, KeyError, TypeError) as error:
        print(f"ivmactl: the agent's answer is not of a known form: {error!r}", file=sys.stderr)
        print("ivmactl: compare `ivmactl version` with the installed package", file=sys.stderr)
        return PROTOCOL
    except BrokenPipeError:
        # Whoever read our output had enough; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


if __name__ == "__main__":
    sys.exit(main())
