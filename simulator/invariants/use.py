"""Who may use the tablet, and until when: proof, ride-through, and its budget."""

from __future__ import annotations

from typing import ClassVar

from agent.core.types import MS, SECOND, BootNs
from simulator.invariants.base import Invariant, Violation
from simulator.invariants.facts import NEVER, EvidenceGap, Facts, Unseated
from simulator.virtual.events import Agent, Event, Fault, Guard, Usable

TAKE_NS = SECOND  # 2-behaviour: T_restrict is the ride-through and 1 s
# Ours: the agent locks again a session that its owner opened. Three requests, each verified for 700 ms.
RELOCK_NS = 2500 * MS
# Ours: a session that did not lock is asked again every 5 s, for three times 700 ms.
INSIST_NS = 8 * SECOND
LOCK_IGNORED, AGENT_STOPPED = "lock-ignored", "agent-stopped"
GUARD_WAIT_NS = SECOND  # ours: a guard that was started waits so long for an agent that lives


def excused_until(facts: Facts, now: BootNs) -> BootNs:
    """Before this nobody could lock: neither agent nor guard ran, or the session took no lock.

    A guard alone locks once it has waited for an agent. An agent that is stopped is none.
    """
    able = []
    if facts.agent_since is not None and AGENT_STOPPED not in facts.faults:
        able.append(max(facts.agent_since, facts.faulty_until.get(AGENT_STOPPED, NEVER)))
    if facts.guard_since is not None:
        able.append(BootNs(facts.guard_since + GUARD_WAIT_NS))
    if not able or facts.lately(LOCK_IGNORED, now, INSIST_NS):
        return now
    return min(*able, now)


class UsableOnlyByProof(Invariant):
    """A person who opens the session against the prohibition finds it locked again."""

    number = 1
    statement = (
        "Whoever uses the tablet does so on a fresh proof, on what is left of a ride-through, or on a grant."
    )
    kinds: ClassVar[tuple[type[Event], ...]] = (Usable, EvidenceGap, Agent, Guard, Fault)

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._opened_at: BootNs | None = None  # against the prohibition, and open since
        self._locker_since = NEVER  # since when somebody could have locked it

    def observe(self, event: Event) -> Violation | None:
        match event:
            case Usable(usable=True):
                if event.at > self.facts.entitled_until:
                    self._opened_at = event.at
            case Usable() | EvidenceGap():
                found = self.check(event.at)
                self._opened_at = None
                return found
            case _:
                found = self.check(event.at) if isinstance(event, Agent | Guard) else None
                self._locker_since = excused_until(self.facts, event.at)
                return found
        return None

    def check(self, at: BootNs) -> Violation | None:
        if self._opened_at is None:
            return None
        since = max(self._opened_at, self._locker_since, excused_until(self.facts, at))
        if at - since <= RELOCK_NS:
            return None
        opened, self._opened_at = self._opened_at, None
        last = self.facts.entitled_until
        before = "never in this world" if last < 0 else f"{_s(opened - last)} before"
        return self.broken(
            at,
            f"used for {_s(at - opened)} after somebody opened the session; the tablet was last "
            f"entitled to use {before}",
        )


class RestrictedInTime(Invariant):
    """Use ends a second after the ride-through, whatever else fails."""

    number = 2
    statement = (
        "One second after the ride-through of a loss at the latest the tablet is restricted, come what may."
    )
    kinds: ClassVar[tuple[type[Event], ...]] = (Usable, EvidenceGap, Unseated, Agent, Guard, Fault)

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._entitled = False  # the use at hand began with leave
        self._unseated_at: BootNs | None = None
        self._locker_since = NEVER

    def observe(self, event: Event) -> Violation | None:
        match event:
            case Usable(usable=True):
                self._entitled = event.at <= self.facts.entitled_until
            case Usable():
                found = self._overdue(event.at, self.facts.entitled_until)
                self._entitled, self._unseated_at = False, None
                return found
            case EvidenceGap():
                # The facts have not taken the new evidence in yet: entitled_until is by the old.
                found = self._overdue(event.at, self.facts.entitled_until)
                self._entitled, self._unseated_at = self.facts.usable, None
                return found
            case Unseated():
                found = self.check(event.at)
                self._unseated_at = event.at if event.out else None
                return found
            case Agent() | Guard() | Fault():
                found = self.check(event.at) if isinstance(event, Agent | Guard) else None
                self._locker_since = excused_until(self.facts, event.at)
                return found
            case _:
                pass
        return None

    def check(self, at: BootNs) -> Violation | None:
        return self._overdue(at, self.facts.entitled_until)

    def _overdue(self, at: BootNs, entitled_until: BootNs) -> Violation | None:
        if not self._entitled:
            return None
        until, why = entitled_until, "the evidence and its ride-through ended"
        if self._unseated_at is not None and self._unseated_at < until:
            until = BootNs(max(self._unseated_at, self.facts.leave.until))
            why = "the dock said, authenticated, that the tablet is unseated"
        until = BootNs(max(until, self._locker_since, excused_until(self.facts, at)))
        if at - until <= TAKE_NS:
            return None
        self._entitled = False
        return self.broken(at, f"still usable {_s(at - until)} after {why}")


class BudgetHolds(Invariant):
    """Losses of evidence that are each short enough add up."""

    number = 14
    statement = "No series of restarts and resets gains more use without proof than one ride-through budget."
    kinds: ClassVar[tuple[type[Event], ...]] = (Usable, EvidenceGap)

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._used_ns = 0
        self._counted_until = NEVER
        self._entitled = False

    def observe(self, event: Event) -> Violation | None:
        facts = self.facts
        match event:
            case Usable(usable=True):
                self._entitled = event.at <= facts.entitled_until
            case Usable():
                found = self._count(event.at)
                self._entitled = False
                return found
            case EvidenceGap():
                if event.begun - facts.evidence_since >= facts.limits.refill_after_ns:
                    self._used_ns = 0
                found = self._count(event.at)
                self._entitled = facts.usable
                return found
            case _:
                pass
        return None

    def check(self, at: BootNs) -> Violation | None:
        return self._count(at) if self.facts.usable else None

    def _count(self, at: BootNs) -> Violation | None:
        """Add the use since the evidence went stale, once."""
        facts = self.facts
        if not self._entitled:
            return None
        stale_at = facts.evidence_at + facts.limits.status_fresh_ns
        since = max(stale_at, facts.usable_since, self._counted_until, facts.leave.until)
        if at <= since:
            return None
        self._used_ns += at - since
        self._counted_until = at
        limit = facts.limits.budget_ns + TAKE_NS
        if self._used_ns <= limit:
            return None
        used, self._used_ns = self._used_ns, 0
        return self.broken(
            at,
            f"used for {_s(used)} without proof since the last refill; the budget is {_s(limit - TAKE_NS)}",
        )


def _s(ns: int) -> str:
    return f"{ns / SECOND:.3f} s"
