"""What the guard decides. Pure: time, what the agent says and what logind shows come in, acts go out.

The guard holds a lease and locks when it runs out. It knows nothing of docks: whether the agent lives, hangs
or never came makes no difference. Without a lease the tablet is locked and kept so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.core.basics import MS, SECOND, BootNs, Lease
from agent.guard.posture import Posture
from agent.guard.wire import End, Hello, Locked, Message

RULE = "guard.lease_ran_out"
LEASE_MAX = 130 * SECOND  # ours: just above the longest that policy allows; what asks for more gets this
# Ours: a guard that was restarted waits so long for an agent that lives. The posture file is closed already.
START_WAIT = 1 * SECOND
AGENT_FIRST = 1 * SECOND  # ours: an agent that lives keeps the sessions locked itself, and is quicker
VERIFY = 300 * MS  # ours: how long a screen locker may take
ATTEMPTS = 5  # ours: so often a session is asked that quickly
INSIST = 5 * SECOND  # ours: and so often after that
BUS_RETRY = 250 * MS  # ours
SPACING = 50 * MS  # ours: a session that flaps its hint must not keep us reading

NO_AGENT = "the agent is not running"
SILENT = "the agent did not answer in time"


@dataclass(frozen=True, slots=True)
class LockAll:
    """Ask every session to lock."""


@dataclass(frozen=True, slots=True)
class Look:
    """Read which sessions are not locked; the answer is ``looked``."""


@dataclass(frozen=True, slots=True)
class LockSessions:
    """Ask these sessions again."""

    ids: tuple[str, ...]
    asked: int  # how often before


@dataclass(frozen=True, slots=True)
class Publish:
    """Replace the posture file."""

    posture: Posture


@dataclass(frozen=True, slots=True)
class Tell:
    """Say something to the agent, if it is there."""

    message: Message


Act = LockAll | Look | LockSessions | Publish | Tell


class Guardian:
    """One run of the guard. Every method takes the time and returns what is to be done, in order.

    Args:
        found: the posture that an earlier run of this boot left.
    """

    def __init__(self, now: BootNs, boot_id: str, found: Posture | None) -> None:
        self.lease: Lease | None = None
        self.lapsed: Locked | None = None  # our own lock, of which the agent has not taken note
        self.agent = False  # connected
        self.verified = False
        self._boot_id = boot_id
        self._decision = 0
        self._because = NO_AGENT
        self._asked = 0
        self._looked_at = now
        self._lapse_from = self._look_at = BootNs(now + START_WAIT)
        if found is not None:
            self._decision = found.decision
            if found.usable:
                self.lease = Lease(found.decision, BootNs(found.until), BootNs(found.evidence_at))
            elif found.lapsed is not None:
                self.lapsed, self._because = Locked(found.lapsed, RULE), found.because

    @property
    def deadline(self) -> BootNs | None:
        """When ``time`` is to be called next."""
        if self.lease is not None:
            return BootNs(max(self.lease.until, self._lapse_from))
        return None if self.verified else self._look_at

    @property
    def posture(self) -> Posture:
        """As the posture file is to say it."""
        lease = self.lease
        if lease is not None:
            return Posture(True, self._boot_id, lease.decision, lease.until, lease.evidence_at)
        lapsed = None if self.lapsed is None else self.lapsed.decision
        return Posture(False, self._boot_id, self._decision, lapsed=lapsed, because=self._because)

    def begin(self) -> Sequence[Act]:
        """The first acts. A lease that was found stands as it is."""
        return [Publish(self.posture)]

    def time(self, now: BootNs) -> Sequence[Act]:
        """Do what is due; to be called first at every wake-up."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return []
        if self.lease is None:
            self._looked_at = now
            self._look_at = BootNs(now + BUS_RETRY)
            return [Look()]
        self.lapsed = Locked(self.lease.decision, RULE)
        self._decision = self.lease.decision + 1
        self._restrict(BootNs(now + VERIFY), SILENT)
        return [LockAll(), Publish(self.posture), Tell(self.lapsed), Look()]

    # --- the agent --------------------------------------------------------------------------------

    def connected(self, _now: BootNs) -> Sequence[Act]:
        self.agent = True
        return [Tell(Hello(self.lease, None if self.lease is not None else self.lapsed))]

    def gone(self, now: BootNs) -> Sequence[Act]:
        """The agent's end of the connection is closed: a lease runs on, a lock is ours to keep."""
        self.agent = False
        if self.lease is None:
            self._look_again(now)
        return []

    def heard(self, now: BootNs, message: Message) -> Sequence[Act]:
        """What the agent said. What it may not say does nothing."""
        match message:
            case Lease():
                return self._lend(now, message)
            case End():
                if self.lapsed is not None and message.decision > self.lapsed.decision:
                    self.lapsed = None
                self._decision = message.decision
                self._restrict(BootNs(now + AGENT_FIRST), message.because)
                return [Publish(self.posture)]
            case _:
                return []

    def _lend(self, now: BootNs, lease: Lease) -> Sequence[Act]:
        if self.lapsed is not None and lease.decision <= self.lapsed.decision:
            return [Tell(self.lapsed)]  # it has not understood yet that this is over
        if lease.until <= now:
            return []
        self.lapsed = None
        self.lease = replace(lease, until=BootNs(min(lease.until, now + LEASE_MAX)))
        return [Publish(self.posture)]

    # --- the sessions -----------------------------------------------------------------------------

    def looked(self, now: BootNs, unlocked: Sequence[str] | None) -> Sequence[Act]:
        """Which sessions are not locked; None: logind cannot be asked."""
        if self.lease is not None:
            return []
        if unlocked is None:
            self._look_at = BootNs(now + BUS_RETRY)
            return []
        self.verified = not unlocked
        if self.verified:
            self._asked = 0
            return []
        self._asked += 1
        self._look_at = BootNs(now + (VERIFY if self._asked <= ATTEMPTS else INSIST))
        return [LockSessions(tuple(unlocked), self._asked)]

    def stirred(self, now: BootNs) -> Sequence[Act]:
        """Something about the sessions has changed, or logind is there again."""
        if self.lease is None:
            trusted = self.agent and self.lapsed is None
            self._look_again(BootNs(now + (AGENT_FIRST if trusted else 0)))
        return []

    def _restrict(self, look_at: BootNs, because: str) -> None:
        self.lease = None
        self.verified = False
        self._because = because
        self._asked = 0
        self._look_at = look_at

    def _look_again(self, at: BootNs) -> None:
        at = BootNs(max(at, self._looked_at + SPACING))
        self._look_at = at if self.verified else BootNs(min(at, self._look_at))
        self.verified = False
