"""SIGKILL of a process that writes: whatever it was told is durable is there, and the chain holds.

The child commits records through the real thread and says on its standard output what was acknowledged;
the parent kills it after some number of lines, which is no particular moment for the child.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.core.records import Record, Stream
from sync.store import Store
from sync.writer import StoreThread
from tests.store_rig import Rig, alarm, read_all, sample, state

KILLS = 8


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def rig(path: Path, run: int) -> Rig:
    return Rig(path, random=random.Random(run), sealed=True)


async def write(path: Path, run: int) -> None:
    """Three producers, each awaiting durability; one line for each acknowledged record."""
    thread = StoreThread(rig(path, run).open, boot_ns, telemetry_group_s=1)
    await thread.start()

    async def produce(make: Record, n: int) -> None:
        while True:
            n += 1
            record = Record(make.kind, n, make.body)
            receipt = await thread.commit(
                [record], str(n).encode() if make.kind.stream is Stream.ALARM else None
            )
            ((stream, (seq, _)),) = receipt.seqs.items()
            os.write(1, f"{stream.value} {seq} {n}\n".encode())

    await asyncio.gather(
        produce(alarm(0), run * 1_000_000),
        produce(state(0), run * 1_000_000),
        produce(sample(0), run * 1_000_000),
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_acknowledged_is_lost_by_sigkill(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "queue.sqlite"
    source = random.Random(seed)
    told: dict[Stream, dict[int, int]] = {stream: {} for stream in Stream}
    for run in range(1, KILLS + 1):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.process.test_store_kill", str(path), str(run)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        with child, child.stdout as lines:
            for _ in range(source.randrange(1, 200)):
                note(told, lines.readline())
            os.kill(child.pid, signal.SIGKILL)
            for line in lines:  # said before it died
                if line.endswith("\n"):
                    note(told, line)
        assert child.returncode == -signal.SIGKILL
        store = rig(path, 0).open()
        check(store, told)
        assert store.remembered is not None
        assert int(store.remembered) >= max(told[Stream.ALARM].values(), default=0)
        store.close()
    assert sum(map(len, told.values())) >= KILLS


def note(told: dict[Stream, dict[int, int]], line: str) -> None:
    stream, seq, number = line.split()
    assert int(seq) not in told[Stream(stream)], "a sequence number was given twice"
    told[Stream(stream)][int(seq)] = int(number)


def check(store: Store, told: dict[Stream, dict[int, int]]) -> None:
    for stream, expected in told.items():
        found = read_all(store, stream)
        assert found.gaps == []
        assert list(found.rows) == list(range(1, store.heads()[stream].seq + 1))
        assert {seq: found.rows[seq].at for seq in expected} == expected
        numbers = [row.at for row in found.rows.values()]
        assert numbers == sorted(set(numbers)), "nothing twice, nothing out of order"


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))
