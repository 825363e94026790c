"""Drives the core in virtual time: fires every deadline on the way, keeps the effects, speaks for a dock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from agent.core.machine import next_deadline, step
from agent.core.policy import Policy
from agent.core.records import Record, RecordKind
from agent.core.state import State, initial
from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CanSignal,
    DeadlineReached,
    DockFault,
    DockProof,
    DockStatus,
    Effect,
    Effects,
    GrantKept,
    KeepGrant,
    KeyPosition,
    Lease,
    Observation,
    Posture,
    Remember,
    Remembered,
    SignalKind,
    Started,
    Write,
)

E = TypeVar("E", bound=Effect)
STATUS_PERIOD_MS = 200  # 5 Hz (dock link)
PROOF_PERIOD_MS = 30_000


def status(at: int, **values: Any) -> DockStatus:
    """An authenticated STATUS of a docked tablet, ignition on; ``values`` replace fields."""
    plain = DockStatus(
        at=BootNs(at), dock="dock", evidence_at=BootNs(at), authenticated=True, seated=True, mated=True,
        locked=True, kl15=True, vehicle_mv=12_600, dock_mv=12_000, tablet_ma=900, temperature_dc=250,
        faults=DockFault.NONE,
    )  # fmt: skip
    return replace(plain, **values)


class Core:
    """A core with its time, its effects so far, and what it last asked to remember."""

    def __init__(self, policy: Policy | None = None, *, at_s: float = 10.0) -> None:
        self.policy = policy or Policy()
        self.state: State = initial(self.policy)
        self.now = BootNs(int(at_s * SECOND))
        self.effects: list[Effect] = []
        self.remembered: Remembered | None = None
        self.last_proof = BootNs(-PROOF_PERIOD_MS * MS)
        self.store = (
            "works"  # "slow": not yet; "hangs" and "fails": only the hurried are told, that it was not
        )
        self.kept: Remembered | None = None  # what a next run would find

    def see(self, obs: Observation) -> Effects:
        """One step; the observation may be older than the time."""
        self.now = BootNs(max(self.now, obs.at))
        self.state, made = step(self.state, obs, self.policy)
        self.effects += made
        for effect in made:
            if isinstance(effect, Remember):
                self.remembered = effect.what
                if self.store == "works":
                    self.kept = effect.what
        due = next_deadline(self.state, self.policy)
        assert due is None or due > self.state.now, "a deadline must lie ahead of what was settled"
        for effect in made:
            if not isinstance(effect, KeepGrant) or self.store == "slow":
                continue
            if self.store == "works" or effect.hurried:
                made += self.see(GrantKept(self.now, effect.number, self.store == "works"))
        return made

    def start(
        self, remembered: Remembered | None = None, boot_id: str = "boot", lease: Lease | None = None
    ) -> Effects:
        return self.see(Started(self.now, boot_id, remembered, lease))

    def restart(
        self, remembered: Remembered | None, boot_id: str = "boot", lease: Lease | None = None
    ) -> Effects:
        """Another run of the agent, at the same time; the guard shows it the lease that still runs."""
        self.state = initial(self.policy)
        return self.start(remembered, boot_id, lease)

    def run(self, seconds: float) -> None:
        """Let time pass in which nothing is seen; deadlines fire."""
        self.until(BootNs(self.now + round(seconds * SECOND)))

    def until(self, end: BootNs) -> None:
        while (due := next_deadline(self.state, self.policy)) is not None and due <= end:
            self.see(DeadlineReached(due))
        self.now = BootNs(max(self.now, end))

    def dock(self, seconds: float, **values: Any) -> None:
        """STATUS at 5 Hz, with a proof every 30 s, for a while."""
        for _ in range(max(1, round(seconds * 1000 / STATUS_PERIOD_MS))):
            if self.now >= self.last_proof + PROOF_PERIOD_MS * MS:
                self.proof()
            self.see(status(self.now, **values))
            self.run(STATUS_PERIOD_MS / 1000)

    def proof(self, dock: str = "dock") -> Effects:
        self.last_proof = self.now
        return self.see(DockProof(self.now, dock, self.now))

    def key(self, position: KeyPosition) -> Effects:
        return self.see(CanSignal(self.now, "can", SignalKind.IGNITION, position))

    def rpm(self, value: int) -> Effects:
        return self.see(CanSignal(self.now, "can", SignalKind.ENGINE_SPEED, value))

    def tethered(self, **values: Any) -> Core:
        """Started, docked and full of budget."""
        self.start()
        self.dock(self.policy.tether.refill_after_s + 2, **values)
        self.effects.clear()
        return self

    def usable(self) -> bool:
        return self.state.posture is Posture.USABLE

    def made(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def records(self, kind: RecordKind) -> list[Record]:
        return [write.record for write in self.made(Write) if write.record.kind is kind]
