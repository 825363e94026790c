"""docs/security.md names a test for each attack, docs/complaints.md for each complaint: they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ATTACKS = ("docs/security.md", "| attack | what comes of it | test |")
COMPLAINTS = ("docs/complaints.md", "| complaint | what keeps it from happening | test |")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows(page: str, head: str) -> list[list[str]]:
    lines = (ROOT / page).read_text().splitlines()
    start = lines.index(head) + 2
    table = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return table


def defined(file: Path) -> set[str]:
    """Tests of a file: functions, classes, and state machines' test cases by assignment."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]):
                names.add(name)
            case _:
                pass
    return {name for name in names if name.lower().startswith("test")}


@pytest.mark.parametrize("row", rows(*ATTACKS) + rows(*COMPLAINTS), ids=lambda row: row[0])
def test_a_row_names_what_shows_it(row: list[str]) -> None:
    assert len(row) == 3, row
    named = NAMED.findall(row[2])
    assert named, "a row needs `tests/...py::test_...`"
    assert NAMED.sub("", row[2]).strip(" ,") == "", "only tests, comma separated"
    for file, name in named:
        assert name in defined(ROOT / file), f"{file} has no test {name}"


def test_the_tables_are_there() -> None:
    assert len(rows(*ATTACKS)) >= 20
    assert [int(row[0].split(".")[0]) for row in rows(*COMPLAINTS)] == list(range(1, 16))
