"""SIGKILL of tablet, broker and depot in the middle of the flow: nothing lost, nothing invented."""

from __future__ import annotations

import os
import random
import selectors
import subprocess
import sys
from pathlib import Path

import pytest

from agent.core.records import Stream
from simulator.broker import Broker
from tests.brokers import running
from tests.sync_rig import Depot, depot, keys

ROOT = Path(__file__).parents[2]
ROUNDS = 5
RECORDS = 1500  # of a round that is not killed


class TabletProcess:
    """Runs tests.tablet_process and collects what it says is durable."""

    def __init__(self, folder: Path, key_folder: Path, port: int, first: int) -> None:
        self.durable: list[int] = []
        self._rest = b""
        self._errors = (folder / "tablet.log").open("ab")
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.tablet_process", "--folder", str(folder),
                "--keys", str(key_folder), "--port", str(port), "--first", str(first),
                "--count", str(RECORDS),
            ],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip

    def read(self, lines: int | None = None) -> None:
        """Read so many lines, or up to the end; a line that a kill cut off does not count."""
        assert self.process.stdout is not None
        wanted = None if lines is None else len(self.durable) + lines
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while wanted is None or len(self.durable) < wanted:
                assert ready.select(30), "the tablet says nothing"
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    return
                *whole, self._rest = (self._rest + data).split(b"\n")
                self.durable.extend(map(int, whole))

    def kill(self) -> None:
        self.process.kill()
        self.read()
        self.close()

    def close(self) -> int:
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()
        return self.process.wait(30)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_when_anything_is_killed_at_any_time(tmp_path: Path, seed: int) -> None:
    def scene(broker: Broker, far_end: Depot) -> None:
        rng = random.Random(seed)
        durable: set[int] = set()
        for round_ in range(ROUNDS):
            it = TabletProcess(tmp_path, key_folder, broker.port, round_ * RECORDS)
            it.read(rng.randrange(1, RECORDS // 2))
            victims: list[Broker | Depot] = [broker, far_end]
            for victim in rng.sample(victims, rng.randrange(3)):
                victim.kill()
                victim.run()
                it.read(rng.randrange(1, 200))
            it.kill()
            durable.update(it.durable)
        last = TabletProcess(tmp_path, key_folder, broker.port, ROUNDS * RECORDS)
        last.read()
        assert last.close() == 0, (tmp_path / "tablet.log").read_text()
        durable.update(last.durable)

        held = far_end.numbers()
        entry = far_end.chain(Stream.TELEMETRY)
        assert len(held) == len(set(held)), "twice"
        assert durable <= set(held), "lost"
        assert set(held) <= set(range((ROUNDS + 1) * RECORDS)), "invented"
        assert held == sorted(held), "out of order"
        assert (entry["chain"], entry["gaps"], entry["records"]) == ("verified", [], entry["last_seq"])
        assert entry["signed_to"] == entry["last_seq"] == len(held)
        assert far_end.quarantined() == []

    key_folder = keys(tmp_path / "keys")
    with running("mosquitto", tmp_path) as broker, depot(tmp_path, key_folder, broker.port) as far_end:
        scene(broker, far_end)
