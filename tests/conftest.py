"""For every test: programs that are started take signals as they would in a terminal, and time fails nothing.

On a loaded machine Hypothesis would else fail a test for being slow, which is not what it is about.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.disk_shim import Shim
from tests.system import lacking

# A shell that runs the tests in the background has them ignore SIGINT, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _log_as_by_default() -> Iterator[None]:
    """A test that quietens the log in its process quietens it for no other."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def _shim_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        lacking("no gcc to build tests/disk_shim.c with")
    return Shim.build(tmp_path_factory.mktemp("shim"), Path("/")).library


@pytest.fixture
def shim(_shim_library: Path, tmp_path: Path) -> Shim:
    """A disk for child processes, under ``tmp_path``, that fails as its environment says."""
    return Shim(_shim_library, tmp_path)
