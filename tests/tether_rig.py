"""A dock link with the core behind it, in virtual time: what is decided when frames are meddled with.

The production session and the production core; the dock is the simulated one, or the one in C.
"""

from __future__ import annotations

from typing import Any, Protocol

from agent.core.machine import next_deadline
from agent.core.policy import Policy, TetherPolicy
from agent.core.state import TetherState
from agent.core.types import MS, SECOND, BootNs, CutPowerIn, DriveOutputs, Observation, Prove
from tests.core_driver import Core
from tests.dock_rig import Rig

# Short where the field is slow, so that a life fits a test; freshness and ride-through are the field's.
POLICY = Policy(tether=TetherPolicy(refill_after_s=5, start_allowance_s=3, return_ms=200))
RIDE_NS = POLICY.tether.ride_through_ms * MS
FRESH_NS = POLICY.tether.status_fresh_ms * MS
RESTRICT_NS = RIDE_NS + SECOND  # T_restrict: from the loss of the evidence


class Seat(Protocol):
    """A dock whose contacts can be moved."""

    def set_inputs(self, at: BootNs, **changes: Any) -> None: ...


class TetherRig(Rig):
    """``states`` are the tether's states with the times at which they began."""

    def __init__(self, *, policy: Policy = POLICY, **keywords: Any) -> None:
        self.core = Core(policy, at_s=0)
        self.core.start()
        self.states: list[tuple[BootNs, TetherState]] = [(BootNs(0), TetherState.UNKNOWN)]
        self._acted = 0
        super().__init__(**keywords)

    def run(self, ns: int) -> None:
        """Let so much time pass, at both ends and in the core."""
        end = BootNs(self.at + ns)
        while True:
            due = next_deadline(self.core.state, self.core.policy)
            until = end if due is None or due > end else due
            super().run(until - self.at)
            self._settle(until)
            if until == end:
                return

    def restart_agent(self, *, same_boot: bool = True) -> None:
        """Another run of the agent: a new session, and a core that knows what was remembered."""
        from agent.core.state import initial

        self.core.state = initial(self.core.policy)
        self.session = type(self.session)(self.session._settings, self.session._entropy)
        self.core.start(self.core.remembered, "boot" if same_boot else "next boot")
        self._note()
        self._observe(self.session.link_up(self.at))

    def hear(self, *observations: Observation) -> None:
        """What comes from elsewhere than the dock's wire: the port, another bus."""
        self._observe(list(observations))

    def unseat(self) -> None:
        self._seat.set_inputs(self.at, seated=False)

    @property
    def _seat(self) -> Seat:
        return self.device  # type: ignore[return-value]

    @property
    def state(self) -> TetherState:
        return self.core.state.tether.state

    @property
    def usable(self) -> bool:
        return self.core.usable()

    def since(self, at: int) -> list[TetherState]:
        """The states that were entered after a time."""
        return [state for began, state in self.states if began > at]

    def _observe(self, observations: list[Observation]) -> None:
        super()._observe(observations)
        for obs in observations:
            self._settle(obs.at)
            self.core.see(obs)
            self._note()
        self._act()

    def _settle(self, at: BootNs) -> None:
        while (due := next_deadline(self.core.state, self.core.policy)) is not None and due <= at:
            self.core.until(due)
            self._note()
        self.core.until(at)
        self._act()

    def _note(self) -> None:
        if self.states[-1][1] is not self.state:
            self.states.append((self.core.state.now, self.state))

    def _act(self) -> None:
        new, self._acted = self.core.effects[self._acted :], len(self.core.effects)
        for effect in new:
            match effect:
                case DriveOutputs():
                    self.session.drive(effect, self.at)
                case CutPowerIn(seconds=seconds):
                    self.session.cut_power(seconds, self.at)
                case Prove():
                    self.session.prove(self.at)
                case _:
                    pass


def tethered(**keywords: Any) -> TetherRig:
    """Docked, usable, with the ride-through's budget full."""
    rig = TetherRig(**keywords)
    rig.run(8 * SECOND)
    assert rig.state is TetherState.TETHERED
    assert rig.usable
    assert rig.core.state.tether.budget_ns == POLICY.tether.budget_ms * MS
    return rig
