"""A change of the fleet's key: kept before it counts, in order, and the loop never waits for the disk."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from agent.core.orders import NewFleetKey
from agent.core.records import Record
from agent.core.types import BootNs
from agent.fleet_key import FleetKey
from tests.aio import looped
from tests.disk_shim import ROOT, Shim, Stall

WAIT_S = 60


def order(generation: int) -> NewFleetKey:
    return NewFleetKey(BootNs(generation), generation, bytes([generation]) * 32)


@looped
async def test_a_key_counts_once_it_is_kept_and_never_goes_back(tmp_path: Path) -> None:
    file = tmp_path / "fleet-key.json"
    known = FleetKey(file, bytes(32), 1)
    sealed: list[int] = []
    noted: asyncio.Queue[Record] = asyncio.Queue()
    for generation in (2, 4, 3, 5, 1):
        known.change(order(generation), lambda _key, number: sealed.append(number), noted.put_nowait)
    assert known.generation == 1, "nothing is on the disk yet"
    while known.generation != 5:
        await asyncio.wait_for(noted.get(), WAIT_S)
    assert sealed == [2, 5], "of those that came meanwhile the newest"
    again = FleetKey(file, bytes(32), 1)
    assert (again.key, again.generation) == (bytes([5]) * 32, 5)


@looped
async def test_a_key_that_the_disk_refuses_is_tried_again_when_it_comes_again(tmp_path: Path) -> None:
    folder = tmp_path / "not yet"
    known = FleetKey(folder / "fleet-key.json", None, 0)
    noted: asyncio.Queue[Record] = asyncio.Queue()
    known.change(order(2), lambda _key, _number: None, noted.put_nowait)
    async with asyncio.timeout(WAIT_S):
        while known._writing:
            await asyncio.to_thread(lambda: None)
    assert (known.key, known.generation) == (None, 0)
    folder.mkdir()
    known.change(order(2), lambda _key, _number: None, noted.put_nowait)
    await asyncio.wait_for(noted.get(), WAIT_S)
    assert known.generation == 2


def test_the_loop_goes_on_while_the_disk_does_not_answer(tmp_path: Path, shim: Shim) -> None:
    (tmp_path / "state").mkdir()
    stall = Stall(tmp_path)
    stall.begin()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.unit.test_fleet_key", tmp_path / "state" / "fleet-key.json"],
        env=Shim(shim.library, tmp_path / "state").environment(stall=stall.path), cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            stall.wait()
            program.stdin.write("?\n")
            program.stdin.flush()
            assert program.stdout.readline() == "the loop lives, generation 0\n"
            stall.end()
            assert program.stdout.readline() == "kept, generation 2\n"
        finally:
            stall.close()
            program.kill()


async def main(file: Path) -> None:
    """Change the key; answer a line on stdin from the loop; say when the key is kept."""
    known = FleetKey(file, None, 0)
    kept: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), asked.set)
    known.change(order(2), lambda _key, _number: None, kept.set_result)
    await asked.wait()
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    sys.stdout.write(f"the loop lives, generation {known.generation}\n")
    sys.stdout.flush()
    await kept
    sys.stdout.write(f"kept, generation {known.generation}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
