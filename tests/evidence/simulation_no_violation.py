"""Vehicles with a violation, of 30 and more vehicle-days under faults, each with its seed: most at decision
level, some with wires and store. The length is the number of seeds at decision level.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.evidence import claim, options

LIMIT_S = 3600
WIRES_PART = 4  # one vehicle with wires for so many at decision level


def failed(folder: Path, fidelity: str, vehicles: int, seed: int, *options: str) -> int:
    """Soak; what failed is told on stderr."""
    report = folder / f"{fidelity}.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "simulator", "soak", "--fidelity", fidelity, "--vehicles", str(vehicles),
            "--seed", str(seed), "--shrink", "0", "--failures", str(folder), "--report", str(report),
            *options,
        ],
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
    return len(json.loads(report.read_text())["failures"])


def main() -> int:
    vehicles, seed = options.length(__doc__, full=30, short=2)
    wires = max(1, vehicles // WIRES_PART)
    with tempfile.TemporaryDirectory(prefix="ivma-soak-") as name:
        count = failed(Path(name), "decisions", vehicles, seed)
        count += failed(Path(name), "wires", wires, seed, "--habits", "quiet")
    words = (
        f"vehicles with a violation in {vehicles} days at decision level and {wires} with wires, under faults"
    )
    return claim.state(words, count, "", 0, holds=count == 0, seed=seed)


if __name__ == "__main__":
    sys.exit(main())
