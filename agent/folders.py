"""The agent's own folders: nobody else may put anything there, so nothing in them is a trap."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class FolderError(OSError):
    """A folder that others could write to; the text says which, and what to do."""


def own_folder(path: Path, mode: int) -> None:
    """Make ``path`` with a mode if it is not there. A link to a folder is followed, and that one looked at.

    Raises:
        FolderError: it belongs to somebody else, or others may write to it: they could lay links and files
            in the agent's way.
        OSError: it cannot be made, or is no folder.
    """
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise FolderError(
            f"{path}: belongs to user {found.st_uid}; expected the agent's own ({os.geteuid()}) or root: "
            f"look who made it, then `chown {os.geteuid()} {path}`"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FolderError(f"{path}: others can write to it; look what is in it, then `chmod go-w {path}`")
