"""Faults of broker and depot: acknowledgements lost, messages doubled, ends that forget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.faults.base import Fault, Span, span
from simulator.faults.knobs import FaultyWorld

FAMILY = "fleet"
LENGTH_MS = Span(500, 3_600_000)
DAY_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class PubackLost(Fault):
    """The broker has the message and the tablet does not learn of it."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"broker.lose_puback_permille"})
    length_ms: ClassVar[Span] = LENGTH_MS
    permille: int = span(10, 1000)

    def start(self, world: FaultyWorld) -> None:
        world.broker.lose_puback_permille = self.permille

    def stop(self, world: FaultyWorld) -> None:
        world.broker.lose_puback_permille = 0


@dataclass(frozen=True, slots=True)
class AckLost(Fault):
    """The depot has the batch and the tablet does not learn of it."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"depot.lose_ack_permille"})
    length_ms: ClassVar[Span] = LENGTH_MS
    permille: int = span(10, 1000)

    def start(self, world: FaultyWorld) -> None:
        world.depot.lose_ack_permille = self.permille

    def stop(self, world: FaultyWorld) -> None:
        world.depot.lose_ack_permille = 0


@dataclass(frozen=True, slots=True)
class DuplicateDelivery(Fault):
    """QoS 1: the depot gets a message again."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"broker.duplicate_permille"})
    length_ms: ClassVar[Span] = LENGTH_MS
    permille: int = span(10, 1000)

    def start(self, world: FaultyWorld) -> None:
        world.broker.duplicate_permille = self.permille

    def stop(self, world: FaultyWorld) -> None:
        world.broker.duplicate_permille = 0


@dataclass(frozen=True, slots=True)
class SilentDepot(Fault):
    """The depot is down; the broker keeps what comes for it."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"depot.silent"})
    length_ms: ClassVar[Span] = LENGTH_MS

    def start(self, world: FaultyWorld) -> None:
        world.depot.silent = True

    def stop(self, world: FaultyWorld) -> None:
        world.depot.silent = False


@dataclass(frozen=True, slots=True)
class DepotRestored(Fault):
    """The depot's database is lost at the end, and the backup of the beginning put in its place."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"depot.backup"})
    length_ms: ClassVar[Span] = Span(1_000, DAY_MS)
    weight: ClassVar[int] = 5

    def start(self, world: FaultyWorld) -> None:
        world.depot.back_up()

    def stop(self, world: FaultyWorld) -> None:
        world.depot.restore()


@dataclass(frozen=True, slots=True)
class BrokerRestart(Fault):
    """The broker goes down and comes back, with its sessions and queues or without."""

    family: ClassVar[str] = FAMILY
    holds: ClassVar[frozenset[str]] = frozenset({"broker.run"})
    length_ms: ClassVar[Span] = Span(100, 600_000)
    keep: bool

    def start(self, world: FaultyWorld) -> None:
        world.broker.stop(keep=self.keep)

    def stop(self, world: FaultyWorld) -> None:
        world.broker.start()
