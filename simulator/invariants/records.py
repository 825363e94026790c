"""The durable queue as an observer sees it: what was handed in, what was promised, what arrived."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from agent.core.types import SECOND, Basis, BootNs, Lock, Release
from simulator.faults.registry import families
from simulator.invariants.base import Invariant, Violation
from simulator.invariants.facts import Facts
from simulator.virtual.events import (
    Agent,
    Attempted,
    Awaited,
    Committed,
    Delivered,
    DiskUse,
    Effected,
    Event,
    Fault,
    Power,
    Refused,
)
from simulator.virtual.oracle import Oracle

PROOF_WAIT_NS = SECOND  # 2-behaviour: a loosening by proof waits at most so long for its commit
ASKED_AGAIN_NS = 2 * SECOND  # sync.groups tries a disk that refused each second
CHANGED, RECOVERED = "enforcement.changed", "enforcement.recovered"
# Ours: the quotas of the four streams (192 MiB), as much again for what SQLite has not used yet, its log.
MOST_DISK_BYTES = 512 * 1024 * 1024


class DiskTrouble:
    """Whether the disk refuses, or has just been made well again and was not asked yet."""

    def __init__(self) -> None:
        self._faults = {fault.name() for fault in families().get("disk", ())}
        self._on: Counter[str] = Counter()
        self._until: BootNs | None = None

    def take(self, event: Fault) -> None:
        if event.name in self._faults:
            self._on[event.name] += 1 if event.on else -1
            self._until = event.at

    def lately(self, at: BootNs) -> bool:
        return any(self._on.values()) or (self._until is not None and at < self._until + ASKED_AGAIN_NS)


# Fresh proof and the officer's override end a prohibition also where the store has failed (2-behaviour).
PASS_A_FAILED_STORE = (Basis.PROOF, Basis.OVERRIDE)


class OneRecordEach(Invariant):
    """A change of enforcement is in the books once, and a loosening is there before it takes effect."""

    number = 7
    statement = (
        "Each lock and each release has one record, durable before anybody hears of it or at the next start."
    )
    kinds: ClassVar[tuple[type[Event], ...]] = (
        Effected, Attempted, Committed, Refused, Delivered, Awaited, Agent, Power, Fault,
    )  # fmt: skip

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._tickets: dict[
            int, list[int]
        ] = {}  # decisions of what is not durable yet: a step may change twice
        self._decided: dict[int, BootNs] = {}  # attempted at, by decision
        self._durable: set[int] = set()  # decisions whose record was promised
        self._given_up: set[int] = set()  # decisions whose record the store refused
        self._published: dict[int, BootNs] = {}  # decisions that took effect and are not known durable
        self._arrived: Counter[int] = Counter()  # records at the depot, by decision
        self._arrivals: set[tuple[bytes, int]] = set()
        self._disk = DiskTrouble()

    def observe(self, event: Event) -> Violation | None:
        match event:
            case Attempted():
                for record in event.records:
                    if record.kind.name in (CHANGED, RECOVERED):
                        decision = record.as_dict()["decision"]
                        if isinstance(decision, int):
                            self._tickets.setdefault(event.ticket, []).append(decision)
                            self._decided[decision] = event.at
            case Committed():
                found = [self._committed(one, event.at) for one in self._tickets.pop(event.ticket, ())]
                return next(filter(None, found), None)
            case Refused():
                self._given_up.update(self._tickets.pop(event.ticket, ()))
            case Effected(effect=Release() as release):
                return self._released(release, event.at)
            case Effected(effect=Lock() as lock):
                if lock.decision not in self._durable:
                    self._published.setdefault(lock.decision, event.at)
            case Delivered():
                return self._delivered(event)
            case Awaited(what="in use"):
                return self._at_rest(event.at)
            case Agent():
                self._tickets.clear()  # the next run counts from one again
            case Power(state="off") if self._disk.lately(event.at):
                self._published.clear()  # what neither the disk nor the memory of a boot could keep
            case Fault():
                self._disk.take(event)
            case _:
                pass
        return None

    def _committed(self, decision: int, at: BootNs) -> Violation | None:
        if decision in self._durable:
            return self.broken(at, f"change {decision} of enforcement has a second durable record")
        self._durable.add(decision)
        self._published.pop(decision, None)
        return None

    def _released(self, release: Release, at: BootNs) -> Violation | None:
        decision = release.decision
        if decision in self._durable:
            return None
        decided = self._decided.get(decision)
        if decided is None:
            return self.broken(at, f"change {decision} released the tablet and has no record at all")
        self._published.setdefault(decision, at)
        if release.basis not in PASS_A_FAILED_STORE:
            words = f"change {decision} released by a {release.basis.value} before its record was durable"
            return self.broken(at, words)
        if at - decided < PROOF_WAIT_NS and decision not in self._given_up:
            return self.broken(
                at,
                f"change {decision} released {(at - decided) / SECOND:.3f} s after it was decided, "
                "before its record was durable; it waits for 1 s",
            )
        return None

    def _delivered(self, event: Delivered) -> Violation | None:
        for seq, row in event.rows or ():
            decision = row.fields.get("decision") if row.kind in (CHANGED, RECOVERED) else None
            if not isinstance(decision, int) or (event.epoch, seq) in self._arrivals:
                continue
            self._arrivals.add((event.epoch, seq))
            self._arrived[decision] += 1
            self._published.pop(decision, None)
            if self._arrived[decision] > 1:
                return self.broken(
                    event.at, f"change {decision} of enforcement has {self._arrived[decision]} records"
                )
        return None

    def _at_rest(self, at: BootNs) -> Violation | None:
        """Long after the faults: whatever took effect is in the books."""
        missing = sorted(decision for decision in self._published if decision not in self._durable)
        if not missing:
            return None
        self._published.clear()
        return self.broken(at, f"changes {missing} of enforcement took effect and have no durable record")


class QueueKeeps(Invariant):
    """The books of the oracle are in order, and at rest the depot has all that was promised."""

    number = 8
    statement = (
        "What a producer was told is durable arrives, but for its class's stated window after a power cut; "
        "nothing else arrives, nothing counts twice, and no number is skipped."
    )
    kinds: ClassVar[tuple[type[Event], ...]] = (*Oracle.kinds, Awaited)

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self.oracle = Oracle()

    def observe(self, event: Event) -> Violation | None:
        if isinstance(event, Awaited):
            missing = self.oracle.missing() if event.what == "in use" else ""
            return self.broken(event.at, missing) if missing else None
        problems = "; ".join(self.oracle.take(event))
        return self.broken(event.at, problems) if problems else None


class Bounded(Invariant):
    """What grows has a limit, and what is dropped at it is written down."""

    number = 11
    statement = "Every buffer has its bound, and what is thrown out leaves a record."
    kinds: ClassVar[tuple[type[Event], ...]] = (DiskUse, Delivered, Awaited)

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._gaps: dict[tuple[str, int], BootNs] = {}  # stream and last number dropped, and when it was seen
        self._told: set[tuple[object, object]] = set()

    def observe(self, event: Event) -> Violation | None:
        match event:
            case DiskUse() if event.size > MOST_DISK_BYTES:
                return self.broken(event.at, f"the queue's folder has {event.size} bytes")
            case Delivered(rows=None):
                self._gaps[event.stream.value, event.last] = event.at
            case Delivered():
                for _, row in event.rows or ():
                    if row.kind == "queue.shed":
                        self._told.add((row.fields["stream"], row.fields["last_seq"]))
            case Awaited(what="in use"):
                untold = sorted(self._gaps.keys() - self._told)
                if untold:
                    self._gaps.clear()
                    return self.broken(event.at, f"gaps {untold} came and no record says why")
            case _:
                pass
        return None
