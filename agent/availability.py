"""How available the tablet was in shifts: time to first use, share of time usable, and what was in the way.

Pure but for keeping count. A shift is the time for which the ignition is on, cranking or running; a verdict
of UNKNOWN goes on with what was before, unless the tablet sleeps.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field

from agent.core.catalogue import AVAILABILITY
from agent.core.records import Record
from agent.core.state import IgnitionState, State, TetherState
from agent.core.types import MS, SECOND, BootNs, Posture

DAY_NS = 86_400 * SECOND
DAYS = 31  # kept in memory, ours
# Ignition that is on so soon after the agent's start on a fresh boot switched the tablet on: officers have
# waited since the kernel's start. Ours.
WITH_BOOT_NS = 60 * SECOND
ON = (IgnitionState.ON, IgnitionState.CRANKING, IgnitionState.RUNNING)


@dataclass
class Figures:
    """Sums over a period; those of several periods add up."""

    period_ns: int = 0
    shifts: int = 0  # that began in it
    shift_ns: int = 0
    usable_ns: int = 0  # of shift_ns
    first_uses: int = 0  # shifts in which the tablet became usable
    first_use_ns: int = 0  # from ignition on to usable, sum and longest
    first_use_max_ns: int = 0
    unused: int = 0  # shifts that ended without
    causes: dict[str, int] = field(default_factory=dict)  # ns of shift in which it was not usable, by cause

    def add(self, other: Figures) -> None:
        self.period_ns += other.period_ns
        self.shifts += other.shifts
        self.shift_ns += other.shift_ns
        self.usable_ns += other.usable_ns
        self.first_uses += other.first_uses
        self.first_use_ns += other.first_use_ns
        self.first_use_max_ns = max(self.first_use_max_ns, other.first_use_max_ns)
        self.unused += other.unused
        for cause, ns in other.causes.items():
            self.causes[cause] = self.causes.get(cause, 0) + ns

    def told(self) -> dict[str, object]:
        """As JSON, and as `ivmactl availability` shows it."""
        mean_ns = self.first_use_ns // self.first_uses if self.first_uses else None
        return {
            "period_s": self.period_ns // SECOND,
            "shifts": self.shifts,
            "shift_s": self.shift_ns // SECOND,
            "usable_s": self.usable_ns // SECOND,
            "usable_percent": round(100 * self.usable_ns / self.shift_ns, 1) if self.shift_ns else None,
            "first_use_mean_ms": None if mean_ns is None else mean_ns // MS,
            "first_use_max_ms": self.first_use_max_ns // MS if self.first_uses else None,
            "unused_shifts": self.unused,
            "causes_s": self._causes(),
        }

    def record(self, at: BootNs) -> Record:
        return AVAILABILITY.make(
            at,
            period_s=self.period_ns // SECOND,
            shifts=self.shifts,
            shift_s=self.shift_ns // SECOND,
            usable_s=self.usable_ns // SECOND,
            first_uses=self.first_uses,
            first_use_ms=self.first_use_ns // MS,
            first_use_max_ms=self.first_use_max_ns // MS,
            unused=self.unused,
            causes=json.dumps(self._causes()),
        )

    def _causes(self) -> dict[str, int]:
        return {cause: ns // SECOND for cause, ns in sorted(self.causes.items()) if ns >= SECOND}


class Availability:
    """Fed with every state of a run. ``see`` and ``end`` give the figures of a period that is over."""

    def __init__(self) -> None:
        self.total = Figures()  # of this run, without the open period
        self.days: deque[tuple[BootNs, Figures]] = deque(maxlen=DAYS)
        self._open = Figures()
        self._began = self._at = self._opened = BootNs(0)
        self._cold = False
        self._key: object = None
        self._in_shift = self._usable = self._asleep = False
        self._cause = ""
        self._waits_since: int | None = None

    def begin(self, at: BootNs, *, cold: bool) -> None:
        """The agent starts; ``cold``: with the machine."""
        self._began = self._at = self._opened = at
        self._cold = cold

    def see(self, state: State) -> Figures | None:
        """A state after a step. A period ends with its day, and when the tablet goes to sleep after use."""
        tether = state.tether
        asleep = state.asleep_until is not None
        key = (state.ignition.state, state.posture, tether.state, tether.unseated, asleep)
        if key == self._key and state.now - self._opened < DAY_NS:
            return None
        self._key = key
        self._pass(state.now)
        dozes = asleep and not self._asleep
        self._asleep = asleep
        self._turn(state, state.ignition.state, asleep=asleep)
        over = state.now - self._opened >= DAY_NS or (dozes and self._open.shift_ns > 0)
        return self._close() if over else None

    def end(self, at: BootNs) -> Figures | None:
        """The agent stops; None if there was no shift to tell of."""
        self._pass(at)
        self._leave()
        return self._close() if self._open.shifts or self._open.shift_ns else None

    def told(self) -> dict[str, object]:
        """This run's sums, and its periods, the newest last."""
        whole = Figures()
        whole.add(self.total)
        whole.add(self._open)
        whole.period_ns = self._at - self._began
        periods = [{"ended_ns": at, **each.told()} for at, each in self.days]
        return {"since_start": whole.told(), "periods": periods}

    def told_at(self, at: BootNs) -> dict[str, object]:
        """The same, up to now."""
        self._pass(at)
        return self.told()

    # --- counting ---

    def _pass(self, now: int) -> None:
        """The time since the last look was as things were."""
        now = max(now, self._at)
        gone, self._at = now - self._at, BootNs(now)
        if not self._in_shift:
            return
        self._open.shift_ns += gone
        if self._usable:
            self._open.usable_ns += gone
        else:
            self._open.causes[self._cause] = self._open.causes.get(self._cause, 0) + gone

    def _turn(self, state: State, ignition: IgnitionState, *, asleep: bool) -> None:
        self._usable = state.posture is Posture.USABLE
        self._cause = cause(state, asleep=asleep)
        if ignition in ON:
            if not self._in_shift:
                self._enter()
        elif ignition is not IgnitionState.UNKNOWN or asleep:
            self._leave()
        if self._in_shift and self._usable and self._waits_since is not None:
            took = self._at - self._waits_since
            self._waits_since = None
            self._open.first_uses += 1
            self._open.first_use_ns += took
            self._open.first_use_max_ns = max(self._open.first_use_max_ns, took)

    def _enter(self) -> None:
        self._in_shift = True
        self._open.shifts += 1
        self._waits_since = self._at
        if self._cold and self._at - self._began <= WITH_BOOT_NS:
            self._waits_since = 0
            self._open.shift_ns += self._at
            self._open.causes["starting"] = self._open.causes.get("starting", 0) + self._at
        self._cold = False

    def _leave(self) -> None:
        if self._in_shift and self._waits_since is not None:
            self._open.unused += 1
        self._in_shift, self._waits_since = False, None

    def _close(self) -> Figures:
        done, self._open = self._open, Figures()
        done.period_ns = self._at - self._opened
        self._opened = self._at
        self.total.add(done)
        self.days.append((self._at, done))
        return done


def cause(state: State, *, asleep: bool) -> str:
    """Why a tablet that is not usable is not."""
    tether = state.tether
    if asleep:
        return "asleep"
    match tether.state:
        case TetherState.UNKNOWN:
            return "starting"
        case TetherState.FOREIGN:
            return "foreign_dock"
        case TetherState.RESTRICTED:
            return "unseated" if tether.unseated else "evidence_lost"
        case TetherState.TETHERED | TetherState.UNCERTAIN:
            return "guard"  # proof is there, and nobody who would lock if the agent died
