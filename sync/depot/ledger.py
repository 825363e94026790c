"""What a depot can prove: each chain walked again from its beginning, with its gaps and signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TypedDict

from sync.blocks import Block, Flags, Head, follow, genesis, read_gap
from sync.depot.storage import Chain, DepotStorage, Hole
from sync.envelope import decode_proof
from sync.errors import RemoteProtocolError
from sync.keys import Verifier

VERIFIED = "verified"


class GapEntry(TypedDict):
    first_seq: int
    last_seq: int
    reason: str


class ChainEntry(TypedDict):
    """A stream since its queue's file was made. ``missing_tail``: records that the tablet signed for in
    its last presence and that have not come. ``signed_to``: the last seq that a stored signature proves."""

    epoch: str
    first_seq: int
    last_seq: int
    head: str
    records: int
    sealed_blocks: int
    gaps: list[GapEntry]
    chain: str
    signed_to: int | None
    duplicates_dropped: int
    missing_tail: int


class DeviceEntry(TypedDict):
    presence: str
    streams: dict[str, list[ChainEntry]]


class Ledger(TypedDict):
    """``verified`` holds when every chain does; a gap with its reason does not break a chain."""

    verified: bool
    devices: dict[str, DeviceEntry]
    quarantined: dict[str, dict[str, int]]


def build(
    storage: DepotStorage, verifier_of: Callable[[str], Verifier | None], device: str | None = None
) -> Ledger:
    """The ledger of one device, or of all.

    Raises:
        StoreError: the database cannot be read.
    """
    with storage.reading():
        return _build(storage, verifier_of, device)


def _build(
    storage: DepotStorage, verifier_of: Callable[[str], Verifier | None], device: str | None
) -> Ledger:
    presences = {name: said for name, said in storage.presences().items() if device in (None, name)}
    chains = {(c.device, c.stream, c.epoch): c for c in storage.chains(device)}
    for name, (_, epoch, heads) in presences.items():
        for stream in heads:
            # A stream of which nothing ever came shows by its signed head alone.
            start = genesis(name, stream, epoch)
            chains.setdefault((name, stream, epoch), Chain(0, "", name, stream, epoch, start, 0))
    devices: dict[str, DeviceEntry] = {}
    for chain in chains.values():
        state, epoch, heads = presences.get(chain.device, ("unknown", b"", {}))
        entry = devices.setdefault(chain.device, {"presence": state, "streams": {}})
        claimed = heads.get(chain.stream) if epoch == chain.epoch else None
        entry["streams"].setdefault(chain.stream.value, []).append(
            _chain(storage, chain, verifier_of(chain.device), claimed)
        )
    entries = [c for d in devices.values() for stream in d["streams"].values() for c in stream]
    return {
        "verified": all(c["chain"] == VERIFIED for c in entries),
        "devices": devices,
        "quarantined": storage.quarantined(device),
    }


def _chain(
    storage: DepotStorage, chain: Chain, verifier: Verifier | None, claimed: Head | None
) -> ChainEntry:
    gaps: list[GapEntry] = []
    with closing(storage.proofs(chain)) as proofs:
        verdict, signed_to = _verify(storage, chain, verifier, proofs, gaps)
    records, sealed = storage.counts(chain)
    return {
        "epoch": chain.epoch.hex(),
        "first_seq": 1,
        "last_seq": chain.head.seq,
        "head": chain.head.hash.hex(),
        "records": records,
        "sealed_blocks": sealed,
        "gaps": gaps,
        "chain": verdict,
        "signed_to": signed_to,
        "duplicates_dropped": chain.duplicates,
        "missing_tail": max(claimed.seq - chain.head.seq, 0) if claimed is not None else 0,
    }


def _verify(
    storage: DepotStorage,
    chain: Chain,
    verifier: Verifier | None,
    proofs: Iterator[tuple[int, bytes, bytes]],
    gaps: list[GapEntry],
) -> tuple[str, int | None]:
    """Walk the chain; collects gaps. Returns the verdict and up to where a signature covers it."""
    signed_to: int | None = None
    head = genesis(chain.device, chain.stream, chain.epoch)
    proof = next(proofs, None) if verifier is not None else None
    try:
        for item, noted in storage.walk(chain):
            head = _next(head, item, gaps)
            if head != noted:
                return f"broken at {noted.seq}: the hash is not the one that was noted", signed_to
            if verifier is not None and proof is not None and proof[0] == head.seq:
                if decode_proof(proof[1], proof[2], chain.device, verifier) != (
                    chain.stream, chain.epoch, head,
                ):  # fmt: skip
                    return f"broken at {head.seq}: the device signed another head", signed_to
                signed_to = head.seq
                proof = next(proofs, None)
    except RemoteProtocolError as error:
        return f"broken after {head.seq}: {error}", signed_to
    if head != chain.head:
        return f"broken at {head.seq}: the chain is to end at {chain.head.seq}", signed_to
    return VERIFIED, signed_to


def _next(head: Head, item: Block | Hole, gaps: list[GapEntry]) -> Head:
    if isinstance(item, Hole):
        if item.first_seq != head.seq + 1:
            raise RemoteProtocolError("sequence", f"a hole begins at {item.first_seq}")
        gaps.append({"first_seq": item.first_seq, "last_seq": item.last_seq, "reason": item.reason})
        return Head(item.last_seq, item.hash)
    after = follow(head, item)
    if item.header.flags & Flags.GAP:
        gaps.append({"first_seq": head.seq + 1, "last_seq": after.seq, "reason": read_gap(item).reason})
    return after
