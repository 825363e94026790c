"""Signed documents: what survives a mail, what is refused and in which words; codes as people type them."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import codes
from sync.depot.signing import next_number
from sync.documents import ContractorToken, Permit, Refill
from sync.errors import LocalProtocolError, RemoteProtocolError
from sync.keys import KeyFileError, Signer, Verifier
from sync.signed import MAGIC, PAYLOAD_MAX, TEXT_MAX, Document, key_id, seal, unseal

SIGNER, OTHER = Signer(b"\x01" * 32), Signer(b"\x02" * 32)
KEY = Verifier(SIGNER.public)
PERMIT = Permit(id="ab" * 16, number=7, fleet="met", device="tablet-1", scope="undocked", minutes=45)
TEXT = seal(PERMIT, SIGNER)


def opened(text: str, *kinds: type[Document]) -> Document:
    return unseal(text, kinds or (Permit,), [Verifier(OTHER.public), KEY])


def armoured(raw: bytes, title: str = "PERMIT") -> str:
    text = base64.b64encode(raw).decode()
    return f"-----BEGIN IVMA {title}-----\n{text}\n-----END IVMA {title}-----"


def signed(payload: bytes, label: str = "ivma-permit/1", magic: bytes = MAGIC) -> bytes:
    """A document with any payload and a good signature: what a faulty signer may make."""
    head = magic + key_id(SIGNER.public) + payload
    raw = head + SIGNER.sign(label, head)
    return raw + zlib.crc32(raw).to_bytes(4, "little")


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.replace("\n", "\r\n"),
        "Dear colleague,\n\nhere is your permit:\n\n" + TEXT + "\n-- \nControl room - extension 12\n",
        "".join(f"> {line}\n" for line in TEXT.splitlines()),
        "".join(f">> > {line} \n" for line in TEXT.splitlines()),
        "".join(f"    {line}\n" for line in TEXT.splitlines()),
        TEXT.replace("-----", "--"),
        "\ufeff" + TEXT,
        re.sub(r"(\w{20})", "\\1\n", TEXT.split("-----")[2]).join(
            ["-----BEGIN IVMA PERMIT-----", "-----END IVMA PERMIT-----"]
        ),
    ],
    ids=["as made", "crlf", "in a mail", "quoted", "quoted twice", "indented", "dashes", "bom", "rewrapped"],
)
def test_a_document_survives_its_way(text: str) -> None:
    assert opened(text) == PERMIT


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("", "armour", "BEGIN IVMA"),
        (TEXT + TEXT, "armour", "one document"),
        (TEXT.split("-----END", maxsplit=1)[0], "armour", "copy one, whole"),
        ("x" * (TEXT_MAX + 1), "armour", "alone"),
        (TEXT.replace("PERMIT", "CONTRACTOR TOKEN"), "kind", "this is a CONTRACTOR TOKEN, not a PERMIT"),
        (armoured(b"short"), "damaged", "copy it whole"),
        (armoured(b"x" * (PAYLOAD_MAX + 100)), "damaged", "copy it whole"),
        (TEXT.replace("\n", "\n!", 2), "damaged", "copy it again"),
        (armoured(signed(b"{}", magic=b"IVD\x02")), "version", "format 49564402"),
        (seal(PERMIT, Signer(b"\x03" * 32)), "key", "not trusted here"),
        (armoured(signed(b"{}", label="ivma-refill/1")), "signature", "ivma-permit/1"),
        (armoured(signed(b"{}")), "content", "id"),
        (armoured(signed(b"[" * 1500)), "content", "ivma-permit/1"),
        (armoured(signed(b"\xff")), "content", "ivma-permit/1"),
    ],
)
def test_what_is_wrong_is_said(text: str, reason: str, words: str) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        opened(text)
    assert refused.value.reason == reason
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extra": 1}, "extra"),
        ({"device": None}, "device"),
        ({"minutes": 0}, "minutes"),
        ({"minutes": 10_081}, "minutes"),
        ({"minutes": True}, "minutes"),
        ({"scope": "everything"}, "scope"),
        ({"id": "ab" * 16 + "\n"}, "id"),
        ({"number": 2**53}, "number"),
        ({"purpose": "ivma-permit/2"}, "purpose"),
        ({"fleet": "m\u00e9t"}, "fleet"),
    ],
)
def test_a_field_that_is_unknown_or_out_of_bounds_is_refused(change: dict[str, Any], words: str) -> None:
    values = json.loads(json.dumps({**_values(), **change}))
    payload = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    with pytest.raises(RemoteProtocolError, match=words) as refused:
        opened(armoured(signed(payload)))
    assert refused.value.reason == "content"


def test_only_the_one_canonical_form_is_taken() -> None:
    spaced = json.dumps(_values(), sort_keys=True).encode()
    unordered = json.dumps(dict(reversed(_values().items())), separators=(",", ":")).encode()
    twice = json.dumps(_values(), sort_keys=True, separators=(",", ":")).encode()[:-1] + b',"minutes":99}'
    without_purpose = json.dumps(
        {key: value for key, value in _values().items() if key != "purpose"},
        sort_keys=True, separators=(",", ":"),
    ).encode()  # fmt: skip
    for payload in (spaced, unordered, twice, without_purpose):
        with pytest.raises(RemoteProtocolError, match="canonical"):
            opened(armoured(signed(payload)))


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="ascii"))
def test_no_changed_character_is_taken_for_another_document(place: int, character: str) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert opened(TEXT[:place] + character + TEXT[place + 1 :]) == PERMIT


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        opened(armoured(body))
    with pytest.raises(RemoteProtocolError):
        opened(armoured(signed(body)))


def test_a_document_of_one_purpose_is_none_of_another() -> None:
    """A refill's payload and signature under a permit's armour, and the other way round."""
    refill = seal(Refill(id="ab" * 16, number=7, fleet="met", device="tablet-1"), SIGNER)
    with pytest.raises(RemoteProtocolError, match="signature"):
        opened(refill.replace("OVERRIDE REFILL", "PERMIT"))
    with pytest.raises(RemoteProtocolError, match="signature"):
        opened(TEXT.replace("PERMIT", "OVERRIDE REFILL"), Refill)


def test_what_may_not_be_signed_is_not() -> None:
    with pytest.raises(LocalProtocolError, match="minutes"):
        seal(Permit(id="ab" * 16, number=7, fleet="met", device="t", scope="any", minutes=0), SIGNER)
    crowd = tuple(f"{n:064}" for n in range(16))
    token = ContractorToken(
        id="ab" * 16, number=1, fleet="f", devices=crowd, actions=("pair",), contractor="c", minutes=1
    )
    assert opened(seal(token, SIGNER), ContractorToken) == token  # the longest still fits


def test_numbers_grow_although_the_clock_is_set_back(tmp_path: Path) -> None:
    file = tmp_path / "last-number"
    assert [next_number(file, now) for now in (1000, 1000, 500, 2000)] == [1000, 1001, 1002, 2000]
    file.write_text("x")
    with pytest.raises(LocalProtocolError, match="last-number"):
        next_number(file, 1)


# --- codes ----------------------------------------------------------------------------------------

CODE_KEY = b"\x05" * 32


@pytest.mark.parametrize("dress", [str, str.lower, codes.grouped, lambda t: f" {t[:4]} {t[4:]}\n"])
def test_an_answer_is_taken_as_people_type_it(dress: Any) -> None:
    made = codes.answer(CODE_KEY, "7K2MQ9TD", "undocked", 30)
    assert codes.well_formed(made, codes.ANSWER_CHARS)
    assert codes.right(dress(made), CODE_KEY, "7K2MQ9TD", "undocked", 30)


def test_look_alikes_are_what_they_are_meant_to_be() -> None:
    assert not set("ILOU") & set(codes.ALPHABET)
    assert codes.plain("oil-Il") == "01111"


@given(st.text(max_size=14))
def test_no_other_text_is_the_answer(text: str) -> None:
    made = codes.answer(CODE_KEY, "7K2MQ9TD", "undocked", 30)
    assert codes.right(text, CODE_KEY, "7K2MQ9TD", "undocked", 30) == (codes.plain(text) == made)


def test_an_answer_is_for_one_key_challenge_scope_and_length() -> None:
    made = {
        codes.answer(key, challenge, scope, minutes)
        for key in (CODE_KEY, b"\x06" * 32)
        for challenge in ("7K2MQ9TD", "7K2MQ9TE")
        for scope in ("undocked", "any")
        for minutes in (3, 30)
    }
    assert len(made) == 16


def test_a_challenge_has_40_bits() -> None:
    assert codes.challenge(bytes(5)) == "00000000"
    assert codes.challenge(b"\xff" * 5) == "ZZZZZZZZ"
    assert codes.challenge(bytes.fromhex("0000000001")) == "00000001"


def test_a_code_key_is_private_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "t.code"
    with pytest.raises(KeyFileError, match="cannot be read"):
        codes.load_code_key(file)
    file.write_text("55" * 32 + "\n")
    file.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        codes.load_code_key(file)
    file.chmod(0o600)
    assert codes.load_code_key(file) == b"\x55" * 32
    file.write_text("55" * 31)
    with pytest.raises(KeyFileError, match="64 hex digits"):
        codes.load_code_key(file)


def _values() -> dict[str, Any]:
    return {
        "device": "tablet-1", "fleet": "met", "id": "ab" * 16, "minutes": 45, "number": 7,
        "purpose": "ivma-permit/1", "scope": "undocked",
    }  # fmt: skip
