"""A script of all that a store does, run in a forked child for each of its operations on the disk.

Run under tests/disk_shim.c, with a folder, one for journals, "kill" or "fail", the first number and the step.
Each child says in its journal what it attempts, what the store says is durable, what the depot is said to
have, and when the file is damaged by hand. It ends with 3 when the script was over before the operation came.
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from agent.core.records import Record, Stream
from sync.errors import StoreError
from sync.store import Store
from tests.store_rig import Rig, alarm, audit, noise, sample, state

OVER = 3
PAGE = 1024
_T = TypeVar("_T")


class Script:
    """The store of one file, and the journal about it. What is refused is asked again, as the writer does."""

    def __init__(self, folder: Path, journal: Path) -> None:
        self.rig = Rig(folder / "queue.sqlite", sealed=True, keep_acked_s=100)
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._store: Store | None = None
        self._at = 0

    def say(self, *words: object) -> None:
        os.write(self._journal, (" ".join(map(str, words)) + "\n").encode())

    def use(self, ask: Callable[[Store], _T]) -> _T:
        for _ in range(10):
            try:
                if self._store is None:
                    self._store = self.rig.open()
                return ask(self._store)
            except StoreError as error:
                why = error
        raise AssertionError("the store is not usable any more") from why

    def put(self, *makers: Callable[[int], Record], remember: bytes | None = None) -> None:
        self.rig.clock.advance(1)
        records = []
        for make in makers:
            self._at += 1
            records.append(make(self._at))
            self.say("try", records[-1].kind.stream.value, self._at)
        firsts = self.use(lambda store: store.append(records, remember))
        for record in records:
            stream = record.kind.stream
            self.say("ack", stream.value, record.at, firsts[stream])
            firsts[stream] += 1

    def acknowledge(self, stream: Stream) -> None:
        run = self.use(lambda store: store.read_batch(stream, store.stats()[stream].acked.seq, 1_000))
        if run is not None:
            self.say("depot", stream.value, run.head.seq)
            self.use(lambda store: store.acknowledge(stream, run.epoch, run.head))

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None

    def damage(self) -> None:
        """The file's first page is gone: nothing can be read by SQLite, every row can by us."""
        self.close()
        self.say("damaged", Stream.ALARM.value)
        with self.rig.path.open("r+b") as file:
            file.write(bytes(PAGE))

    def run(self) -> None:
        def everything(remember: bytes | None = None) -> None:
            self.put(sample, state, alarm, sample, audit, remember=remember)

        everything()
        everything(b"one")
        self.put(lambda at: state(at, noise(self.rig.random, 6_000)))
        self.acknowledge(Stream.STATE)
        self.put(*[sample] * 30)
        self.close()
        everything(b"two")
        self.rig.clock.advance(200)
        self.acknowledge(Stream.TELEMETRY)
        everything()
        self.close()
        self.rig.reboot()
        everything()
        self.rig.clock.advance(200)
        everything()
        self.damage()
        everything(b"three")
        self.acknowledge(Stream.ALARM)
        everything()
        self.close()
        everything()
        self.close()


def child(folder: Path, journals: Path, mode: str, number: int) -> int:
    """The exit status of the script whose operation ``number`` kills it or fails."""
    place = folder / str(number)
    place.mkdir()
    os.environ["IVMA_DISK_KILL" if mode == "kill" else "IVMA_DISK_FAIL"] = str(number)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    Script(place, journals / str(number)).run()
    reached = ctypes.c_long.in_dll(ctypes.CDLL(None), "disk_operations").value
    return 0 if reached >= number else OVER


def main(folder: Path, journals: Path, mode: str, first: int, stride: int) -> int:
    number = first
    while True:
        if (pid := os.fork()) == 0:
            status = 1
            try:
                status = child(folder, journals, mode, number)
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{number} {status}\n")
        sys.stdout.flush()
        if status == OVER:
            return 0
        number += stride


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
