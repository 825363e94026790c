"""How long to wait before the next connection, by how the last one ended; what of it people should know."""

from __future__ import annotations

from collections.abc import Callable

from sync import session_types as t
from sync.reasons import Ending

_TROUBLES = {
    Ending.FORBIDDEN: t.Trouble.FORBIDDEN,
    Ending.UNTRUSTED: t.Trouble.UNTRUSTED,
    Ending.TAKEN_OVER: t.Trouble.TAKEN_OVER,
}


class Waits:
    """Full jitter: a fleet must not come back all at once. ``jitter`` gives a number from 0 up to 1."""

    def __init__(self, jitter: Callable[[], float], limits: t.Limits) -> None:
        self.failures = 0  # since the last useful connection
        self._refusals = 0  # by who we are, running
        self._jitter = jitter
        self._limits = limits
        self._told: set[t.Trouble] = set()

    def after(self, ending: Ending) -> float:
        """Seconds to wait."""
        limits = self._limits
        longest_s = min(limits.backoff_s << min(self.failures, 30), limits.backoff_cap_s)
        self.failures += 1
        if ending is Ending.FORBIDDEN:
            # Only a person changes it: seldom, and more seldom each time.
            longest_s = min(limits.backoff_cap_s << min(self._refusals, 30), limits.retry_cap_s)
            self._refusals += 1
        elif ending in (Ending.BUSY, Ending.UNTRUSTED, Ending.TAKEN_OVER):
            longest_s = limits.backoff_cap_s
        else:
            return self._jitter() * longest_s
        return (1 + self._jitter()) * longest_s / 2

    def useful(self) -> None:
        """The depot answered: only now the waits begin anew."""
        self.failures = 0

    def trouble(self, ending: Ending, detail: str) -> t.Report | None:
        """What to report of an end, once until a connection comes about."""
        return self._once(_TROUBLES.get(ending), detail)

    def connected(self, notice: str) -> t.Report | None:
        """A connection came about; ``notice`` is what it says to people, reported once."""
        self._refusals = 0
        self._told &= {t.Trouble.EXPIRES} if notice else set()
        return self._once(t.Trouble.EXPIRES if notice else None, notice)

    def _once(self, trouble: t.Trouble | None, detail: str) -> t.Report | None:
        if trouble is None or trouble in self._told:
            return None
        self._told.add(trouble)
        return t.Report(trouble, None, detail)
