"""The planted defects as files, and copies of the tree to apply them to.

A file ``<name>.patch`` begins with the lines ``Reason: ...`` (what would go wrong in the field) and
``Caught-by: tests/...`` (the smallest selection of pytest that catches it); a unified diff follows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What the tests below tests/unit, property and simulation read, beside the code.
COPIED = (
    "agent", "drivers", "sync", "simulator", "tests",
    "docs", "systemd", "pyproject.toml", "README.md", "Makefile",
)  # fmt: skip
_HEADER = re.compile(r"\AReason: (?P<reason>\S[^\n]+)\nCaught-by: (?P<caught_by>tests/[^\n]+)\n\ndiff ")


class BadPatch(Exception):
    """A patch without its header, or one that the code has moved away from."""


@dataclass(frozen=True, slots=True)
class Defect:
    name: str
    reason: str
    caught_by: tuple[str, ...]  # arguments of pytest
    patch: Path


def defects() -> list[Defect]:
    """All of them, in order of their names.

    Raises:
        BadPatch: one has no header.
    """
    return [_read(path) for path in sorted(Path(__file__).parent.glob("*.patch"))]


def _read(path: Path) -> Defect:
    header = _HEADER.match(path.read_text(encoding="utf-8"))
    if header is None:
        raise BadPatch(f"{path.name}: expected the lines Reason: and Caught-by: tests/..., then a diff")
    return Defect(path.stem, header["reason"], tuple(header["caught_by"].split()), path)


def copy_tree(to: Path) -> None:
    """A copy of the working tree as far as the tests need it."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, to / name)


def apply(defect: Defect, tree: Path, *, only_check: bool = False) -> None:
    """Plant the defect in a copy.

    Raises:
        BadPatch: it does not apply any more.
    """
    # Without the variables of a surrounding git (a hook, a repository around the temporary folder), in which
    # `git apply` skips what lies outside without a word.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    check = ["--check"] if only_check else []
    done = subprocess.run(
        ["git", "apply", "--verbose", *check, str(defect.patch)],
        cwd=tree, env={**environ, "GIT_CEILING_DIRECTORIES": str(tree.parent), "LC_ALL": "C"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode != 0 or "Skipped" in done.stderr:
        raise BadPatch(
            f"{defect.name} does not apply any more; plant it in the code as it is now and write its diff to "
            f"{defect.patch.relative_to(ROOT)}:\n{done.stderr}"
        )
