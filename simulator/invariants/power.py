"""Shutting down, and the vehicle's battery."""

from __future__ import annotations

from typing import ClassVar

from agent.core.types import SECOND, BootNs, PowerVerb, RequestPower, TabletPower
from simulator.invariants.base import Invariant, Violation
from simulator.invariants.facts import NEVER, Facts
from simulator.virtual.events import Agent, Effected, Event, Power, Supply

RUN_ON_OVER, HARD_FLOOR = "power.run_on_over", "power.hard_floor"  # identifiers of rules
COMMIT_WAIT_NS = 5 * SECOND  # agent.runtime: a power request waits at most so long for its commit
# Ours: what a tablet that is off or asleep may take on. A sleeping vehicle takes 50 to 85 mA itself (facts).
STANDBY_MA = 50
# Ours: what the operating system needs to go down, and logind to wait for inhibitors (5 s).
GO_DOWN_NS = 20 * SECOND


class NoShutdownWhileOn(Invariant):
    """Ignition ON forbids a shutdown, and begins a later run-on anew."""

    number = 4
    statement = "While a fresh source says ON nobody asks for a shutdown, and no run-on goes on."
    kinds: ClassVar[tuple[type[Event], ...]] = (Effected,)

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._on_at = NEVER  # when a source last said ON for as long as counts

    def observe(self, event: Event) -> Violation | None:
        if not isinstance(event, Effected) or not isinstance(event.effect, RequestPower):
            return None
        now, request, facts = event.at, event.effect, self.facts
        rule = request.cause.rule
        # It was decided before it was committed, and until then the ignition may have come on.
        decided = BootNs(now - COMMIT_WAIT_NS)
        on = facts.says_on(now)
        if on and facts.on_since is not None and facts.on_since <= decided and rule != HARD_FLOOR:
            return self.broken(now, f"{request.verb.value} was requested ({rule}) while {on} says ON")
        if rule == HARD_FLOOR and not self._at_the_floor():
            return self.broken(
                now, f"{request.verb.value} was requested for the tablet's hard floor: {facts.tablet.value}"
            )
        ran_on = now - facts.on_until
        if rule == RUN_ON_OVER and request.verb is PowerVerb.SUSPEND and ran_on < facts.limits.run_on_ns:
            return self.broken(
                now,
                f"the run-on is over only {ran_on / SECOND:.1f} s after the ignition was last on; "
                f"it lasts {facts.limits.run_on_ns / SECOND:.0f} s",
            )
        return None

    def _at_the_floor(self) -> bool:
        tablet = self.facts.tablet.value
        if not isinstance(tablet, TabletPower):
            return False
        percent = tablet.percent
        return percent is not None and percent <= self.facts.limits.hard_floor_percent


class BatterySpared(Invariant):
    """The tablet lets go of a weak battery that it can see is weak."""

    number = 13
    statement = "The tablet does not hold the vehicle's battery under the act threshold beyond the act delay."
    kinds: ClassVar[tuple[type[Event], ...]] = (Supply, Power, Agent)

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._low_since: BootNs | None = None  # below the threshold, taken from, and seen

    def observe(self, event: Event) -> Violation | None:
        if not isinstance(event, Supply):
            # Who has just started has seen nothing yet, and a new time begins for it.
            if self._low_since is not None and isinstance(event, Agent):
                self._low_since = event.at
            return None
        facts = self.facts
        low = event.vehicle_mv < facts.limits.act_mv and event.tablet_ma > STANDBY_MA
        seen = facts.voltage.fresh(event.at, facts.limits.voltage_fresh_ns) or facts.power != "on"
        if not low or not seen:
            self._low_since = None
            return None
        if self._low_since is None:
            self._low_since = event.at
        return self.check(event.at)

    def check(self, at: BootNs) -> Violation | None:
        limits = self.facts.limits
        # In use it sheds, after the longer of two times; the filter is some five of its constants behind.
        longest = max(limits.act_ns + limits.drain_ns + limits.cut_ns + GO_DOWN_NS, limits.warn_ns)
        allowed = longest + 5 * limits.filter_ns
        if self._low_since is None or at - self._low_since <= allowed:
            return None
        since, self._low_since = self._low_since, at
        return self.broken(
            at,
            f"the battery was below {limits.act_mv} mV for {(at - since) / SECOND:.0f} s with the tablet "
            f"({self.facts.power}) taking from it; {allowed / SECOND:.0f} s are allowed",
        )
