"""`ivmactl queue stats | verify | export | salvage` on the file of a tablet whose agent is dead."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from agent.core.records import Stream
from sync.blocks import Head, follow, parse_block, read_rows
from sync.sealing import Opener, Segment
from tests.store_rig import FLEET_PRIVATE, Rig, noise, read_all, state

OLD = Path(__file__).parents[1] / "old_files"
ROOT = OLD.parents[1]


def queue(what: str, file: Path, *args: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "agent.cli", "queue", what, "--file", file, *args]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=60, cwd=ROOT)


def asked(what: str, file: Path, *args: object, code: int = 0) -> dict[str, Any]:
    done = queue(what, file, *args, "--json")
    assert (done.returncode, done.stderr) == (code, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A sealed queue as a kill left it: part of it is in its log only."""
    for end in ("", "-wal"):
        shutil.copy(OLD / f"queue-1-sealed.db{end}", tmp_path / f"queue.db{end}")
    return tmp_path / "queue.db"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def change(path: Path, at: int, size: int = 1) -> None:
    """Flip every bit of some bytes."""
    raw = bytearray(path.read_bytes())
    raw[at : at + size] = bytes(byte ^ 0xFF for byte in raw[at : at + size])
    path.write_bytes(raw)


def said() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OLD / "queue-1-sealed.json").read_text())
    return found


def test_numbers_and_proof_of_what_a_kill_left_and_nothing_is_changed(killed: Path) -> None:
    before = content(killed.parent)
    stats, proof = asked("stats", killed), asked("verify", killed)
    assert proof["ok"] is True
    assert stats["epoch"] == said()["epoch"]
    for stream, expected in said()["streams"].items():
        numbers, walked = stats["streams"][stream], proof["streams"][stream]
        assert (numbers["head"], numbers["hash"]) == (expected["last"], expected["hash"])
        assert (walked["last_seq"], walked["head"]) == (expected["last"], expected["hash"])
        assert numbers["acknowledged"] == walked["acknowledged"] == expected["acked"]
        assert walked["records"] == expected["last"]
    assert content(killed.parent) == before
    assert "telemetry" in queue("stats", killed).stdout
    assert "problem" not in queue("verify", killed).stdout


def test_what_is_exported_is_proved_by_its_chain_and_opened_with_the_fleets_key(killed: Path) -> None:
    out = killed.with_name("export.jsonl")
    asked("export", killed, out)
    assert out.stat().st_mode & 0o077 == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    opener = Opener({1: FLEET_PRIVATE})
    segments = [line["segment"] for line in lines if "segment" in line]
    opener.learn(
        [Segment(bytes.fromhex(s["id"]), b64decode(s["ephemeral"]), s["generation"]) for s in segments]
    )
    read = dict.fromkeys((stream.value for stream in Stream), 0)
    for line in lines:
        if chain := line.get("chain"):
            head = Head(chain["after_seq"], bytes.fromhex(chain["after"]))
            stream = chain["stream"]
        elif kept := line.get("block"):
            block = parse_block(b64decode(kept["raw"]))
            head = follow(head, block)
            assert head == Head(kept["last_seq"], bytes.fromhex(kept["hash"]))
            read[stream] += len(read_rows(block, opener))
    assert read == {name: each["last"] for name, each in said()["streams"].items()}


def test_an_altered_row_is_named(killed: Path) -> None:
    db = sqlite3.connect(killed)
    (raw,) = db.execute("SELECT block FROM audit WHERE seq = 17").fetchone()
    db.execute("UPDATE audit SET block = ? WHERE seq = 17", (raw[:-1] + bytes([raw[-1] ^ 1]),))
    db.commit()
    db.close()
    found = asked("verify", killed, code=1)
    assert [problem.split(":")[:2] for problem in found["problems"]] == [["audit", " row 17"]]
    done = queue("verify", killed)
    assert (done.returncode, "problem: audit: row 17: chain" in done.stdout) == (1, True)


