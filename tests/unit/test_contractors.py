"""The time box of a contractor's token: powered time, boots, and that nothing is gained by a power cut."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.contractors import BOOTS_MAX, TOKENS_MAX, Contractors
from agent.control import Caller, Peer, Refusal
from agent.core.records import Record
from agent.core.types import MINUTE, SECOND, BootNs

GROUP = 4242
GOOD = "good"
START = BootNs(100 * SECOND)
SMITH = Peer(1, 65534, frozenset({GROUP}))


@dataclass(frozen=True)
class Token:
    id: str = "0" * 32
    number: int = 7
    actions: tuple[str, ...] = ("pair",)
    contractor: str = "Smith"
    minutes: int = 60


@dataclass
class Tablet:
    """Boots, and a boot clock."""

    file: Path
    tokens: dict[str, Token] = field(default_factory=lambda: {"good": Token()})
    boot: int = 0
    now: BootNs = START
    records: list[Record] = field(default_factory=list)
    told: list[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    def read(self, text: str) -> Token:
        try:
            return self.tokens[text]
        except KeyError:
            raise ValueError("no such token") from None

    def restart(self) -> None:
        """The agent starts again, in the same boot."""
        self.desk = Contractors(
            self.file, f"boot-{self.boot}", self.read, GROUP, self.records.append, lambda: self.now
        )

    def reboot(self, after_s: int = 100) -> None:
        self.boot += 1
        self.now = BootNs(after_s * SECOND)
        self.restart()

    def wait(self, minutes: float) -> None:
        self.now = BootNs(self.now + round(minutes * MINUTE))

    def use(self, token: object = GOOD, action: str = "pair", peer: Peer = SMITH) -> None:
        self.desk.allow(action, token, Caller(peer, self.told.append))

    def left_min(self) -> float:
        """What the last use left."""
        left = self.records[-1].as_dict()["left_s"]
        assert isinstance(left, int)
        return left / 60


@pytest.fixture
def tablet(tmp_path: Path) -> Tablet:
    return Tablet(tmp_path / "contractors.json")


def refused(tablet: Tablet, code: str, **use: Any) -> None:
    with pytest.raises(Refusal) as refusal:
        tablet.use(**use)
    assert refusal.value.code == code


def test_time_counts_from_the_first_presentation_over_restarts_of_the_agent(tablet: Tablet) -> None:
    tablet.wait(600)
    tablet.use()
    assert tablet.left_min() == 60
    tablet.wait(59)
    tablet.restart()
    tablet.use()
    assert tablet.left_min() == 1
    tablet.wait(1)
    refused(tablet, "used_up")


def test_a_boot_costs_what_is_not_known_and_counts_from_its_beginning(tablet: Tablet) -> None:
    tablet.use()
    tablet.wait(5)
    tablet.use()
    tablet.wait(40)  # nobody saw it; the boot forfeits 10 minutes for it
    tablet.reboot(after_s=120)
    tablet.use()
    assert tablet.left_min() == 60 - 5 - 10 - 2


def test_the_third_boot_is_the_last_also_when_the_token_is_not_presented(tablet: Tablet) -> None:
    tablet.tokens["good"] = Token(minutes=7 * 24 * 60)
    tablet.use()
    for _ in range(BOOTS_MAX - 1):
        tablet.reboot()
        tablet.use()
    tablet.reboot()
    refused(tablet, "used_up")

    tablet.tokens["second"] = Token(id="1" * 32, number=8, minutes=7 * 24 * 60)
    tablet.use("second")
    for _ in range(BOOTS_MAX):
        tablet.reboot()
    refused(tablet, "used_up", token="second")


def test_each_use_is_recorded_before_anything_is_done_with_it(tablet: Tablet) -> None:
    tablet.use()
    assert tablet.records[-1].kind.name == "contractor.used"
    assert tablet.records[-1].as_dict() == {
        "token": "0" * 32, "number": 7, "contractor": "Smith", "action": "pair", "left_s": 3600, "uid": 65534,
    }  # fmt: skip
    held = json.loads(tablet.file.read_text())
    assert held["tokens"]["0" * 32]["boots"] == 1
    assert tablet.file.stat().st_mode & 0o777 == 0o600


def test_what_a_token_does_not_say_is_refused(tablet: Tablet) -> None:
    refused(tablet, "bad_token", action="unpair")
    refused(tablet, "bad_token", token="forged")
    refused(tablet, "bad_request", token=7)
    refused(tablet, "bad_request", token="x" * 9000)
    refused(tablet, "forbidden", token=None)
    refused(tablet, "forbidden", peer=Peer(1, 65534, frozenset({1, 2})))
    assert not tablet.file.exists()
    # One record says it, not one each: whoever guesses must not flood the stream.
    assert [record.kind.name for record in tablet.records] == ["contractor.refused"]
    tablet.wait(1)
    refused(tablet, "forbidden", token=None)
    assert tablet.records[-1].as_dict()["before"] == 5


def test_root_needs_no_token(tablet: Tablet) -> None:
    tablet.use(None, peer=Peer(1, 0, frozenset()))
    assert tablet.records == []


def test_without_a_key_or_a_group_no_token_is_taken(tmp_path: Path) -> None:
    for read, group in ((None, GROUP), (lambda _text: Token(), None)):
        desk = Contractors(tmp_path / "c", "boot", read, group, lambda _record: None, lambda: BootNs(1))
        with pytest.raises(Refusal, match="takes no contractor's tokens"):
            desk.allow("pair", "good", Caller(SMITH, lambda _step: None))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"floor": 0}', '{"floor": 0, "tokens": {"a": {}}}', "\0"])
def test_a_note_that_cannot_be_read_lets_nobody_in(tablet: Tablet, text: str) -> None:
    tablet.file.write_text(text)
    tablet.restart()
    refused(tablet, "store")
    assert tablet.file.read_text() == text


def test_a_disk_that_cannot_keep_the_use_lets_nobody_in(tablet: Tablet) -> None:
    tablet.file.with_name(f"{tablet.file.name}.part").mkdir()
    refused(tablet, "store")
    assert [record.kind.name for record in tablet.records] == ["contractor.refused"]


def test_what_was_forgotten_for_room_cannot_be_used_again(tablet: Tablet) -> None:
    for number in range(TOKENS_MAX + 1):
        tablet.tokens[f"{number}"] = Token(id=f"{number:032x}", number=100 + number)
        tablet.use(f"{number}")
    refused(tablet, "used_up", token="0")
    refused(tablet, "used_up", token="good")
    tablet.use("1")
