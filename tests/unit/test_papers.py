"""Documents become observations: what is good says what it asks for, all else why it is refused."""

from __future__ import annotations

import pytest

from agent.core.types import (
    BootNs,
    DocumentRefused,
    GrantsRevoked,
    Observation,
    OverrideRefilled,
    PermitPresented,
    Scope,
)
from sync import codes
from sync.documents import ContractorToken, Permit, Refill, Revocation
from sync.keys import Signer, Verifier
from sync.papers import Papers, ShortCodes
from sync.signed import Document, seal

KEY, OTHER = Signer(b"\x01" * 32), Signer(b"\x02" * 32)
AT = BootNs(7)
ID = "ab" * 16
OWN = {"id": ID, "number": 5, "fleet": "met", "device": "tablet-1"}
PAPERS = Papers("met", "tablet-1", [Verifier(OTHER.public), Verifier(KEY.public)])


def permit(**values: object) -> Permit:
    return Permit(**{**OWN, "scope": "any", "minutes": 45, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("document", "asks"),
    [
        (permit(), PermitPresented(AT, ID, 5, Scope.ANY, 45)),
        (permit(scope="undocked"), PermitPresented(AT, ID, 5, Scope.UNDOCKED, 45)),
        (Revocation(**OWN, upto=4), GrantsRevoked(AT, "document", 4)),  # type: ignore[arg-type]
        (Refill(**OWN), OverrideRefilled(AT, ID, 5)),  # type: ignore[arg-type]
    ],
    ids=["permit", "scope", "revocation", "refill"],
)
def test_a_good_document_says_what_it_asks_for(document: Document, asks: Observation) -> None:
    assert PAPERS.read(seal(document, KEY), AT) == asks
    assert PAPERS.read(seal(document, OTHER), AT) == asks, "a second authority, while a key is changed"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (seal(permit(device="tablet-2"), KEY), "other_tablet"),
        (seal(permit(fleet="other"), KEY), "other_tablet"),
        (seal(permit(), Signer(b"\x03" * 32)), "key"),
        ("", "armour"),
        (
            seal(
                ContractorToken(
                    id=ID, number=5, fleet="met", devices=("tablet-1",), actions=("pair",), contractor="c",
                    minutes=5,
                ),
                KEY,
            ),
            "kind",
        ),
    ],
    ids=["device", "fleet", "key", "nothing", "a contractor's"],
)  # fmt: skip
def test_a_document_that_is_not_good_is_refused_with_its_reason(text: str, reason: str) -> None:
    refused = PAPERS.read(text, AT)
    assert isinstance(refused, DocumentRefused)
    assert refused.reason == reason
    assert refused.detail


def test_challenges_are_fresh_and_answers_are_judged() -> None:
    draws = iter([b"\x00\x00\x00\x00\x01", b"\x00\x00\x00\x00\x02"])
    desk = ShortCodes(b"\x05" * 32, lambda _size: next(draws))
    first, second = desk.challenge(), desk.challenge()
    assert (first, second) == ("00000001", "00000002")
    assert desk.shown(first) == "0000-0001"
    answer = codes.answer(b"\x05" * 32, first, "undocked", 30)
    assert desk.right(codes.grouped(answer).lower(), first, "undocked", 30)
    assert not desk.right(answer, second, "undocked", 30)
    assert desk.can_be_one(answer)
    assert not desk.can_be_one(answer[:-1])
    assert not desk.can_be_one("")
