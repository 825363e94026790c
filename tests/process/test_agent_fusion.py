"""The daemon with a dock that proves itself and two sources of hints beside it, on umockdev's machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import need

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_hints_beside_the_reference_link_agree_contradict_and_lock_nothing() -> None:
    need("umockdev-wrapper")
    program = [sys.executable, "-m", "tests.process.agent_fusion_program"]
    done = subprocess.run(
        ["umockdev-wrapper", *program], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "hints": {"hub": "mated yes", "tray": "seated yes"},
        "agreed": [],
        "posture": "usable",
        "sources": ["USB presence hub", "dock switch tray"],
        "recorded": [["hub", True], ["tray", True]],
        "still": "usable",
    }
