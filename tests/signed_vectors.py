"""Writes tests/vectors/signed.json: `python -m tests.signed_vectors`. Run once a format version.

The test reads the file with primitives alone (tests/unit/test_signed_vectors.py), by docs/permits.md.
"""

from __future__ import annotations

import json
from pathlib import Path

from msgspec.structs import asdict

from sync import codes
from sync.documents import (
    Command,
    ContractorToken,
    Desired,
    FleetKey,
    Permit,
    Refill,
    Revocation,
)
from sync.keys import Signer
from sync.signed import Document, canonical, key_id, seal

VECTORS = Path(__file__).parent / "vectors" / "signed.json"
PRIVATE, CODE_KEY = b"\x44" * 32, b"\x55" * 32
ID = "00112233445566778899aabbccddeeff"

DOCUMENTS: tuple[Document, ...] = (
    Permit(id=ID, number=1_790_000_000_000, fleet="met", device="tablet-1", scope="undocked", minutes=45),
    Revocation(id=ID, number=1_790_000_000_001, fleet="met", device="tablet-1", upto=1_790_000_000_000),
    Refill(id=ID, number=1_790_000_000_002, fleet="met", device="tablet-1"),
    ContractorToken(
        id=ID, number=2**53 - 1, fleet="met", devices=("tablet-1", "tablet-2"), actions=("pair", "test"),
        contractor='Brake & "Sons" \\ Co', minutes=240,
    ),
    Command(
        id=ID, number=1_790_000_000_003, fleet="met", device="tablet-1", boot_id="aa" * 16, nonce="bb" * 16,
        latest_ms=3_600_000, verb="log-level", level="debug",
    ),
    Desired(
        id=ID, number=1_790_000_000_004, fleet="met", device="tablet-1", trial_s=600,
        toml="[policy.tether]\nride_through_ms = 4000\n",
    ),
    FleetKey(
        id=ID, number=1_790_000_000_005, fleet="met", device="tablet-1", generation=2, key="cc" * 32
    ),
)  # fmt: skip
CODES = (("7K2MQ9TD", "undocked", 30), ("00000000", "any", 1), ("ZZZZZZZZ", "undocked", 10_080))


def main() -> None:
    signer = Signer(PRIVATE)
    VECTORS.write_text(
        json.dumps(
            {
                "private": PRIVATE.hex(),
                "public": signer.public.hex(),
                "key_id": key_id(signer.public).hex(),
                "documents": [
                    {
                        "label": document.LABEL,
                        "title": document.TITLE,
                        "values": asdict(document),
                        "payload": canonical(document).decode(),
                        "text": seal(document, signer),
                    }
                    for document in DOCUMENTS
                ],
                "code_key": CODE_KEY.hex(),
                "codes": [
                    {
                        "challenge": challenge,
                        "scope": scope,
                        "minutes": minutes,
                        "answer": codes.answer(CODE_KEY, challenge, scope, minutes),
                    }
                    for challenge, scope, minutes in CODES
                ],
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
