"""A contractor without root, as another user on umockdev's machine, with a token that the fleet signed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pairing_rig import SERIAL, VEHICLE
from tests.system import lacking, need

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_contractor_pairs_tests_and_swaps_under_a_token_and_no_more() -> None:
    need("umockdev-wrapper")
    if os.geteuid() != 0:
        lacking("needs root to be another user for a moment")
    program = [sys.executable, "-m", "tests.process.pairing_udev_program"]
    done = subprocess.run(
        ["umockdev-wrapper", *program], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert "expected one dock that is not paired yet; found none" in seen["no dock"]
    assert "is not in the contractors' group" in seen["outsider"]
    assert "it is for tablet-2 of fleet test; this is tablet-1 of test" in seen["other tablet"]
    assert "damaged on its way" in seen["altered"]
    assert "expected one dock that is not paired yet; found none" in seen["own port"]
    assert "the token allows pair, test, not unpair" in seen["not allowed"]
    assert f"paired: dock is dock {SERIAL} in vehicle {VEHICLE}; it proved its key" in seen["paired"]
    assert seen["found by"] == {"ID_VENDOR_ID": "1209", "ID_MODEL_ID": "0001", "ID_SERIAL_SHORT": "A-77"}
    assert seen["swapped to"] == "DK-000008"
    assert "paired already, and its service contact is open" in seen["contact open"]
    # The first was on a port of his own and refused later, as the one with the open contact was.
    assert seen["used"] == ["pair", "pair", "test", "pair", "pair", "pair"]
    assert seen["by"] == ["Smith Ltd"]
    assert seen["refused"] >= 1
