"""ivma-guard: the second process. It holds the agent's lease, and locks when the lease runs out.

    ivma-guard [--folder DIR] [--agent USER] [--exempt FILE]

It reads no configuration of the agent's: what is wrong there leaves the tablet locked. Exit codes: 0 stopped
in order, 2 usage, 73 its folder is not its own (EX_CANTCREAT), 75 another guard runs (EX_TEMPFAIL).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pwd
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.guard import posture
from agent.guard.exempt import FILE, ExemptError, read_exempt
from agent.guard.logind import Logind
from agent.guard.process import Process, Service, log_to_stderr

EX_CANTCREAT, EX_TEMPFAIL = 73, 75
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="ivma-guard", description="Locks a tablet when its agent does not.")
    parser.add_argument(
        "--folder", type=Path, default=Path("/run/ivma-guard"), help="of its socket and the posture file"
    )
    parser.add_argument("--agent", default="ivma", help="the agent's user, by name or number; default ivma")
    parser.add_argument("--exempt", type=Path, default=FILE, help=f"maintenance accounts; default {FILE}")
    given = parser.parse_args(argv)
    log = log_to_stderr("JOURNAL_STREAM" in os.environ)
    folder: Path = given.folder
    own = os.geteuid()
    try:
        posture.only_theirs(folder, folder.lstat, {own}, directory=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except posture.PostureError as error:
        log("error", f"{error}; make it a folder that only user {own} can write to")
        return EX_CANTCREAT
    except BlockingIOError:
        log("error", f"{folder}: another guard runs here")
        return EX_TEMPFAIL
    exempt: frozenset[str] = frozenset()
    try:
        exempt = read_exempt(given.exempt, {0, own})
    except ExemptError as error:
        log("error", f"{error}; nobody is exempt")
    boot_id = BOOT_ID.read_text().strip()
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    service = Service(os.environ.get("NOTIFY_SOCKET"), os.environ.get("WATCHDOG_USEC", ""))
    peers = {0, own, *_uid(given.agent)}
    process = Process(folder, boot_id, _found(folder, own, boot_id), peers, Logind(exempt), service, log)
    try:
        process.run()
    finally:
        process.close()
    return 0


def _found(folder: Path, own: int, boot_id: str) -> posture.Posture | None:
    """What an earlier run of this boot left."""
    with contextlib.suppress(posture.PostureError):
        found = posture.read(folder, {own})
        return found if found.boot_id == boot_id else None
    return None


def _uid(user: str) -> set[int]:
    """The number of a user; none if there is no such user, and then only root may be the agent."""
    if user.isdigit():
        return {int(user)}
    with contextlib.suppress(KeyError):
        return {pwd.getpwnam(user).pw_uid}
    return set()


def _stop(_number: int, _frame: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
