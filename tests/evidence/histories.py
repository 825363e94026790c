"""Whether a life has the same history in another process, by ``ivma-sim history``."""

from __future__ import annotations

import subprocess
import sys

FIRST_HOURS_S = 900  # ours: a run takes so long only on a machine that is busy with much else


def differ(python: str, seed: int, fidelity: str, hours: int, faults: str) -> bool:
    """Live the first ``hours`` here and in ``python``; what differs first goes to stderr.

    Raises:
        RuntimeError: ``python`` cannot live them at all.
    """
    done = subprocess.run(
        [
            sys.executable, "-m", "simulator", "history", "--python", python, "--seed", str(seed),
            "--fidelity", fidelity, "--hours", str(hours), "--habits", "quiet", "--faults", faults,
        ],
        capture_output=True, text=True, check=False, timeout=FIRST_HOURS_S,
    )  # fmt: skip
    if done.returncode == 2:
        raise RuntimeError(done.stderr.strip())
    if done.returncode != 0:
        sys.stderr.write(f"seed {seed}, {fidelity}:\n{done.stdout}")
    return done.returncode != 0
