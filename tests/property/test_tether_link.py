"""Any interleaving of faults on the dock's wire, with the core behind it: safe while they last, alive after.

Rules: frames are lost, doubled, late, out of order, damaged or replayed, at rates that change as it goes; the
tablet is taken out and put back; the dock resets; the agent is started again. The oracle knows when the
tablet truly sat in a dock that has the key, and nothing else.
"""

from __future__ import annotations

import random
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.core.state import TetherState
from agent.core.types import MS, SECOND, BootNs, DockForeign, DockProof
from simulator.docks.reference import ReferenceDock
from tests.dock_rig import LATENCY_NS, clean
from tests.firmware_rig import FirmwareDock, needs_gcc, record
from tests.tether_rig import FRESH_NS, POLICY, RESTRICT_NS, TetherRig

RATES = st.fixed_dictionaries({name: st.sampled_from([0, 0, 5, 30, 80]) for name in (
    "lose", "double", "late", "damage", "replay", "swap",
)})  # fmt: skip
CRANK_NS = POLICY.tether.crank_ride_through_ms * MS
# Good STATUS, a proof within a second of the last untagged frame, and the time until release; a command
# that was lost holds up the link for less than a second.
UP_NS = 8 * SECOND


class Meddler:
    """What becomes of each packet, from one seed and the rates of the moment."""

    def __init__(self, seed: int) -> None:
        self.rates: dict[str, int] = {}
        self._dice = random.Random(seed)
        self._old: list[bytes] = []
        self._kept: dict[bool, bytes] = {}

    def __call__(self, packet: bytes, to_dock: bool) -> list[tuple[int, bytes]]:
        self._old = [*self._old[-300:], packet]
        copies = [] if self._happens("lose") else [packet]
        if self._happens("double"):
            copies.append(packet)
        if self._happens("replay"):  # of either direction: a reflection too
            copies.append(self._dice.choice(self._old))
        if self._happens("swap") and copies:  # it goes out behind the next one
            kept = self._kept.pop(to_dock, None)
            self._kept[to_dock] = copies.pop(0)
            copies = [*copies, kept] if kept is not None else copies
        return [(LATENCY_NS + self._delay(), self._damaged(copy)) for copy in copies]

    def _happens(self, name: str) -> bool:
        return self._dice.randrange(100) < self.rates.get(name, 0)

    def _delay(self) -> int:
        return self._dice.randrange(3_000 * MS) if self._happens("late") else 0

    def _damaged(self, packet: bytes) -> bytes:
        if not self._happens("damage"):
            return packet
        damaged = bytearray(packet)
        damaged[self._dice.randrange(len(damaged))] ^= 1 << self._dice.randrange(8)
        return bytes(damaged[: self._dice.randrange(len(damaged)) + 1])


class Link(RuleBasedStateMachine):
    """With a dock that has the key."""

    device: ClassVar[dict[str, Any]] = {}
    has_key: ClassVar[bool] = True

    @initialize(seed=st.integers(0, 2**32 - 1), settled=st.booleans())
    def begin(self, seed: int, settled: bool) -> None:
        self.meddler = Meddler(seed)
        self.rig = TetherRig(seed=seed, fault=self.meddler, **self.device)
        self.seated = True
        self.left_at: BootNs | None = None  # since when it is out, or its dock is gone
        if settled:
            self.rig.run(7 * SECOND)

    @rule(rates=RATES)
    def meddle(self, rates: dict[str, int]) -> None:
        self.meddler.rates = rates

    @rule(ms=st.sampled_from([10, 200, 1_000, 3_000, 12_000]))
    def pass_time(self, ms: int) -> None:
        self.rig.run(ms * MS)

    @rule()
    def seat(self) -> None:
        self.seated, self.left_at = True, None
        self.rig._seat.set_inputs(self.rig.at, seated=True)

    @rule()
    def unseat(self) -> None:
        if self.seated:
            self.seated, self.left_at = False, self.rig.at
        self.rig.unseat()

    @rule(kl15=st.booleans())
    def turn_key(self, kl15: bool) -> None:
        self.rig._seat.set_inputs(self.rig.at, kl15=kl15)

    @rule()
    def reset_dock(self) -> None:
        if isinstance(self.rig.device, ReferenceDock):
            self.rig.device.reset(self.rig.at)
        elif isinstance(self.rig.device, FirmwareDock):
            self.rig.device.reset()

    @rule(same_boot=st.booleans())
    def restart(self, same_boot: bool) -> None:
        self.rig.restart_agent(same_boot=same_boot)

    @rule(data=st.binary(max_size=300))
    def noise(self, data: bytes) -> None:
        self.rig.deliver(data, to_dock=False)
        self.rig.deliver(data, to_dock=True)

    @invariant()
    def use_rests_on_a_seat_that_was(self) -> None:
        if not hasattr(self, "rig"):
            return
        rig = self.rig
        if not self.has_key:
            assert not rig.usable
            assert rig.of(DockProof) == []
            assert TetherState.TETHERED not in [state for _, state in rig.states]
            return
        if self.left_at is None:
            return
        out_ns = rig.at - self.left_at
        if out_ns > FRESH_NS:
            assert rig.state is not TetherState.TETHERED
        if out_ns > FRESH_NS + max(RESTRICT_NS, CRANK_NS + SECOND):
            assert not rig.usable

    def teardown(self) -> None:
        """Faults stop: a seated tablet is up again, one that is out is locked."""
        if not hasattr(self, "rig"):
            return
        rig = self.rig
        rig.fault = clean
        rig.run(4 * SECOND)  # what was late has come
        quiet_at = rig.at
        rig.run(UP_NS)
        if not self.has_key:
            assert not rig.usable
            return
        assert rig.authenticated()[-1].at > rig.at - SECOND, "the session is not up"
        assert not [foreign for foreign in rig.of(DockForeign) if foreign.at > quiet_at]
        wanted = TetherState.TETHERED if self.seated else None
        assert wanted in (None, rig.state)
        assert rig.usable is self.seated


class StrangeLink(Link):
    """With a dock that lacks the key."""

    device: ClassVar[dict[str, Any]] = {"dock_key": bytes(32)}
    has_key = False


class FirmwareLink(Link):
    """With the dock in C."""

    device: ClassVar[dict[str, Any]] = {"device": lambda at: FirmwareDock(at, pairing=record())}


class StrangeFirmwareLink(Link):
    device: ClassVar[dict[str, Any]] = {"device": lambda at: FirmwareDock(at, pairing=record(bytes(32)))}
    has_key = False


SOME = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestLink = Link.TestCase
TestLink.settings = SOME
TestStrangeLink = StrangeLink.TestCase
TestStrangeLink.settings = SOME
TestFirmwareLink = needs_gcc(FirmwareLink.TestCase)
TestFirmwareLink.settings = SOME
TestStrangeFirmwareLink = needs_gcc(StrangeFirmwareLink.TestCase)
TestStrangeFirmwareLink.settings = SOME
