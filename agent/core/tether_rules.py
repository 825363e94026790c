"""The tether's table: from which state what is found leads where, and by which rule."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from agent.core.state import TetherState

UNKNOWN, TETHERED, UNCERTAIN = TetherState.UNKNOWN, TetherState.TETHERED, TetherState.UNCERTAIN
RESTRICTED, FOREIGN = TetherState.RESTRICTED, TetherState.FOREIGN
BY_HINT: Final = "tether.hinted_in"  # the rule of a release that no proof stands behind


class Finding(enum.Enum):
    """What the evidence amounts to; the first that applies, in this order."""

    FOREIGN = "the dock is proved foreign"
    ORDERED = "a signed command to lock"
    SLEEP = "the tablet goes to sleep"
    UNSEATED = "authenticated word that a required bit is not set"
    HINTED_OUT = "a lasting hint that the tablet is out, which policy lets restrict"
    PROVEN = "fresh proof and fresh status"
    HINTED_IN = "fresh control lines, which policy lets stand for proof"
    RETURNING = "the same, but not for long enough to release"
    EXPIRED = "no fresh evidence, ride-through over"
    LOST = "no fresh evidence"


@dataclass(frozen=True, slots=True)
class Row:
    frm: tuple[TetherState, ...]
    finding: Finding
    to: TetherState
    rule: str
    because: str


TABLE = (
    Row(
        (UNKNOWN, TETHERED, UNCERTAIN, RESTRICTED), Finding.FOREIGN, FOREIGN, "tether.foreign",
        "the dock that answers is provably not the paired one",
    ),
    Row(
        (UNKNOWN, TETHERED, UNCERTAIN), Finding.ORDERED, RESTRICTED, "tether.ordered",
        "the control room ordered it; only proof from after that counts",
    ),
    Row(
        (TETHERED, UNCERTAIN), Finding.SLEEP, UNKNOWN, "tether.sleep",
        "the tablet goes to sleep; after it only fresh proof counts",
    ),
    Row(
        (UNKNOWN, TETHERED, UNCERTAIN), Finding.UNSEATED, RESTRICTED, "tether.unseated",
        "the dock says, authenticated, that the tablet is not in its place",
    ),
    Row(
        (UNKNOWN, UNCERTAIN, RESTRICTED, FOREIGN), Finding.PROVEN, TETHERED, "tether.proven",
        "the paired dock proved itself, and its authenticated status has every required bit set",
    ),
    Row(
        (UNKNOWN, TETHERED, UNCERTAIN), Finding.HINTED_OUT, RESTRICTED, "tether.hinted_out",
        "a source without a key, which policy lets restrict, says that the tablet is out",
    ),
    Row(
        (UNKNOWN, UNCERTAIN, RESTRICTED), Finding.HINTED_IN, TETHERED, BY_HINT,
        "control lines, which policy lets stand for proof, have every required bit set",
    ),
    Row(
        (TETHERED,), Finding.LOST, UNCERTAIN, "tether.evidence_lost",
        "the evidence is no longer fresh; use goes on for the ride-through",
    ),
    Row(
        (TETHERED, UNCERTAIN), Finding.EXPIRED, RESTRICTED, "tether.ride_through_over",
        "no fresh evidence came within the ride-through",
    ),
)  # fmt: skip

NEXT = {(frm, row.finding): row for row in TABLE for frm in row.frm}
