"""A day of a tablet at the depot: complete, with a gap, or not provable yet; an export that proves itself."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.core.records import Stream
from sync.blocks import Quality, genesis
from sync.depot.__main__ import main
from sync.depot.intake import Intake
from sync.depot.storage import DepotStorage
from sync.envelope import encode_batch
from sync.keys import Signer, Verifier
from sync.store import Store
from sync.topics import Topics
from tests.store_rig import DEVICE, SECOND, Rig, alarm

KEY = Signer(bytes([1]) * 32)
DAY_S = 86_400
NOON = 1_760_000_000 // DAY_S * DAY_S + DAY_S // 2  # 2025-10-09 12:00 UTC


class Tablet:
    """A store, whose alarms the depot takes block by block; ``lose`` drops what it has not been sent."""

    def __init__(self, folder: Path) -> None:
        self.db = folder / "depot.db"
        self.storage = DepotStorage(self.db)
        self.intake = Intake(self.storage, {DEVICE: Verifier(KEY.public)}.get)
        self.rig = Rig(folder / "queue.sqlite", sealed=True)
        self.rig.clock.wall_ns = NOON * SECOND
        self.store: Store = self.rig.open()
        self.sent = 0

    def write(self, *, hours: float = 0, quality: Quality = Quality.SYNCED) -> None:
        self.rig.clock.advance(hours * 3600)
        self.rig.clock.quality = quality
        self.store.append([alarm(self.rig.clock.boot_ns)])

    def send(self) -> None:
        run = self.store.read_batch(Stream.ALARM, self.sent, 1_000_000)
        assert run is not None
        payload = encode_batch(run, DEVICE, bytes(16), KEY, oldest=True)
        with self.storage.transaction():
            assert self.intake.take(Topics("met", DEVICE).up(Stream.ALARM), payload)
        self.sent = run.head.seq

    def lose(self) -> None:
        self.sent = self.store.heads()[Stream.ALARM].seq

    def day(self, capsys: pytest.CaptureFixture[str], date: str = "2025-10-09") -> tuple[int, str, int, int]:
        code = main(["ledger", "--db", str(self.db), "--device", DEVICE, "--day", date, "--json"])
        (entry,) = json.loads(capsys.readouterr().out.splitlines()[-1])
        return code, entry["verdict"], entry["first_seq"], entry["last_seq"]


@pytest.fixture
def tablet(tmp_path: Path) -> Tablet:
    return Tablet(tmp_path)


def test_a_day_is_complete_once_a_later_record_with_a_synced_clock_came(
    tablet: Tablet, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        tablet.write(hours=1)
    tablet.send()
    assert tablet.day(capsys) == (1, "not provable yet", 1, 3)
    tablet.write(hours=12, quality=Quality.SYNCED)
    tablet.send()
    assert tablet.day(capsys) == (0, "complete", 1, 3)
    assert tablet.day(capsys, "2025-10-10") == (1, "not provable yet", 4, 4)


def test_a_plausible_clock_alone_proves_no_end_of_a_day(
    tablet: Tablet, capsys: pytest.CaptureFixture[str]
) -> None:
    tablet.write(quality=Quality.RTC)
    tablet.write(hours=20, quality=Quality.RTC)
    tablet.send()
    assert tablet.day(capsys) == (1, "not provable yet", 1, 1)


def test_a_wrong_clock_is_repaired_by_a_synced_one_of_the_same_boot(
    tablet: Tablet, capsys: pytest.CaptureFixture[str]
) -> None:
    tablet.rig.clock.wall_ns = 0
    tablet.write(quality=Quality.UNSET)
    tablet.rig.clock.wall_ns = NOON * SECOND
    tablet.write(hours=1)
    tablet.write(hours=20)
    tablet.send()
    assert tablet.day(capsys) == (0, "complete", 1, 2)


def test_a_gap_is_of_every_day_that_it_may_lie_in(tablet: Tablet, capsys: pytest.CaptureFixture[str]) -> None:
    tablet.write()
    tablet.send()
    tablet.write(hours=1)
    tablet.lose()
    tablet.write(hours=22)
    tablet.write(hours=30)
    tablet.send()
    assert tablet.day(capsys)[:2] == (1, "gap")
    assert tablet.day(capsys, "2025-10-10")[:2] == (1, "gap")
    assert tablet.day(capsys, "2025-10-08")[:2] == (0, "complete")
    assert main(["gaps", "--db", str(tablet.db)]) == 1
    assert "alarm" in (said := capsys.readouterr().out)
    assert "2 to 2: not held by the tablet any more" in said


def test_an_altered_block_breaks_the_day(tablet: Tablet, capsys: pytest.CaptureFixture[str]) -> None:
    tablet.write()
    tablet.write(hours=20)
    tablet.send()
    tablet.storage._db.execute(
        "UPDATE block SET raw = CAST(substr(raw, 1, 80) || x'00' AS BLOB) WHERE last_seq = 1"
    )
    assert tablet.day(capsys)[:2] == (1, "broken")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--device", DEVICE, "--day", "yesterday"], "expected YYYY-MM-DD"),
        (["--day", "2025-10-09"], "expected --device too"),
    ],
)
def test_a_day_that_cannot_be_meant_is_refused(
    tablet: Tablet, options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", "--db", str(tablet.db), *options]) == 2
    assert problem in capsys.readouterr().err


def test_an_export_is_verified_with_the_device_s_key_alone(
    tablet: Tablet, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(4):
        tablet.write(hours=1)
        tablet.send()
    assert main(["export", "--db", str(tablet.db), "--device", DEVICE]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (chain,) = (line["chain"] for line in lines if "chain" in line)
    digest = genesis(DEVICE, Stream.ALARM, bytes.fromhex(chain["epoch"])).hash
    for block in (line["block"] for line in lines if "block" in line):
        digest = hashlib.sha256(digest + base64.b64decode(block["raw"])).digest()
        assert digest.hex() == block["hash"]
    assert digest.hex() == chain["head"]
    proofs = [line["proof"] for line in lines if "proof" in line]
    assert [proof["seq"] for proof in proofs] == [1, 2, 3, 4]
    for proof in proofs:
        statement = base64.b64decode(proof["statement"])
        signature = base64.b64decode(proof["signature"])
        Ed25519PublicKey.from_public_bytes(KEY.public).verify(signature, b"ivma-batch/1\0" + statement)
    assert digest in base64.b64decode(proofs[-1]["statement"])
    assert sum("segment" in line for line in lines) == 1
