"""The search for keys finds them: it is what the proof of their secrecy rests on."""

from __future__ import annotations

import base64
import random

import pytest

from tests.key_search import finds

KEY = random.Random(7).randbytes(32)


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("start", range(0, 24, 5))
def test_a_part_is_found_in_every_form(before: int, start: int) -> None:
    part = KEY[start : start + 9]
    around = random.Random(before).randbytes(before)
    written = {
        "raw": around + part,
        "hex": b"x" * before + part.hex().encode(),
        "HEX": part.hex().upper().encode(),
        "base64": base64.b64encode(around + part + around),
        "urlsafe": base64.urlsafe_b64encode(around + part + around),
        "repr": repr(around + part).encode(),
        "list": str(list(part)).encode(),
        "reversed": part[::-1],
    }
    missed = [name for name, data in written.items() if not finds(b"noise " + data + b" noise", [KEY])]
    assert missed == []


def test_noise_is_no_key() -> None:
    assert finds(random.Random(8).randbytes(1 << 20), [KEY]) == []
    assert finds(b"A" * 4096 + b"0" * 4096, [KEY]) == []
