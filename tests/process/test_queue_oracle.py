"""The queue's oracle: it holds under faults, and says so when something is lost or invented."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.evidence.queue_oracle import Counts, look, run
from tests.oracle_rig import Process, scene
from tests.system import need


@pytest.mark.slow
def test_the_oracle_finds_nothing_wrong_and_would_find_what_is(tmp_path: Path) -> None:
    need("mosquitto")
    counts = asyncio.run(run(11, tmp_path))
    assert counts.wrong == []
    assert (counts.lost, counts.unexpected) == (0, 0)
    assert counts.acknowledged > 100

    told = tmp_path / "journal"
    before = told.read_text()
    told.write_text(before + "try state 1 4\nack state 1 4\n")  # acknowledged, and nobody has them
    assert _looked(tmp_path).lost == 3
    told.write_text("\n".join(before.splitlines()[2:]))  # what its first two lines name was never attempted
    assert _looked(tmp_path).unexpected > 0


@pytest.mark.slow
def test_a_run_that_breaks_off_leaves_nothing_running(tmp_path: Path) -> None:
    need("mosquitto")
    seen: list[Process] = []

    async def broken_off() -> None:
        async with scene(tmp_path, 11) as here:
            await here.begin()
            seen.extend([here.tablet, here.depot])
            assert all(process.alive for process in seen)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(broken_off())
    assert not any(process.alive for process in seen)


def _looked(folder: Path) -> Counts:
    counts = Counts()
    look(folder, counts)
    return counts
