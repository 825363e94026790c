"""Power cuts at every write, sync and deletion of a script: each step of it happened or did not, in full.

Before each operation of the disk several cuts are tried on copies: any subset of the sectors that were not
synced has arrived. What a copy holds must be what the store held before the step at hand, or after it.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.core.records import Stream
from simulator.virtual.disk import Disk, Operation
from sync.errors import StoreError
from sync.store import MIN_QUOTA, Store
from tests.disk_rig import Script, disk_at, found_in, twin
from tests.store_rig import Rig, alarm, audit, noise, sample, state

Step = Callable[[Script], None]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for copies, where a sync costs nothing if there is such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


# --- scripts ----------------------------------------------------------------------------------------


def puts(*, remember: bytes | None = None, times: int = 1, size: int = 0) -> Step:
    """Append one group with records of all streams."""

    def step(script: Script) -> None:
        rig = script.rig
        rig.clock.advance(1)
        at = rig.clock.boot_ns
        evidence = noise(rig.random, size) if size else "[]"
        records = [sample(at), state(at, evidence), alarm(at), sample(at + 1), audit(at)]
        script.store.append(records * times, remember)

    return step


def big(size: int) -> Step:
    def step(script: Script) -> None:
        script.rig.clock.advance(1)
        script.store.append([state(script.rig.clock.boot_ns, noise(script.rig.random, size))])

    return step


def acked(stream: Stream, share: float = 1.0) -> Step:
    return lambda script: script.acknowledge(stream, share)


def later(seconds: float) -> Step:
    return lambda script: script.rig.clock.advance(seconds)


def rebooted(script: Script) -> None:
    script.close()
    script.rig.reboot()
    script.open()


EVERYDAY: list[Step] = [
    Script.open, puts(), puts(remember=b"one"), puts(times=20), acked(Stream.STATE), puts(),
    acked(Stream.TELEMETRY, 0.5), Script.close, Script.open, puts(remember=b"two"),
    later(200), acked(Stream.ALARM, 0.5), puts(), puts(), rebooted, puts(), acked(Stream.STATE), rebooted,
    later(200), puts(), puts(times=3), Script.close,
]  # fmt: skip
# After 250 blocks of 4 KB, that is with a stream at its quota: every step sheds or lets go.
SHEDDING: list[Step] = [
    Script.open, *[big(8_000)] * 10, acked(Stream.STATE, 0.2), *[big(30_000)] * 3, Script.close,
    Script.open, big(8_000), acked(Stream.STATE), later(200), big(8_000), *[big(100_000)] * 3, Script.close,
]  # fmt: skip
# More than the 1,000 pages after which SQLite copies its log into the database.
CHECKPOINTS: list[Step] = [
    Script.open,
    puts(),
    *[big(400_000)] * 6,
    *[puts()] * 3,
    rebooted,
    puts(),
    Script.close,
]


def filled(rig: Rig) -> None:
    """A state stream just below its quota, on the plain file system."""
    rig.quotas[Stream.STATE] = MIN_QUOTA
    store = rig.open()
    while store.stats()[Stream.STATE].size < MIN_QUOTA - 10_000:
        rig.clock.advance(1)
        store.append([state(rig.clock.boot_ns, noise(rig.random, 8_000))])
    store.close()


# --- the check --------------------------------------------------------------------------------------


class Cuts:
    """Tries cuts while a script runs, and collects what did not survive them."""

    def __init__(
        self, disk: Disk, script: Script, scratch: Path, steps: list[Step], *, tries: int, one_in: int
    ) -> None:
        self.disk = disk
        self.script = script
        self.scratch = scratch
        self.steps = steps
        self.tries = tries
        self.one_in = one_in  # of writes
        self.operations = 0
        self.tried = 0
        self.violations: list[str] = []
        self._known: dict[bytes, str] = {}  # what was found in such files before
        self._held: dict[str, str] = {}  # in this step: what copies held, and the first cut that showed it
        disk.on_operation = self.operation

    def operation(self, operation: Operation) -> None:
        self.operations += 1
        if operation is Operation.WRITE and self.operations % self.one_in:
            return
        for number in range(self.tries):
            self.disk.torn = number % 3 != 2
            cut = f"operation {self.operations} ({operation.value}), try {number}"
            left = self.disk.after_cut(random.Random(cut))
            digest = hashlib.sha256(b"".join(name.encode() + left[name] for name in sorted(left))).digest()
            if digest not in self._known:
                self._known[digest] = self.found(left)
            self._held.setdefault(self._known[digest], cut)
            self.tried += 1

    def found(self, files: dict[str, bytes]) -> str:
        """What a store finds in these files, or why it cannot."""
        try:
            store = twin(self.script.rig, self.scratch, files).open()
        except StoreError as error:
            return str(error)
        try:
            return store.damaged or found_in(store)
        except StoreError as error:
            return str(error)
        finally:
            store.close()

    def run(self) -> None:
        before = self.found({path.name: path.read_bytes() for path in self.disk.folder.iterdir()})
        for number, step in enumerate(self.steps):
            step(self.script)
            now = found_in(self.script.store) if self.script.running else before
            for held, cut in self._held.items():
                if held not in (before, now):
                    self.violations.append(f"step {number}, {cut}: {held}")
            self._held.clear()
            before = now


def cut_everywhere(
    folder: Path, scratch: Path, steps: list[Step], *, prepare: Callable[[Rig], None] = lambda rig: None,
    tries: int = 3, one_in: int = 1, sealed: bool = False, make: type[Store] = Store,
) -> Cuts:  # fmt: skip
    rig = Rig(folder / "queue.sqlite", sealed=sealed, keep_acked_s=100)
    folder.mkdir()
    prepare(rig)
    with disk_at(folder) as disk:
        script = Script(rig, make)
        cuts = Cuts(disk, script, scratch, steps, tries=tries, one_in=one_in)
        cuts.run()
        script.close()
    return cuts


@pytest.mark.parametrize("sealed", [False, True])
def test_an_everyday_life_survives_a_cut_at_any_operation(
    tmp_path: Path, scratch: Path, sealed: bool
) -> None:
    cuts = cut_everywhere(tmp_path / "disk", scratch, EVERYDAY, tries=5, sealed=sealed)
    assert cuts.violations == []
    assert cuts.tried > 1_000


def test_shedding_and_retention_survive_a_cut_at_any_operation(tmp_path: Path, scratch: Path) -> None:
    cuts = cut_everywhere(tmp_path / "disk", scratch, SHEDDING, prepare=filled, one_in=80)
    assert cuts.violations == []
    assert cuts.tried > 200


def test_the_log_s_return_into_the_database_survives_cuts(tmp_path: Path, scratch: Path) -> None:
    cuts = cut_everywhere(tmp_path / "disk", scratch, CHECKPOINTS, one_in=60)
    assert cuts.violations == []
    assert cuts.tried > 200


class NotSynced(Store):
    """What the store would be without its syncs."""

    def _open(self) -> sqlite3.Connection:
        db = super()._open()
        db.execute("PRAGMA synchronous = OFF")
        return db


@pytest.mark.parametrize("steps", [EVERYDAY, CHECKPOINTS])
def test_the_same_scripts_find_a_store_that_does_not_sync(
    tmp_path: Path, scratch: Path, steps: list[Step]
) -> None:
    """So that the tests above can fail: the disk does lose what nobody synced."""
    cuts = cut_everywhere(tmp_path / "disk", scratch, steps, tries=1, one_in=60, make=NotSynced)
    assert cuts.violations != []
