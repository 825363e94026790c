"""The daemon on a wire that is pulled, swapped, noisy, or another make's: right states, counted, alive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.aio import looped
from tests.hostile import TRICKS, Hostile, hostile_rig
from tests.system import need


@pytest.mark.slow
@looped
async def test_no_trick_on_a_wire_ends_in_a_wrong_state(tmp_path: Path) -> None:
    need("dbus-daemon")
    async with hostile_rig(tmp_path) as rig:
        for trick in TRICKS:
            await trick(Hostile(rig))
