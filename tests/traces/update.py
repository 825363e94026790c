"""Renew the decisions of the traces after a look at what changes: `python -m tests.traces.update [NAME...]`.

A scripted trace is recorded anew; any other keeps what was observed and gets the decisions of now. Prints
what differs and asks before it writes; `--yes` does not ask. Exit code 1: something was left as it was.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Sequence

import zstandard

from agent.replay import replay
from agent.trace_format import Entry, read, repack
from tests.traces import library
from tests.traces.library import Trace
from tests.traces.scripts import SCRIPTS


def fresh(trace: Trace) -> list[Entry]:
    """The trace as it would be recorded now."""
    script = SCRIPTS.get(trace.name)
    return replay(trace.entries() if script is None else read(script())).entries


def changes(trace: Trace, entries: Sequence[Entry]) -> Iterator[str]:
    """What differs for people: the decisions in short, then, for the same observations, field by field."""
    before = trace.reference.read_text().splitlines() if trace.reference.exists() else []
    after = list(library.decisions(entries))
    yield from difflib.unified_diff(
        before, after, f"{trace.name} before", f"{trace.name} now", lineterm="", n=1
    )
    if trace.path.exists():
        for difference in replay(trace.entries()).differences:
            yield from difference.text()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.traces.update", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all without it")
    parser.add_argument("--yes", action="store_true", help="write without asking")
    options = parser.parse_args(argv)
    left = 0
    for name in options.names or library.names():
        trace = Trace(name)
        entries = fresh(trace)
        packed = repack(entries, zstandard.ZstdCompressor(level=9).compress)
        text = "".join(f"{line}\n" for line in library.decisions(entries))
        same = trace.path.exists() and list(read(packed)) == trace.entries()
        if same and trace.reference.exists() and trace.reference.read_text() == text:
            sys.stdout.write(f"{name}: nothing changes\n")
            continue
        sys.stdout.writelines(f"{line}\n" for line in changes(trace, entries))
        if options.yes or input(f"{name}: write this? [y/N] ").strip().lower() == "y":
            trace.path.write_bytes(packed)
            trace.reference.write_text(text)
        else:
            left = 1
    return left


if __name__ == "__main__":
    sys.exit(main())
