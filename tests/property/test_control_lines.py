"""Whatever bytes a client sends, each line has one answer and the server lives."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.control_rig import ask, serving

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
NOISE = st.binary(max_size=200).map(lambda data: data.replace(b"\n", b""))
WORDS = JSON.map(lambda value: repr(value).encode("utf-8", "replace").replace(b"\n", b""))


def is_request(line: bytes) -> bool:
    """Hypothesis draws words of our own code: some lines are what a client may well say."""
    try:
        said = json.loads(line)
    except ValueError:
        return False
    return isinstance(said, dict) and isinstance(said.get("verb"), str)


@settings(max_examples=40, deadline=None)
@given(st.lists((NOISE | WORDS).filter(lambda line: not is_request(line)), max_size=6))
def test_any_lines_are_answered_one_by_one(lines: list[bytes]) -> None:
    async def check(folder: Path) -> None:
        async with serving(folder / "s"):
            answers = await ask(
                folder / "s", *(line + b"\n" for line in lines), b'{"id":9,"verb":"version"}\n'
            )
        assert all(answer["ok"] is False and answer["error"]["code"] for answer in answers[:-1])
        assert (answers[-1]["id"], answers[-1]["ok"]) == (9, True)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))
