"""Everything that proves a device's records, as JSON lines: who has its public key can verify them.

One line each: ``chain`` (stream, epoch, where it ends), then its ``block``s, ``hole``s and ``proof``s (the
signed statements of docs/queue-and-sync.md), and ``segment``s for the holder of the fleet's
key. Bytes are base64.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing

from sync.depot.storage import DepotStorage, Hole

Line = dict[str, dict[str, object]]


def lines(storage: DepotStorage, device: str) -> Iterator[Line]:
    """Within ``storage.reading()``."""
    used: set[bytes] = set()
    for chain in storage.chains(device):
        head = chain.head
        yield {
            "chain": {
                "device": device, "stream": chain.stream.value, "epoch": chain.epoch.hex(),
                "last_seq": head.seq, "head": head.hash.hex(),
            }
        }  # fmt: skip
        with closing(storage.walk(chain)) as walk:
            for item, after in walk:
                if isinstance(item, Hole):
                    yield {
                        "hole": {
                            "first_seq": item.first_seq, "last_seq": item.last_seq,
                            "hash": item.hash.hex(), "reason": item.reason,
                        }
                    }  # fmt: skip
                else:
                    used.add(item.header.segment)
                    yield {"block": {"last_seq": after.seq, "hash": after.hash.hex(), "raw": _text(item.raw)}}
        with closing(storage.proofs(chain)) as proofs:
            for seq, statement, signature in proofs:
                yield {"proof": {"seq": seq, "statement": _text(statement), "signature": _text(signature)}}
    for segment in storage.segments():
        if segment.id in used:
            yield {
                "segment": {
                    "id": segment.id.hex(),
                    "ephemeral": _text(segment.ephemeral),
                    "generation": segment.generation,
                }
            }


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()
