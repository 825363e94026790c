"""A store for tests: a clock that stands until it is moved, randomness from a seed, and a reader of all."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.core.catalogue import AGENT_STOPPED, LOCK_RECOVERED, POWER_SAMPLE, TETHER_CHANGED
from agent.core.records import Record, Stream
from sync.blocks import Flags, Head, Quality, Stamp, follow, genesis, parse_block, read_gap, read_rows
from sync.columns import Row
from sync.sealing import Opener, Sealer
from sync.store import DEFAULT_QUOTAS, KEEP_ACKED_S, RETENTION_S, Store

DEVICE = "tablet-1"
FLEET_PRIVATE = bytes(range(32))
SECOND = 1_000_000_000


@dataclass
class Clock:
    """Boot and wall clock, moved by hand."""

    boot_ns: int = 60 * SECOND
    wall_ns: int = 1_760_000_000 * SECOND
    quality: Quality = Quality.RTC

    def __call__(self) -> Stamp:
        return Stamp(self.boot_ns, self.wall_ns, self.quality)

    def advance(self, seconds: float) -> None:
        self.boot_ns += int(seconds * SECOND)
        self.wall_ns += int(seconds * SECOND)


@dataclass
class Rig:
    """Opens the store of one file again and again, in the same boot or another."""

    path: Path
    clock: Clock = field(default_factory=Clock)
    random: random.Random = field(default_factory=lambda: random.Random(1))
    quotas: dict[Stream, int] = field(default_factory=lambda: dict(DEFAULT_QUOTAS))
    keep_acked_s: int = KEEP_ACKED_S
    sealed: bool = False
    boot: int = 1
    retention_s: dict[Stream, int] = field(default_factory=lambda: dict(RETENTION_S))

    def open(self, *, device: str = DEVICE, make: type[Store] = Store) -> Store:
        sealer = Sealer(fleet_public(), 1, self.random.randbytes) if self.sealed else None
        return make(
            self.path, device, self.boot_id, self.clock, self.random.randbytes,
            sealer=sealer, quotas=self.quotas, keep_acked_s=self.keep_acked_s,
            retention_s=self.retention_s,
        )  # fmt: skip

    @property
    def boot_id(self) -> bytes:
        return self.boot.to_bytes(16, "big")

    def reboot(self) -> None:
        self.boot += 1
        self.clock.boot_ns = 20 * SECOND


def fleet_public() -> bytes:
    return X25519PrivateKey.from_private_bytes(FLEET_PRIVATE).public_key().public_bytes_raw()


def sample(at: int, vehicle_mv: int = 12_800) -> Record:
    return POWER_SAMPLE.make(at, vehicle_mv=vehicle_mv, tablet_percent=80)


def alarm(at: int, decision: int = 1, rule: str = "test") -> Record:
    return LOCK_RECOVERED.make(at, decision=decision, rule=rule)


def audit(at: int, reason: str = "signal") -> Record:
    return AGENT_STOPPED.make(at, reason=reason)


def state(at: int, evidence: str = "[]") -> Record:
    return TETHER_CHANGED.make(
        at, verdict="tethered", before="unknown", rule="tether.proof", because="proof", evidence=evidence
    )


def noise(source: random.Random, size: int) -> str:
    """Text that does not compress below half its size."""
    return source.randbytes(size // 2).hex()


@dataclass
class Read:
    """What a walk over a whole stream found, its chain verified on the way."""

    head: Head
    rows: dict[int, Row]
    gaps: list[tuple[int, int, str]]


def read_all(store: Store, stream: Stream, after: int = 0, max_bytes: int = 20_000) -> Read:
    """Read a stream as the depot will: every run continues the one before, every hash is followed."""
    opener = Opener({1: FLEET_PRIVATE})
    rows: dict[int, Row] = {}
    gaps: list[tuple[int, int, str]] = []
    head: Head | None = None if after else genesis(DEVICE, stream, store.epoch)
    while run := store.read_batch(stream, head.seq if head else after, max_bytes):
        opener.learn(run.segments)
        if head is None or run.before.seq > head.seq:  # acknowledged rows before it are gone already
            head = run.before
        assert run.before == head
        for raw in run.blocks:
            block = parse_block(raw)
            head = follow(head, block)
            if block.header.flags & Flags.GAP:
                gaps.append((block.header.first_seq, block.header.last_seq, read_gap(block).reason))
            rows.update(read_rows(block, opener))
        assert head == run.head
    return Read(head or store.heads()[stream], rows, gaps)
