"""Several paired docks on one port: the one that answers is proved by its own key, others are found out."""

from __future__ import annotations

import random

import pytest

from agent.core.types import (
    SECOND,
    BootNs,
    DockForeign,
    DockIdent,
    DockLinkUp,
    DockProof,
    DockStatus,
    LinkLoss,
    Observation,
)
from drivers.docks.reference.codec import Frame, Ident, encode
from drivers.docks.reference.session import ReferenceSession
from drivers.pool import PooledSession
from drivers.spec import DockSettings
from simulator.docks.reference import Identity, ReferenceDock

STEP_NS = SECOND // 100
KEYS = {"DK-1": b"1" * 32, "DK-2": b"2" * 32, "DK-3": b"3" * 32}


class Yard:
    """A tablet that is paired with DK-1 and DK-2, and whichever dock it is put into."""

    def __init__(self) -> None:
        dice = random.Random(3)
        self.at = BootNs(0)
        self.pool = PooledSession(
            [
                (serial, ReferenceSession(DockSettings(name, serial, "VAN", KEYS[serial]), dice.randbytes))
                for name, serial in (("one", "DK-1"), ("two", "DK-2"))
            ]
        )
        self.docks = {
            serial: ReferenceDock(Identity.of(serial, "VAN", key), dice.randbytes, self.at)
            for serial, key in KEYS.items()
        }

    def drive(self, serial: str, seconds: float) -> list[Observation]:
        """In that dock for so long, then out of it."""
        dock = self.docks[serial]
        dock.timer(self.at)
        dock.outgoing()
        seen = self.pool.link_up(self.at)
        for _ in range(round(seconds * 100)):
            dock.feed(self.pool.outgoing(), self.at)
            dock.timer(self.at)
            seen += self.pool.feed(dock.outgoing(), self.at)
            self.at = BootNs(self.at + STEP_NS)
            seen += self.pool.timer(self.at)
        return seen


def named(seen: list[Observation], kind: type[Observation]) -> set[str]:
    return {getattr(each, "dock", "") for each in seen if isinstance(each, kind)}


def test_whichever_paired_dock_it_is_in_proves_itself_under_its_own_name() -> None:
    yard = Yard()
    for serial, name in (("DK-2", "two"), ("DK-1", "one"), ("DK-1", "one"), ("DK-2", "two")):
        seen = yard.drive(serial, 5)
        assert named(seen, DockProof) == {name}
        good = [each for each in seen if isinstance(each, DockStatus) and each.authenticated]
        assert {each.dock for each in good} == {name}
        assert len(good) > 10
        assert named(seen, DockForeign) == set()
        assert yard.pool.name == name
        lost = yard.pool.link_lost(yard.at, LinkLoss.UNPLUGGED)
        assert getattr(lost[0], "dock", "") == name


def test_a_dock_of_another_tablet_is_foreign() -> None:
    yard = Yard()
    seen = yard.drive("DK-3", 10)
    assert named(seen, DockForeign) == {"one"}
    assert named(seen, DockProof) == set()


def test_a_forged_name_chooses_the_key_and_no_more() -> None:
    yard = Yard()
    yard.docks["DK-2"].identity.key = bytes(32)
    seen = yard.drive("DK-2", 10)
    assert named(seen, DockForeign) == {"two"}
    assert named(seen, DockProof) == set()


def test_a_dock_that_proved_itself_is_not_left_for_a_forged_name() -> None:
    yard = Yard()
    assert named(yard.drive("DK-1", 3), DockProof) == {"one"}
    forged = encode(Frame(Ident(0, 1, 0, b"DK-2".ljust(12, b"\0"), b"VAN".ljust(17, b"\0"), "x"), 0))
    (seen,) = yard.pool.feed(forged, yard.at)
    assert isinstance(seen, DockIdent)
    assert yard.pool.name == "one"


def test_what_the_first_had_to_send_is_not_sent_to_the_second() -> None:
    yard = Yard()
    yard.pool.link_up(yard.at)
    first = yard.pool.outgoing()
    ident = encode(Frame(Ident(0, 1, 0, b"DK-2".ljust(12, b"\0"), bytes(17), "x"), 0))
    seen = yard.pool.feed(ident, yard.at)
    assert DockLinkUp(yard.at, "two") in seen
    assert first
    assert yard.pool.outgoing() not in (b"", first)


def test_a_pool_has_docks() -> None:
    with pytest.raises(ValueError, match="a pool has docks"):
        PooledSession([])
