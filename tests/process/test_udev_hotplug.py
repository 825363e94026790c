"""Hotplug through the real libudev and pyudev, on umockdev's machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.system import need

ROOT = Path(__file__).parents[2]


def test_a_dock_is_found_by_its_properties_whatever_its_name() -> None:
    need("umockdev-wrapper")
    program = [sys.executable, "-m", "tests.process.udev_program"]
    done = subprocess.run(
        ["umockdev-wrapper", *program], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == {
        "open_before": False,
        "open_for_a_stranger": False,
        "opened": 2,
        "found_after": None,
        "power_supply": ["add", "change"],
        "tty": [
            ["add", "/dev/ttyACM0"],
            ["add", "/dev/ttyACM1"],
            ["remove", "/dev/ttyACM1"],
            ["add", "/dev/ttyUSB7"],
            ["remove", "/dev/ttyUSB7"],
        ],
    }
