"""Maintenance accounts: users whom neither guard nor `ivma-pam` keeps out. A file of root's, one name a line.

Not in the agent's configuration: that a screen locker's user cannot read, and this must hold without it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from agent.guard.posture import PostureError, only_theirs

FILE = Path("/etc/security/ivma-maintenance")
SIZE_MAX = 4096  # bytes; ours


class ExemptError(Exception):
    """The file does not count; the text says why."""


def read_exempt(path: Path, owners: Collection[int]) -> frozenset[str]:
    """The names in the file; none if there is no file.

    Raises:
        ExemptError: it is a link or no plain file, of another owner, writable by others, or too long.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise ExemptError(f"{path}: {error.strerror}") from None
    try:
        only_theirs(path, lambda: os.fstat(fd), owners, directory=False)
        data = os.read(fd, SIZE_MAX + 1)
    except (OSError, PostureError) as error:
        raise ExemptError(str(error)) from None
    finally:
        os.close(fd)
    if len(data) > SIZE_MAX:
        raise ExemptError(f"{path}: over {SIZE_MAX} bytes")
    lines = (line.strip() for line in data.decode(errors="replace").splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))
