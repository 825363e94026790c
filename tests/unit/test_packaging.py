"""The lock and the package: exact versions of all that pyproject asks for, and every data file inside."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][^ ]*)")


def pins() -> dict[str, tuple[int, ...]]:
    found = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pin = PIN.fullmatch(line)
        assert pin is not None, f"{line!r}: expected name==version and nothing else"
        found[pin["name"]] = numbers(pin["version"])
    return found


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_the_lock_pins_every_dependency_within_its_bound() -> None:
    locked = pins()
    asked = [*PROJECT["dependencies"], *(d for ds in PROJECT["optional-dependencies"].values() for d in ds)]
    for requirement in asked:
        name, _, bound = requirement.partition(">=")
        assert bound, f"{requirement}: give a lower bound"
        assert locked[name] >= numbers(bound), requirement


def test_the_wheel_holds_all_data_and_nothing_of_the_tests(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("agent", "drivers", "sync", "simulator"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--no-index", "--wheel-dir", str(tmp_path), str(source)], check=True, timeout=100
    )
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    data = {
        str(path.relative_to(ROOT))
        for name in ("agent", "drivers", "sync", "simulator")
        for path in (ROOT / name).rglob("*")
        if path.suffix in {".toml", ".typed", ".html", ".css", ".js", ".svg"}
    }
    assert data <= inside
    assert not [name for name in inside if name.startswith("tests/")]
