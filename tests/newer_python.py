"""A newer Python to compare with, where this machine's own release of Debian has none.

`python -m tests.newer_python [FOLDER]` (needs root and debootstrap) unpacks a newer release of Debian under
FOLDER, installs the lock for its Python beside it, and writes FOLDER/python: a command that runs that Python,
with its own libc, on this tree. Nothing outside FOLDER changes. Prints the command's path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "newer-python"
RELEASE = "trixie"  # Debian 13: Python 3.13, SQLite 3.46
VERSION = "3.13"
MIRROR = "http://deb.debian.org/debian"
COMMAND = """#!/bin/sh
# Written by tests/newer_python.py: the libc is that of the Python's own release.
PYTHONHOME={usr} PYTHONPATH={paths} exec {loader} --library-path {libraries} {python} "$@"
"""


class CannotMakeError(RuntimeError):
    """What this machine lacks for it."""


def command(folder: Path = FOLDER) -> Path:
    """Where the command is, made or not."""
    return folder / "python"


def make(folder: Path = FOLDER) -> Path:
    """The command, made if it is not there; the lock and the entry points are today's in any case.

    Raises:
        CannotMakeError: no root, no debootstrap, or one of the steps failed.
    """
    system, packages = folder / "debian", folder / "packages"
    if not (system / "usr" / "bin" / f"python{VERSION}").exists():
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise CannotMakeError("it takes root and debootstrap, which `make system-deps` installs")
        shutil.rmtree(system, ignore_errors=True)
        system.mkdir(parents=True)
        _run("debootstrap", "--variant=minbase", "--include=python3", RELEASE, str(system), MIRROR)
    _run(
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--python-version", VERSION, "--upgrade", "--target", str(packages),
        "-r", str(ROOT / "requirements.lock"),
    )  # fmt: skip
    _copy_entry_points(packages)
    (loader,) = system.glob("lib*/ld-linux-*.so.*")
    (libraries,) = (path.parent for path in system.glob("usr/lib/*/libc.so.6"))
    made = command(folder)
    made.write_text(
        COMMAND.format(
            usr=system / "usr", paths=f"{ROOT}:{packages}", loader=loader, libraries=libraries,
            python=system / "usr" / "bin" / f"python{VERSION}",
        )
    )  # fmt: skip
    made.chmod(0o755)
    return made


def _copy_entry_points(packages: Path) -> None:
    """The project's metadata: its code is this tree's, its models and profiles are found by entry points."""
    for old in packages.glob("ivma_agent-*.dist-info"):
        shutil.rmtree(old)
    files = distribution("ivma-agent").files or ()
    (named,) = (file for file in files if file.name == "entry_points.txt")
    folder = Path(str(named.locate())).parent
    shutil.copytree(folder, packages / folder.name)


def _run(*words: str) -> None:
    done = subprocess.run(words, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise CannotMakeError(f"`{words[0]}` ended with {done.returncode}: its words are above")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{make(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else FOLDER)}\n")
    except CannotMakeError as error:
        sys.exit(f"newer_python: {error}")
