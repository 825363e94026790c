"""Tables and words for people: through rich on a terminal, in plain columns elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

UNKNOWN = "-"


def duration(milliseconds: object) -> str:
    """An age or a span in a unit that fits: 0.3 s, 12 s, 5 min, 3 h, 2 d."""
    if not isinstance(milliseconds, int | float):
        return UNKNOWN
    seconds = milliseconds / 1000
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def word(value: object) -> str:
    """A value of the agent's JSON in one word or line, with nothing that a terminal would obey."""
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(c if c.isprintable() else "?" for c in text)


def details(values: Mapping[str, Any]) -> str:
    """The values of a small object in one line."""
    return "  ".join(
        f"{key} {_detail(value)}" for key, value in values.items() if value not in (None, "", [], {})
    )


def _detail(value: object) -> str:
    if isinstance(value, Mapping):
        return f"({details(value)})"
    if isinstance(value, list):
        return ", ".join(word(item) for item in value)
    return word(value)


def show_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"), flush=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; an empty one prints nothing."""
    if not rows:
        return
    if sys.stdout.isatty():
        _rich_table(heads, rows)
        return
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    for row in (heads, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD  # 45 ms of imports that only a person's terminal is worth
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        shown.add_column(head)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    Console().print(shown)
