"""The same seed gives the same history on this Python and on a newer one. The length is the number of seeds.

The newer one is any that is on the path or pyenv's; it gets an environment of its own, from the lock.
`--python` names one that has the project installed. Without one nothing is measured, and that is said.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from simulator.faults.registry import families
from tests.evidence import claim
from tests.evidence.histories import differ

ROOT = Path(__file__).parents[2]
CLAIM = "histories that come out otherwise on a newer Python"
HOURS = {"wires": 2, "decisions": 24}
FULL, SHORT = 3, 1


def found() -> Iterator[Path]:
    """Pythons by their names; some may be a shim's that does not run."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    folders += sorted(Path.home().glob(".pyenv/versions/*/bin"), reverse=True)
    for folder in folders:
        yield from (
            path for path in sorted(folder.glob("python3.*")) if re.fullmatch(r"python3\.\d+", path.name)
        )


def newest() -> Path | None:
    """The newest that is newer than this one and runs."""
    best, version = None, sys.version_info[:2]
    for path in found():
        asked = subprocess.run(
            [path, "-c", "import sys, venv, sqlite3; print(*sys.version_info[:2])"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if asked.returncode == 0:
            major, minor = map(int, asked.stdout.split())
            if (major, minor) > version:
                best, version = path, (major, minor)
    return best


def install(python: Path, folder: Path) -> str:
    """An environment with the project, on ``python``."""
    subprocess.run([python, "-m", "venv", folder], check=True, stdout=sys.stderr)
    made = folder / "bin" / "python"
    pip = [str(made), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(ROOT / "requirements.lock")], check=True, stdout=sys.stderr, cwd=ROOT)
    editable = ["--no-deps", "--no-build-isolation", "--config-settings", "editable_mode=compat", "-e", "."]
    subprocess.run([*pip, *editable], check=True, stdout=sys.stderr, cwd=ROOT)
    return str(made)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, help=f"how many; default {FULL}")
    parser.add_argument("--short", action="store_true", help=f"{SHORT} instead, for CI")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--python", help="a newer one that has the project installed")
    arguments = parser.parse_args()
    count = arguments.length or (SHORT if arguments.short else FULL)
    with tempfile.TemporaryDirectory(prefix="ivma-python-") as folder:
        python = arguments.python
        if python is None:
            newer = newest()
            if newer is None:
                why = f"no Python newer than {sys.version_info[0]}.{sys.version_info[1]} is on this machine"
                return claim.not_measured(CLAIM, f"{why}; name one that has the project with --python")
            python = install(newer, Path(folder))
        other = sum(
            differ(python, seed, fidelity, hours, ",".join(families()))
            for seed in range(arguments.seed, arguments.seed + count)
            for fidelity, hours in HOURS.items()
        )
        asked = subprocess.run([python, "-V"], capture_output=True, text=True, check=True)
        words = f"{CLAIM}, {asked.stdout.strip()}, of {2 * count}"
    return claim.state(words, other, "", 0, holds=other == 0, seed=arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
