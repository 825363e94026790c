"""What happens to a docked tablet in the field, drawn from one seed: cranks, glitches, and true removals.

The production session and core with the simulated dock in virtual time (``tests.tether_rig``), the policy of
the field. Voltages over a crank are those of ``simulator.electrics``, with sources; what no source gives
is marked ours.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass

from agent.core.policy import Policy, TetherPolicy
from agent.core.state import TetherState
from agent.core.types import MS, SECOND, BootNs, CanSignal, KeyPosition, LinkLoss, SignalKind
from simulator.docks.reference import Identity, ReferenceDock
from simulator.electrics import CRANKS
from tests.dock_rig import clean, cut
from tests.tether_rig import TetherRig

OPEN_MV = (12_000, 12_800)  # facts: a battery at rest, discharged to full
# The dock's microcontroller resets when its feed is below this for longer than its capacitor lasts: a 5 V
# rail behind a converter that drops out. Ours, and asked of a board by docs/dock-firmware.md.
BROWN_OUT_MV, HOLD_UP_NS = 5_500, 10 * MS
ENUMERATES_MS = (300, 2_500)  # from the supply's return to an open port: a hub and a CDC device; ours
POTHOLE_MS = (5, 500)  # a contact that opens, up to three times in a row; ours
LOOSE_MS = (500, 2_000)  # a plug that is pushed back in; ours
ATTEMPTS = (1, 3)  # cranks in a row, until it runs; ours
BETWEEN_CRANKS_MS = (800, 3_000)  # ours
# The field's policy but for the refill, which a life of half a minute cannot wait for.
POLICY = Policy(tether=TetherPolicy(refill_after_s=3))
SETTLED_NS = 6 * SECOND
STEP_NS = MS  # a dock samples so often (docs/dock-link.md)
STEADY_NS = 100 * MS  # into a crank; from there on the voltage moves slowly


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one event. ``restricted_ns`` counts from its beginning; None: never restricted."""

    kind: str
    restricted_ns: int | None
    allowed_ns: int  # a true removal must be restricted by then
    usable_at_end: bool
    states: tuple[TetherState, ...]