def test_bits_that_flipped_in_the_log_are_found_though_sqlite_is_content(killed: Path) -> None:
    """SQLite takes the first bad frame for the log's end: what follows would be gone without a word."""
    change(killed.with_name("queue.db-wal"), 32 + 24 + 700)
    found = asked("verify", killed, code=1)
    assert "alarm: traces of records up to 41, but 40 is the last row" in found["problems"]


def test_a_file_that_sqlite_refuses_is_told_and_what_can_be_saved_is_counted(killed: Path) -> None:
    Rig(killed, sealed=True, boot=7).open().close()  # the log's content is in it from here on
    change(killed, 0, 100)
    before = content(killed.parent)
    done = queue("stats", killed)
    assert done.returncode == 1
    assert "is damaged: file is not a database: `ivmactl queue verify` says more" in done.stderr
    assert asked("verify", killed, code=1)["problems"][0] == "file: file is not a database"
    counts = asked("salvage", killed)["streams"]
    assert {name: (each["acked"], each["saved"], each["lost"]) for name, each in counts.items()} == {
        name: (each["acked"], each["last"] - each["acked"], 0) for name, each in said()["streams"].items()
    }
    assert content(killed.parent) == before


def test_salvage_writes_a_queue_that_is_proved_and_says_exactly_what_is_lost(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "queue.db")
    store = rig.open()
    for n in range(30):
        store.append([state(n, noise(rig.random, 3_000))])
    store.close()
    (tmp_path / "queue.db.lock").unlink()
    raw = rig.path.read_bytes()
    at = raw.index(sqlite3_block(rig.path, 12)[200:260])
    change(rig.path, at, 30)
    before = rig.path.read_bytes()
    new = tmp_path / "saved.db"
    counts = asked("salvage", rig.path, "--into", new, code=1)["streams"]["state"]
    assert counts == {"acked": 0, "saved": 29, "lost": 1, "first_lost": 12, "last_lost": 12}
    assert rig.path.read_bytes() == before
    proof = asked("verify", new)
    assert proof["streams"]["state"]["gaps"] == [{"first_seq": 12, "last_seq": 12, "reason": "damage"}]
    again = queue("salvage", rig.path, "--into", new)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)


def sqlite3_block(path: Path, seq: int) -> bytes:
    db = sqlite3.connect(path)
    (raw,) = db.execute("SELECT block FROM state WHERE seq = ?", (seq,)).fetchone()
    db.close()
    return bytes(raw)


def test_a_file_that_is_put_aside_is_made_anew_by_the_next_start(killed: Path) -> None:
    change(killed, 0, 100)
    found = asked("salvage", killed, "--put-aside")
    assert found["kept_as"] == f"{killed}.damaged-1"
    store = Rig(killed, random=random.Random(3), sealed=True, boot=9).open()
    assert store.damaged == "queue.db.damaged-1"
    assert max(read_all(store, Stream.AUDIT).rows) == said()["streams"]["audit"]["last"]
    assert [row.kind for row in read_all(store, Stream.ALARM).rows.values()].count("queue.damaged") == 4
    store.close()


@pytest.mark.parametrize("what", ["stats", "verify", "salvage"])
def test_a_daemon_that_owns_the_queue_is_named(what: str, tmp_path: Path) -> None:
    file = tmp_path / "queue.db"
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.process.test_store_kill", file, "1"], stdout=subprocess.PIPE, cwd=ROOT
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()  # it writes
        done = queue(what, file)
        child.kill()
    assert done.returncode == 4
    assert f"in use by process {child.pid}: stop that agent first, or ask it" in done.stderr
    assert queue(what, file).returncode == 0


@pytest.mark.parametrize("what", ["stats", "verify", "salvage"])
def test_a_file_that_is_not_there_is_named(what: str, tmp_path: Path) -> None:
    done = queue(what, tmp_path / "none.db")
    assert (done.returncode, done.stderr) == (
        2,
        f"ivmactl: queue {tmp_path / 'none.db'}: there is no such file\n",
    )
