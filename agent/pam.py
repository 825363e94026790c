"""ivma-pam: asked by PAM (pam_exec) at log-in and unlock; refuses while the tablet is restricted.

    auth    requisite pam_exec.so quiet stdout /usr/bin/ivma-pam
    account required  pam_exec.so quiet stdout /usr/bin/ivma-pam

It believes one thing only: a posture file that says "usable" for now, which nobody but its owner can have
written. A file that is missing, stale, a link or another's refuses. Maintenance accounts are let through.
Exit codes: 0 goes on, 1 refused; what it prints goes on the officer's screen.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.guard.exempt import FILE, ExemptError, read_exempt
from agent.guard.posture import PostureError, read

FOLDER = Path("/run/ivma-guard")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
USAGE = "usage: ivma-pam [--folder DIR] [--exempt FILE] [--owner UID]\n"
LOCKED = "This tablet is locked. Put it back into its dock.\n"
UNSURE = "This tablet cannot tell whether it may be used, and stays locked. Call support.\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    options = {"--folder": str(FOLDER), "--exempt": str(FILE), "--owner": "0"}
    # By hand: argparse takes longer to import than all the rest.
    while given:
        name = given.pop(0)
        if name not in options or not given or (name == "--owner" and not given[0].isdigit()):
            sys.stderr.write(USAGE)
            return 1
        options[name] = given.pop(0)
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return decide(
        os.environ,
        Path(options["--folder"]),
        Path(options["--exempt"]),
        {int(options["--owner"])},
        now,
        BOOT_ID.read_text().strip(),
        sys.stdout.write,
        sys.stderr.write,
    )


def decide(
    environ: Mapping[str, str],
    folder: Path,
    exempt: Path,
    owners: set[int],
    now: int,
    boot_id: str,
    tell: Callable[[str], object],
    log: Callable[[str], object],
) -> int:
    """The exit code for PAM_USER; ``tell`` is for the screen, ``log`` for whoever finds out why."""
    if environ.get("PAM_TYPE") in {"close_session", "password"}:
        return 0  # neither lets anybody in
    user = environ.get("PAM_USER", "")
    try:
        if user and user in read_exempt(exempt, owners):
            return 0
    except ExemptError as error:
        log(f"ivma-pam: {error}; nobody is exempt\n")
    try:
        posture = read(folder, owners)
    except PostureError as error:
        log(f"ivma-pam: {user or 'nobody'} refused: {error}\n")
        tell(UNSURE)
        return 1
    if posture.usable and posture.boot_id == boot_id and now < posture.until:
        return 0
    if posture.usable:
        log(f"ivma-pam: {user or 'nobody'} refused: the posture is stale; is ivma-guard running?\n")
        tell(UNSURE)
        return 1
    tell(LOCKED if not posture.because else f"{LOCKED}({posture.because})\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
