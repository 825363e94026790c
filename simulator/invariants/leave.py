"""What was granted, as an outside observer has it: from what people asked and what the agent put on record.

It errs on the side of the agent: what ends a grant early (docked again, an open slice that a boot forfeits)
is left to the tests of the core. What it holds: no leave unasked, none longer than asked, none twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.records import Record
from agent.core.types import MINUTE, SECOND, BootNs, Observation, PermitPresented, Started

NEVER = BootNs(-(1 << 62))
UNKEPT_NS = SECOND  # design 2: the agent waits so long for the store, then the override works without it
KNOWN_MAX = 256  # ours: permits that were presented; a world has few


@dataclass(frozen=True, slots=True)
class GrantLimits:
    """The figures of the policy for grants."""

    override_ns: int = 900 * SECOND
    overrides: int = 2
    refill_ns: int = 3600 * SECOND
    boot_cost_ns: int = 600 * SECOND
    boots: int = 3


class Leave:
    """``until``: how long use is granted, in the world's time."""

    def __init__(self, limits: GrantLimits) -> None:
        self._limits = limits
        self._override_until = self._permit_until = NEVER
        self._on = True
        self._left_ns = 0  # of the permit, while the tablet is off or asleep
        self._boots = 0
        self._boot = ""
        self._asked: dict[str, int] = {}  # permits that were presented, with their minutes
        self._used: set[str] = set()
        self._taken = 0  # overrides since the last refill
        self._claims: dict[int, BootNs] = {}  # overrides that are not durable yet, by the queue's ticket
        self._unkept = 0  # overrides that no store kept in time, this boot

    @property
    def until(self) -> BootNs:
        return max(self._override_until, self._permit_until)

    def observed(self, now: BootNs, observation: Observation) -> None:
        match observation:
            case PermitPresented(id=id_, minutes=minutes) if len(self._asked) < KNOWN_MAX:
                self._asked[id_] = max(minutes, self._asked.get(id_, 0))
            case Started(boot_id=boot) if boot != self._boot:
                self._boot, self._override_until, self._unkept = boot, NEVER, 0
                self._boots += 1
                self._left_ns -= self._limits.boot_cost_ns
                over = self._boots >= self._limits.boots or self._left_ns <= 0
                self._permit_until = NEVER if over else BootNs(now + self._left_ns)
            case _:
                pass

    def recorded(self, now: BootNs, ticket: int, record: Record) -> str:
        """Take in a record that the agent made; what it cannot have made, in words, or nothing."""
        name = record.kind.name
        values = dict(zip((field.name for field in record.kind.fields), record.body, strict=True))
        if name == "grant.override":
            self._override_until = BootNs(now + self._limits.override_ns)
            self._claims[ticket] = now
        if name == "grant.changed" and values["rule"] == "grant.permit":
            return self._permit(now, str(values["id"]))
        return ""

    def _permit(self, now: BootNs, id_: str) -> str:
        if id_ not in self._asked:
            return f"permit {id_}, which nobody presented"
        if id_ in self._used:
            return f"permit {id_} a second time"
        self._used.add(id_)
        self._boots = 0
        self._permit_until = max(self._permit_until, BootNs(now + self._asked[id_] * MINUTE))
        return ""

    def power(self, now: BootNs, state: str) -> None:
        """The tablet went off, to sleep, or came back: granted time is powered time."""
        on = state == "on"
        if on and not self._on:
            if self._left_ns > 0:
                self._permit_until = BootNs(now + self._left_ns)
        elif self._on and not on:
            self._left_ns = max(0, self._permit_until - now)
            self._permit_until = min(self._permit_until, now)
        self._on = on

    def committed(self, now: BootNs, ticket: int) -> str:
        """What was recorded is durable; what is too much of it, in words, or nothing."""
        asked = self._claims.pop(ticket, None)
        if asked is None:
            return ""
        if now - asked > UNKEPT_NS:
            return self._beside()
        self._taken += 1
        return f"override number {self._taken} since the last refill" * (self._taken > self._limits.overrides)

    def refused(self, ticket: int) -> str:
        """The store did not keep it."""
        return "" if self._claims.pop(ticket, None) is None else self._beside()

    def run_ended(self) -> None:
        """Whether the store took what it had not answered nobody knows."""
        self._claims.clear()

    def _beside(self) -> str:
        """A store that fails leaves one override in a boot beside those that are counted."""
        self._unkept += 1
        return f"override number {self._unkept} in one boot on a store that fails" * (self._unkept > 1)

    def refilled(self) -> None:
        self._taken = 0
