"""Orders of the control room: what is taken, what is refused and in which word, in any order and again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.orders import Command, NewFleetKey, OrderRefused, Wanted
from agent.core.types import MS, SECOND, BootNs
from sync import documents
from sync.keys import Signer, Verifier
from sync.orders import AHEAD_NS, OrderKeys, Orders
from sync.signed import Document, seal

COMMANDS, DESIRED, SEALING, PERMITS = (Signer(bytes([n]) * 32) for n in range(1, 5))
BOOT, NONCE, NOW = b"\x11" * 16, b"\x22" * 16, BootNs(1000 * SECOND)
KEYS = OrderKeys(*([Verifier(signer.public)] for signer in (COMMANDS, DESIRED, SEALING)))
OWN: dict[str, Any] = {"fleet": "met", "device": "tablet-1"}
TOLD = documents.Command(
    id="ab" * 16, number=5, boot_id=BOOT.hex(), nonce=NONCE.hex(), latest_ms=(NOW + 60 * SECOND) // MS,
    verb="lock", **OWN,
)  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> BootNs:
        return self.now


def orders(clock: Clock | None = None) -> Orders:
    return Orders("met", "tablet-1", BOOT, NONCE, KEYS, clock or Clock())


def changed(**values: Any) -> documents.Command:
    return msgspec.structs.replace(TOLD, **values)


def payload(document: Document, signer: Signer = COMMANDS) -> bytes:
    return seal(document, signer).encode()


def reason(reader: Orders, what: str, raw: bytes) -> str:
    found = reader.read(what, raw)
    assert isinstance(found, OrderRefused), found
    return found.reason


def test_a_command_for_this_run_is_taken_once() -> None:
    reader = orders()
    assert reader.read("command", payload(TOLD)) == Command(NOW, "ab" * 16, 5, "lock")
    assert [reader.read("command", payload(TOLD)) for _ in range(3)] == [None] * 3
    assert reader.repeated == 3


@pytest.mark.parametrize(
    ("told", "signer", "word"),
    [
        (TOLD, PERMITS, "key"),
        (TOLD, DESIRED, "key"),
        (changed(device="tablet-2"), COMMANDS, "other_tablet"),
        (changed(fleet="other"), COMMANDS, "other_tablet"),
        (changed(boot_id="33" * 16), COMMANDS, "boot"),
        (changed(nonce="33" * 16), COMMANDS, "birth"),
        (changed(latest_ms=(NOW - SECOND) // MS), COMMANDS, "late"),
        (changed(latest_ms=(NOW + AHEAD_NS + SECOND) // MS), COMMANDS, "far"),
    ],
)
def test_a_command_that_is_not_for_now_is_refused(told: documents.Command, signer: Signer, word: str) -> None:
    assert reason(orders(), "command", payload(told, signer)) == word


def test_a_command_of_another_purpose_is_no_command() -> None:
    wanted = documents.Desired(id="ab" * 16, number=1, trial_s=60, toml="", **OWN)
    assert reason(orders(), "command", payload(wanted, DESIRED)) == "kind"
    assert reason(orders(), "desired", payload(TOLD)) == "kind"
    relabelled = seal(wanted, COMMANDS).replace(documents.Desired.TITLE, documents.Command.TITLE)
    assert reason(orders(), "command", relabelled.encode()) == "signature"


def test_a_number_that_is_not_greater_than_all_before_is_refused() -> None:
    reader = orders()
    reader.read("command", payload(TOLD))
    assert reason(reader, "command", payload(changed(id="cd" * 16))) == "order"
    assert reason(reader, "command", payload(changed(id="cd" * 16, number=4))) == "order"
    assert isinstance(reader.read("command", payload(changed(id="cd" * 16, number=6))), Command)


def test_a_command_expires_by_boot_time_and_no_wall_clock() -> None:
    clock = Clock()
    reader = orders(clock)
    clock.now = BootNs(NOW + 60 * SECOND)
    assert isinstance(reader.read("command", payload(TOLD)), Command)
    clock.now = BootNs(NOW + 61 * SECOND)
    assert reason(reader, "command", payload(changed(id="cd" * 16, number=6))) == "late"


def test_without_a_key_nothing_of_that_purpose_is_taken() -> None:
    reader = orders()
    reader.keys = replace(KEYS, commands=())
    assert reason(reader, "command", payload(TOLD)) == "key"


def test_a_configuration_and_a_fleet_key_are_read() -> None:
    wanted = documents.Desired(id="ab" * 16, number=8, trial_s=60, toml='[trace]\nsize = "\\u00e4"\n', **OWN)
    assert orders().read("desired", payload(wanted, DESIRED)) == Wanted(NOW, 8, 60, wanted.toml)
    long = documents.Desired(id="ab" * 16, number=8, trial_s=60, toml="# x\n" * 5000, **OWN)
    assert orders().read("desired", payload(long, DESIRED)) == Wanted(NOW, 8, 60, long.toml)
    key = documents.FleetKey(id="ab" * 16, number=9, generation=2, key="44" * 32, **OWN)
    assert orders().read("fleet-key", payload(key, SEALING)) == NewFleetKey(NOW, 2, b"\x44" * 32)
    assert reason(orders(), "fleet-key", payload(key, COMMANDS)) == "key"


@given(st.binary(max_size=400), st.sampled_from(["command", "desired", "fleet-key"]))
def test_any_bytes_are_refused_and_nothing_else(raw: bytes, what: str) -> None:
    assert isinstance(orders().read(what, raw), OrderRefused)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=30))
def test_in_any_order_and_again_each_is_taken_once_and_numbers_rise(sent: list[tuple[int, int]]) -> None:
    reader = orders()
    taken = []
    for id_, number in sent:
        found = reader.read("command", payload(changed(id=f"{id_:032x}", number=number)))
        taken += [found] if isinstance(found, Command) else []
    numbers = [command.number for command in taken]
    assert numbers == sorted(set(numbers))
    assert len({command.id for command in taken}) == len(taken)
