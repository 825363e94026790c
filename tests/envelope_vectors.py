"""Writes tests/vectors/envelope.json: `python -m tests.envelope_vectors`. Run once a format version.

Keys, ids and times are fixed, so that only the compressor's version could change a byte. The test decodes
the file with primitives alone (tests/unit/test_envelope_vectors.py), which keeps both sides honest.
"""

from __future__ import annotations

import json
from pathlib import Path

from agent.core.records import Record, Stream
from sync.blocks import BlockWriter, Flags, Gap, Head, Quality, Stamp, follow, genesis, parse_block
from sync.envelope import Ack, Presence, Run, encode_ack, encode_batch, encode_presence
from sync.keys import Signer
from sync.sealing import Sealer
from tests.store_rig import DEVICE, FLEET_PRIVATE, alarm, fleet_public, sample

VECTORS = Path(__file__).parent / "vectors" / "envelope.json"
BOOT_ID = bytes.fromhex("00112233445566778899aabbccddeeff")
EPOCH = bytes.fromhex("0102030405060708")
DEVICE_KEY, DEPOT_KEY, EPHEMERAL = b"\x11" * 32, b"\x22" * 32, b"\x33" * 32
STAMP = Stamp(100_000_000_000, 1_760_000_000_000_000_000, Quality.SYNCED)


def main() -> None:
    sealer = Sealer(fleet_public(), 7, lambda size: EPHEMERAL[:size])
    plain, sealed = BlockWriter(BOOT_ID), BlockWriter(BOOT_ID, sealer)
    samples = [sample(90_000_000_000 + n * 1_000_000_007, 12_800 - n * n) for n in range(5)]
    mixed = [alarm(95_000_000_000, 3, "tether.foreign"), samples[0], alarm(94_000_000_000, 4, "ümlaut")]
    head = genesis(DEVICE, Stream.TELEMETRY, EPOCH)
    blocks: list[dict[str, object]] = []
    raws: list[bytes] = []

    def add(raw: bytes, records: list[Record]) -> None:
        nonlocal head
        block = parse_block(raw)
        head = follow(head, block)
        header = block.header
        raws.append(raw)
        blocks.append(
            {
                "raw": raw.hex(),
                "flags": int(header.flags),
                "first": header.first_seq,
                "last": header.last_seq,
                "boot_ns": header.boot_ns,
                "wall_ns": header.wall_ns,
                "hash": head.hash.hex(),
                "records": [
                    [header.first_seq + n, r.at, r.kind.name, r.kind.version, r.as_dict()]
                    for n, r in enumerate(records)
                ],
            }
        )
        assert bool(header.flags & Flags.GAP) == (not records)

    start = head
    add(plain.records(Stream.TELEMETRY, 1, samples, STAMP), samples)
    add(sealed.records(Stream.TELEMETRY, 6, samples, STAMP), samples)
    add(sealed.records(Stream.TELEMETRY, 11, mixed, STAMP), mixed)
    before, after = head.hash, bytes(range(32))
    add(plain.gap(Stream.TELEMETRY, 14, 99, Gap("quota", before, after), STAMP), [])
    add(plain.records(Stream.TELEMETRY, 100, samples[:1], STAMP), samples[:1])
    device, depot = Signer(DEVICE_KEY), Signer(DEPOT_KEY)
    run = Run(Stream.TELEMETRY, EPOCH, start, head, tuple(raws), (sealer.segment,))
    heads = {Stream.ALARM: Head(0, genesis(DEVICE, Stream.ALARM, EPOCH).hash), Stream.TELEMETRY: head}
    vectors = {
        "device": DEVICE,
        "boot_id": BOOT_ID.hex(),
        "epoch": EPOCH.hex(),
        "device_public": device.public.hex(),
        "depot_public": depot.public.hex(),
        "fleet_private": FLEET_PRIVATE.hex(),
        "generation": 7,
        "genesis": start.hash.hex(),
        "blocks": blocks,
        "batch": encode_batch(run, DEVICE, BOOT_ID, device).hex(),
        "ack": encode_ack(Ack(DEVICE, Stream.TELEMETRY, EPOCH, BOOT_ID, head), depot).hex(),
        "presence": encode_presence(
            Presence(DEVICE, "sleeping", BOOT_ID, STAMP.boot_ns, EPOCH, heads), device
        ).hex(),
        "presence_heads": [[1, 0, heads[Stream.ALARM].hash.hex()], [4, 100, head.hash.hex()]],
    }
    VECTORS.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
