"""The accounts of a play find what is missing, what is too much, and chains that do not hold."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.records import Stream
from simulator.compose_accounts import Accounts, account, depot_state
from sync.blocks import follow, genesis, parse_block, read_rows
from sync.depot.storage import DepotStorage
from tests.store_rig import DEVICE, SECOND, Rig, alarm, sample


class Ends:
    """A tablet's queue with two streams, and a depot that holds copies of its blocks."""

    def __init__(self, folder: Path) -> None:
        self.queue, self.depot = folder / "queue.db", folder / "depot.db"
        store = Rig(self.queue).open()
        for number in range(1, 5):
            store.append([alarm(number * SECOND), sample(number * SECOND), sample(number * SECOND)])
        runs = {stream: store.read_batch(stream, 0, 1 << 20) for stream in (Stream.ALARM, Stream.TELEMETRY)}
        storage = DepotStorage(self.depot)
        with storage.transaction():
            for stream, run in runs.items():
                assert run is not None
                head = genesis(DEVICE, stream, store.epoch)
                chain = storage.begin("fleet", DEVICE, stream, store.epoch, head)
                for raw in run.blocks:
                    block = parse_block(raw)
                    head = follow(head, block)
                    storage.add(chain, block, head, read_rows(block))
        storage.close()
        store.close()

    def alter(self, path: Path, sql: str) -> Accounts:
        """Change one end behind everybody's back, then compare."""
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(sql)
        return self.compare()

    def compare(self) -> Accounts:
        return account(self.queue, self.depot, DEVICE)


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return Ends(tmp_path)


def test_equal_ends_hold(ends: Ends) -> None:
    accounts = ends.compare()
    assert accounts == Accounts(12, 12, 0, 0, 0, "verified")
    assert accounts.hold


def test_reading_leaves_the_files_as_they_are(ends: Ends) -> None:
    before = ends.queue.read_bytes(), ends.depot.read_bytes()
    ends.compare()
    assert (ends.queue.read_bytes(), ends.depot.read_bytes()) == before


def test_a_record_that_the_depot_lacks_is_lost(ends: Ends) -> None:
    accounts = ends.alter(ends.depot, "DELETE FROM record WHERE seq = 3 AND kind = 'power.sample'")
    assert (accounts.lost, accounts.unexpected, accounts.hold) == (1, 0, False)


def test_a_record_that_no_tablet_made_is_unexpected(ends: Ends) -> None:
    accounts = ends.alter(ends.depot, "UPDATE record SET seq = 99 WHERE seq = 3 AND kind = 'power.sample'")
    assert (accounts.lost, accounts.unexpected, accounts.hold) == (1, 1, False)


def test_duplicates_are_counted(ends: Ends) -> None:
    accounts = ends.alter(ends.depot, "UPDATE chain SET duplicates = 7 WHERE stream = 'alarm'")
    assert accounts.duplicates_dropped == 7
    assert accounts.hold


@pytest.mark.parametrize(
    ("side", "sql"),
    [
        ("queue", "UPDATE telemetry SET block = CAST(block || x'00' AS BLOB) WHERE seq = 2"),
        ("depot", "UPDATE block SET raw = CAST(raw || x'00' AS BLOB) WHERE last_seq = 2"),
    ],
)
def test_a_block_that_was_changed_breaks_the_chain(ends: Ends, side: str, sql: str) -> None:
    accounts = ends.alter(ends.queue if side == "queue" else ends.depot, sql)
    assert accounts.chains != "verified"
    assert not accounts.hold


def test_a_chain_that_ends_early_is_named(ends: Ends) -> None:
    accounts = ends.alter(ends.depot, "DELETE FROM block WHERE last_seq = 8")
    assert "telemetry: the chains end differently" in accounts.chains


def test_nothing_produced_proves_nothing() -> None:
    assert not Accounts(0, 0, 0, 0, 0, "verified").hold


def test_a_depot_that_is_not_there_yet_has_nothing(tmp_path: Path) -> None:
    assert depot_state(tmp_path / "none.db", DEVICE) == ({}, "")
    (tmp_path / "new.db").touch()
    assert depot_state(tmp_path / "new.db", DEVICE) == ({}, "")
