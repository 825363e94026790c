"""The posture file: what the guard has to say to others on the tablet, and to its own next run.

A few lines of text in a folder that only the guard can write to, replaced as a whole. "usable" holds until a
boot time of this boot: a file that is left over is worth nothing. `ivma-pam` reads it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

NAME = "posture"
HEAD = "ivma-posture 1"
SIZE_MAX = 2048  # bytes; ours
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class PostureError(Exception):
    """The file says nothing that counts; the text says why."""


@dataclass(frozen=True, slots=True)
class Posture:
    """``until`` counts for a usable tablet; ``lapsed`` the lease whose end locked it, if unrecorded yet."""

    usable: bool
    boot_id: str
    decision: int = 0
    until: int = 0  # boot ns
    evidence_at: int = 0  # boot ns
    lapsed: int | None = None
    because: str = ""

    def text(self) -> str:
        because = "".join(char if char.isprintable() else " " for char in self.because)
        return (
            f"{HEAD}\nposture {'usable' if self.usable else 'restricted'}\nboot {self.boot_id}\n"
            f"decision {self.decision}\nuntil {self.until}\nevidence {self.evidence_at}\n"
            f"lapsed {'-' if self.lapsed is None else self.lapsed}\nbecause {because}\n"
        )


def parse(text: str) -> Posture:
    """Raises PostureError."""
    head, *lines = text.splitlines() or [""]
    if head != HEAD:
        raise PostureError(f"expected {HEAD!r} in the first line, found {head[:40]!r}")
    said = dict(line.split(" ", 1) for line in lines if " " in line)
    try:
        lapsed = said["lapsed"]
        return Posture(
            usable={"usable": True, "restricted": False}[said["posture"]],
            boot_id=said["boot"],
            decision=int(said["decision"]),
            until=int(said["until"]),
            evidence_at=int(said["evidence"]),
            lapsed=None if lapsed == "-" else int(lapsed),
            because=said["because"],
        )
    except (KeyError, ValueError) as error:
        raise PostureError(f"not a posture: {error!r}") from None


def write(folder: Path, posture: Posture) -> None:
    """Replace the file: a reader finds the old one or the new one, whole. Raises OSError."""
    new = folder / f".{NAME}.new"
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        os.write(fd, posture.text().encode())
        os.fchmod(fd, 0o644)  # whatever the umask is
    finally:
        os.close(fd)
    new.replace(folder / NAME)


def read(folder: Path, owners: Collection[int]) -> Posture:
    """The posture, if the file is as the guard leaves it: a plain file that nobody else can have written.

    Raises:
        PostureError: it is missing, a link, of another owner, writable by others, too long, or no posture.
    """
    path = folder / NAME
    only_theirs(folder, folder.lstat, owners, directory=True)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PostureError(f"{path}: {error.strerror}") from None
    try:
        only_theirs(path, lambda: os.fstat(fd), owners, directory=False)
        data = os.read(fd, SIZE_MAX + 1)
    except OSError as error:
        raise PostureError(f"{path}: {error.strerror}") from None
    finally:
        os.close(fd)
    if len(data) > SIZE_MAX:
        raise PostureError(f"{path}: over {SIZE_MAX} bytes")
    return parse(data.decode(errors="replace"))


def only_theirs(
    path: Path, look: Callable[[], os.stat_result], owners: Collection[int], *, directory: bool
) -> None:
    """Raises PostureError unless it is of this kind, is one of ``owners``', and only they can write to it."""
    try:
        found = look()
    except OSError as error:
        raise PostureError(f"{path}: {error.strerror}") from None
    kind = stat.S_ISDIR if directory else stat.S_ISREG
    if not kind(found.st_mode):
        raise PostureError(f"{path}: expected a {'folder' if directory else 'plain file'}")
    if found.st_uid not in owners:
        raise PostureError(f"{path}: belongs to user {found.st_uid}, expected {sorted(owners)}")
    if found.st_mode & OTHERS_WRITE:
        raise PostureError(f"{path}: others can write to it")
