"""The options that every program of evidence takes."""

from __future__ import annotations

import argparse


def length(doc: str | None, *, full: int, short: int) -> tuple[int, int]:
    """Parse the command line; return (how many, seed). `--length` wins over `--short`."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--length", type=int, help=f"how many; default {full}")
    parser.add_argument("--short", action="store_true", help=f"{short} instead, for CI")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.length is not None:
        return arguments.length, arguments.seed
    return (short if arguments.short else full), arguments.seed
