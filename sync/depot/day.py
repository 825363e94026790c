"""What can be proved of one day (UTC) of one device: complete, a gap, or not provable yet.

A block is of the day that its first record is of. Its time is boot time plus what a synced clock said of that
boot, in any block of it; else what the tablet's clock said. A block whose clock was never set, in a boot that
was never synced, has no time: it lies somewhere between its neighbours in the chain.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import TypedDict

from sync.blocks import Flags, Quality, read_gap
from sync.depot import ledger
from sync.depot.storage import Chain, DepotStorage, Hole
from sync.keys import Verifier

COMPLETE, GAP, NOT_YET, BROKEN = "complete", "gap", "not provable yet", "broken"
_DAY_NS = 86_400 * 1_000_000_000


class DayEntry(TypedDict):
    """One chain. ``first_seq`` to ``last_seq`` are of the day, 0 for none, ``head`` is the chain's hash after
    them. ``repaired`` and ``undated`` count blocks of the day with a synced time, and with none."""

    stream: str
    epoch: str
    verdict: str
    first_seq: int
    last_seq: int
    head: str
    gaps: list[ledger.GapEntry]
    repaired: int
    undated: int
    chain: str
    signed_to: int | None


@dataclass(frozen=True, slots=True)
class _Item:
    """A block, or with a ``reason`` a gap; ``at`` is UTC in ns, None when nobody knows."""

    first: int
    last: int
    hash: bytes
    at: int | None
    synced: bool
    reason: str | None


def day_of(text: str) -> int:
    """The beginning of a day in ns since 1970.

    Raises:
        ValueError: not a date of the form YYYY-MM-DD.
    """
    date = datetime.date.fromisoformat(text)
    return int(datetime.datetime(date.year, date.month, date.day, tzinfo=datetime.UTC).timestamp()) * 10**9


def build(
    storage: DepotStorage, verifier_of: Callable[[str], Verifier | None], device: str, begin_ns: int
) -> list[DayEntry]:
    """Each chain of the device that has, or may have, something of the day that begins at ``begin_ns``.

    Raises:
        StoreError: the database cannot be read.
    """
    whole = ledger.build(storage, verifier_of, device)["devices"].get(device)
    if whole is None:
        return []
    with storage.reading():
        chains = storage.chains(device)
        clocks = _clocks(storage, chains)
        found = [(chain, list(_items(storage, chain, clocks))) for chain in chains]
    entries = []
    for chain, items in found:
        (walked,) = (e for e in whole["streams"][chain.stream.value] if e["epoch"] == chain.epoch.hex())
        entries.append(_entry(chain, items, walked, begin_ns))
    return entries


def _clocks(storage: DepotStorage, chains: Iterable[Chain]) -> dict[bytes, int]:
    """For each boot that was synced, the wall time of its beginning, by its last synced block."""
    clocks: dict[bytes, int] = {}
    for chain in chains:
        with closing(storage.walk(chain)) as walk:
            for item, _ in walk:
                if not isinstance(item, Hole) and item.header.quality is Quality.SYNCED:
                    clocks[item.header.boot_id] = item.header.wall_ns - item.header.boot_ns
    return clocks


def _items(storage: DepotStorage, chain: Chain, clocks: dict[bytes, int]) -> Iterable[_Item]:
    last = 0
    with closing(storage.walk(chain)) as walk:
        for item, head in walk:
            first, last = last + 1, head.seq
            if isinstance(item, Hole):
                yield _Item(first, head.seq, head.hash, None, False, item.reason)
            elif item.header.flags & Flags.GAP:
                yield _Item(first, head.seq, head.hash, None, False, read_gap(item).reason)
            else:
                header = item.header
                boot = clocks.get(header.boot_id)
                if boot is not None:
                    at: int | None = boot + header.boot_ns
                else:
                    at = None if header.quality is Quality.UNSET else header.wall_ns
                yield _Item(first, head.seq, head.hash, at, boot is not None, None)


def _entry(chain: Chain, items: list[_Item], walked: ledger.ChainEntry, begin: int) -> DayEntry:
    end = begin + _DAY_NS
    inside = [item for item, after, before in _between(items) if _touches(item, after, before, begin, end)]
    blocks = [item for item in inside if item.reason is None]
    gaps: list[ledger.GapEntry] = [
        {"first_seq": item.first, "last_seq": item.last, "reason": item.reason}
        for item in inside
        if item.reason is not None
    ]
    if walked["chain"] != ledger.VERIFIED:
        verdict = BROKEN
    elif gaps:
        verdict = GAP
    else:
        later = any(item.synced and item.at is not None and item.at >= end for item in items)
        verdict = COMPLETE if later else NOT_YET
    return {
        "stream": chain.stream.value,
        "epoch": chain.epoch.hex(),
        "verdict": verdict,
        "first_seq": blocks[0].first if blocks else 0,
        "last_seq": blocks[-1].last if blocks else 0,
        "head": blocks[-1].hash.hex() if blocks else "",
        "gaps": gaps,
        "repaired": sum(item.synced for item in blocks),
        "undated": sum(item.at is None for item in blocks),
        "chain": walked["chain"],
        "signed_to": walked["signed_to"],
    }


def _between(items: list[_Item]) -> Iterable[tuple[_Item, int | None, int | None]]:
    """Each item with the nearest known times before and after it in the chain."""
    following: list[int | None] = []
    known: int | None = None
    for item in reversed(items):
        following.append(known)
        known = item.at if item.at is not None else known
    known = None
    for item, later in zip(items, reversed(following), strict=True):
        yield item, known, later
        known = item.at if item.at is not None else known


def _touches(item: _Item, after: int | None, before: int | None, begin: int, end: int) -> bool:
    if item.at is not None:
        return begin <= item.at < end
    return (after is None or after < end) and (before is None or before >= begin)