class Field:
    """One docked tablet, ignition on, its ride-through full; then one event."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.rig = TetherRig(policy=POLICY, seed=seed)
        self.rig.dock.set_inputs(self.rig.at, kl15=True)
        self.rig.run(SETTLED_NS + self.dice.randrange(SECOND))
        if not self.rig.usable:
            raise AssertionError(f"seed {seed}: not usable before the event: {self.rig.states}")
        self.began = self.rig.at

    def outcome(self, kind: str, allowed_ns: int = 0) -> Outcome:
        after = [(at, state) for at, state in self.rig.states if at > self.began]
        locked = [at for at, state in after if state in (TetherState.RESTRICTED, TetherState.FOREIGN)]
        return Outcome(
            kind,
            locked[0] - self.began if locked else None,
            allowed_ns,
            self.rig.usable,
            tuple(state for _, state in after),
        )

    # --- what is not a removal ------------------------------------------------------------------------

    def crank(self) -> Outcome:
        """Attempts to start; where the supply dips far enough the dock resets and may enumerate anew."""
        name = self.dice.choice([*CRANKS])
        for attempt in range(self.dice.randint(*ATTEMPTS)):
            if attempt:
                self.rig.run(self._ms(BETWEEN_CRANKS_MS))
            self._start(name)
        self.rig.dock.set_inputs(self.rig.at, vehicle_mv=14_200)
        self.rig.run(6 * SECOND)
        return self.outcome(f"crank {name}")

    def _start(self, name: str) -> None:
        crank = CRANKS[name]
        open_mv, began = self.dice.randint(*OPEN_MV), self.rig.at
        enumerates = self.dice.random() < 0.5  # by the dock's own USB; else a converter that the tablet feeds
        if self.dice.random() < 0.5:  # a vehicle whose CAN profile has a start signal
            start = CanSignal(began, "can", SignalKind.IGNITION, KeyPosition.START)
            self.rig.hear(start)
        low_since: BootNs | None = None
        dark, back_at = False, None
        while self.rig.at - began < crank.length_ns:
            since = self.rig.at - began
            mv = round(crank.mv(since, open_mv))
            low_since = None if mv >= BROWN_OUT_MV else low_since if low_since is not None else self.rig.at
            if low_since is not None and not dark and self.rig.at - low_since >= HOLD_UP_NS:
                dark = True
                self._gone(enumerates)
            elif low_since is None and dark:
                dark, back_at = False, self._returns(enumerates)
            if not dark:
                self.rig.dock.set_inputs(self.rig.at, vehicle_mv=mv)
            step = STEP_NS if since < STEADY_NS else 20 * STEP_NS
            self.rig.run(min(step, crank.length_ns - since))
        if dark:
            back_at = self._returns(enumerates)
        if back_at is not None and enumerates:
            self.rig.run(max(0, back_at + self._ms(ENUMERATES_MS) - self.rig.at))
            self._back()

    def _returns(self, enumerates: bool) -> BootNs:
        """The dock has its supply again: it starts anew, and is heard at once if its port stayed."""
        self.rig.dock.brown_out(self.rig.at)
        if not enumerates:
            self.rig.fault = clean
        return self.rig.at

    def glitch(self) -> Outcome:
        """A contact that opens for a moment, noise on the line, a reset of the dock."""
        rig, kind = self.rig, self.dice.choice(["pothole", "loose plug", "noise", "reset"])
        match kind:
            case "pothole":
                for _ in range(self.dice.randint(1, 3)):
                    rig.fault = cut
                    rig.run(self._ms(POTHOLE_MS))
                    rig.fault = clean
                    rig.run(self._ms((50, 1_000)))
            case "loose plug":
                rig.fault = cut
                rig.run(self._ms(LOOSE_MS))
                rig.fault = clean
            case "noise":
                for _ in range(self.dice.randint(1, 20)):
                    noise = self.dice.randbytes(self.dice.randint(1, 400))
                    rig.deliver(noise, to_dock=self.dice.random() < 0.5)
                    rig.run(self._ms((1, 200)))
            case _:
                rig.dock.reset(rig.at)
        rig.run(6 * SECOND)
        return self.outcome(kind)

    def reenumeration(self) -> Outcome:
        """The bus is reset: the port goes and comes again, and the dock with it or not."""
        rig = self.rig
        self._gone(enumerates=True)
        rig.run(self._ms(ENUMERATES_MS))
        if self.dice.random() < 0.5:
            rig.dock.brown_out(rig.at)
        self._back()
        rig.run(6 * SECOND)
        return self.outcome("re-enumeration")

    # --- what is one --------------------------------------------------------------------------------

    def removal(self) -> Outcome:
        """The tablet is taken: the dock says so, the line goes dead, another dock comes; also in a crank."""
        rig, tether = self.rig, POLICY.tether
        grace_ns = tether.status_fresh_ms * MS
        silent_ns = tether.ride_through_ms * MS + SECOND
        kind = self.dice.choice(["unseated", "cut off", "line dead", "another dock", "cut off in a crank"])
        match kind:
            case "unseated":
                rig.dock.set_inputs(rig.at, seated=False, mated=False)
                allowed = SECOND  # at once: what a frame and its way need
            case "cut off":
                self._gone(enumerates=True)
                allowed = silent_ns
            case "line dead":
                self._gone(enumerates=False)
                allowed = silent_ns
            case "another dock":
                self._gone(enumerates=True)
                rig.run(self._ms(ENUMERATES_MS))
                other = Identity.of("DK-OTHER", "V-OTHER", self.dice.randbytes(32))
                rig.device = ReferenceDock(other, self.dice.randbytes, rig.at)
                self._back()
                allowed = silent_ns
            case _:
                rig.dock.set_inputs(rig.at, vehicle_mv=8_000)
                rig.run(50 * MS)
                self._gone(enumerates=True)
                allowed = tether.crank_ride_through_ms * MS + SECOND
        rig.run(allowed + 30 * SECOND + grace_ns)
        return self.outcome(kind, allowed)

    def _gone(self, enumerates: bool) -> None:
        self.rig.fault = cut
        if enumerates:
            self.rig.hear(*self.rig.session.link_lost(self.rig.at, LinkLoss.UNPLUGGED))

    def _back(self) -> None:
        self.rig.fault = clean
        self.rig.hear(*self.rig.session.link_up(self.rig.at))

    def _ms(self, bounds: tuple[int, int]) -> int:
        return self.dice.randint(*bounds) * MS


def harmless(seed: int) -> Outcome:
    """A crank, a glitch or a re-enumeration."""
    field = Field(seed)
    return field.dice.choice([field.crank, field.glitch, field.reenumeration])()


def removal(seed: int) -> Outcome:
    return Field(seed).removal()


def late(outcome: Outcome) -> bool:
    """A true removal that was not restricted in time, or did not stay so."""
    ns = outcome.restricted_ns
    return ns is None or ns > outcome.allowed_ns or outcome.usable_at_end


def false_lock(outcome: Outcome) -> bool:
    return outcome.restricted_ns is not None or not outcome.usable_at_end


def told(seed: int, outcome: Outcome) -> str:
    """One outcome as a line, with what plays it again."""
    plain = {**dataclasses.asdict(outcome), "states": [state.value for state in outcome.states]}
    return f"seed {seed}: {plain}"
