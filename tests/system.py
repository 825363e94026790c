"""What a test needs of the machine: a missing part skips with its reason; in CI it fails."""

from __future__ import annotations

import os
import shutil

import pytest


def need(*programs: str) -> None:
    """Skip the calling test unless every program is installed; fail it when CI=true."""
    missing = [name for name in programs if shutil.which(name, path=search_path()) is None]
    if missing:
        lacking(f"{', '.join(missing)} not installed; `make system-deps` installs it")


def lacking(reason: str) -> None:
    """Skip the calling test for a reason of the machine's; fail it when CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"needed in CI: {reason}")
    pytest.skip(reason)


def search_path() -> str:
    """PATH with the system administrator's folders, where Debian keeps mosquitto and systemd tools."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
