"""SW_DOCK, USB presence and a supply's hidraw node by real udev and evdev calls, on umockdev's machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.system import need

ROOT = Path(__file__).parents[2]


def play(scene: str) -> dict[str, Any]:
    need("umockdev-wrapper")
    program = [sys.executable, "-m", "tests.process.hint_ports_program", scene]
    done = subprocess.run(
        ["umockdev-wrapper", *program], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_the_dock_switch_is_found_among_others_looked_at_and_followed() -> None:
    assert play("switch") == {
        "opened_a_lid": None,
        "at_first": True,
        "out": False,
        "back": True,
        "unknown_then": None,
        "after_an_overrun": True,
        "counters": {"opened": 1, "events_lost": 1},
    }


def test_a_usb_device_is_known_by_ids_serial_and_port_path() -> None:
    assert play("usb") == {
        "at_first": True,
        "pulled": False,
        "elsewhere": [False, "another of its kind at 1-2"],
        "another": [False, "another of its kind at 1-1, 1-2"],
        "back": True,
        "lost": True,
    }


def test_the_supply_is_found_by_what_it_hangs_on_asked_and_found_again() -> None:
    assert play("supply") == {
        "hidraw0": [False, 12_464, None, True],
        "hidraw0 deaf": "unanswered",
        "hidraw0 gone": "unplugged",
        "hidraw3": [True, 12_464, None, True],
        "hidraw3 deaf": "unanswered",
        "hidraw3 gone": "unplugged",
        "refused": 0,
    }
