"""`python -m tests.defects [--only NAME] [--rotate K]`: plant each defect in a copy; exit 1 if one lives.

First the tests run that the patch names, then, if they pass, every test of behaviour that needs no process.
What caught a defect must pass without it: at the end the same tests run in a copy with nothing planted.
`--rotate K` takes K of the defects, chosen by the commit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.defects import tell
from tests.defects.planted import ROOT, BadPatch, Defect, apply, copy_tree, defects

NARROW_S, WIDE_S = 60, 900
ONE_TEST_S = 25  # a test that hangs has caught the defect, too
# What compares with a recording catches any change at all: that would be no evidence.
WIDE = (
    "tests/unit", "tests/property", "tests/simulation",
    "--ignore=tests/unit/test_defects.py", "--ignore=tests/unit/test_packaging.py",
    "--ignore=tests/simulation/test_trace_replay.py", "-k", "not hash",
)  # fmt: skip


class Broken(Exception):
    """A run that says nothing: neither did every test pass, nor did one fail."""


def failing(tree: Path, selection: Sequence[str], limit_s: int, *, first: bool = True) -> list[str]:
    """Run tests in a copy; the ids of those that failed, or only the first.

    Raises:
        Broken: the run itself failed, or took too long.
    """
    report = tree / "failed.txt"
    report.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no", "-p", tell.__name__,
        "-p", "no:cacheprovider", "--hypothesis-seed=0", f"--timeout={ONE_TEST_S}",
        *(["-x"] if first else []), *selection,
    ]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": str(tree), tell.REPORT: str(report)}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environ, capture_output=True, text=True, check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired as error:
        raise Broken(f"{' '.join(selection)} took more than {limit_s} s") from error
    failed = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    if done.returncode != (1 if failed else 0):
        raise Broken(
            f"pytest {' '.join(selection)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return failed


def catch(defect: Defect) -> str | None:
    """The first test that fails with the defect in place; None if all pass."""
    with tempfile.TemporaryDirectory(prefix=f"defect-{defect.name}-") as folder:
        tree = Path(folder).resolve()
        copy_tree(tree)
        apply(defect, tree)
        found = failing(tree, defect.caught_by, NARROW_S) or failing(tree, WIDE, WIDE_S)
        return found[0] if found else None


def guilty(tests: Sequence[str]) -> list[str]:
    """Those of the tests that fail with nothing planted."""
    with tempfile.TemporaryDirectory(prefix="defect-none-") as folder:
        tree = Path(folder).resolve()
        copy_tree(tree)
        return failing(tree, sorted(set(tests)), WIDE_S, first=False)


def rotated(all_of_them: list[Defect], number: int) -> list[Defect]:
    """``number`` of them, others with each commit."""
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    commit = asked.stdout.strip()
    if asked.returncode != 0:
        print(f"the commit is not known, so always the same ones: {asked.stderr.strip()}", file=sys.stderr)
    drawn = sorted(all_of_them, key=lambda d: hashlib.sha256(f"{commit} {d.name}".encode()).digest())
    return sorted(drawn[:number], key=lambda defect: defect.name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.defects", description=__doc__)
    parser.add_argument("--only", metavar="NAME", help="one defect, by the name of its patch")
    parser.add_argument("--rotate", metavar="K", type=int, help="K of them, chosen by the commit")
    arguments = parser.parse_args()
    chosen = defects()
    if arguments.only is not None:
        chosen = [defect for defect in chosen if defect.name == arguments.only]
        if not chosen:
            parser.error(f"no tests/defects/{arguments.only}.patch")
    if arguments.rotate is not None:
        chosen = rotated(chosen, arguments.rotate)
    caught: dict[str, str] = {}
    for defect in chosen:
        began = time.monotonic()
        try:
            test = catch(defect)
        except (BadPatch, Broken) as error:
            print(error, file=sys.stderr)
            test = None
        if test is not None:
            caught[defect.name] = test
        took_s = time.monotonic() - began
        print(f"{defect.name:34} {took_s:5.1f} s  {test or 'NOT CAUGHT: ' + defect.reason}", flush=True)
    wrong = guilty(list(caught.values())) if caught else []
    for test in wrong:
        print(f"{test} fails without any defect, too: it has caught nothing")
    print(f"{len(chosen)} defects planted, {len(caught)} caught")
    return 1 if wrong or len(caught) < len(chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
