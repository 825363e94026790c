"""A tablet in virtual time whose every step is recorded: core, dock session and dock model, by a script."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

import zstandard

from agent.core.machine import next_deadline, step
from agent.core.policy import Policy
from agent.core.state import initial
from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CanSignal,
    CutPowerIn,
    DeadlineReached,
    Drain,
    Drained,
    DriveOutputs,
    Effect,
    KeyPosition,
    LinkLoss,
    Lock,
    LockOutcome,
    Observation,
    Prove,
    Remember,
    Remembered,
    RequestPower,
    SignalKind,
    SleepSignal,
    Started,
)
from agent.trace import Batch, Recorder
from agent.trace_format import pack
from drivers.docks.reference.session import ReferenceSession
from drivers.docks.reference.spec import SPEC
from drivers.spec import DockSettings
from drivers.tapped import TappedSession
from simulator.docks.reference import Identity, ReferenceDock

DOCK, SERIAL, VEHICLE_ID = "dock", "DK-000042", "WV1ZZZ7HZNH000042"
LATENCY_NS = 2 * MS  # of the wire; ours
LOCK_NS = 3 * MS  # that a lock takes; ours
WALL_NS = 1_790_000_000 * SECOND  # of a boot in the autumn of 2026


class Pile:
    """A shelf in memory, whose chunks are one file."""

    fresh = True
    lost = 0

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._compress = zstandard.ZstdCompressor(level=3).compress

    def put(self, batch: Batch) -> None:
        self.fresh = False
        self._chunks.append(pack(batch.entries, self._compress)[0])

    def file(self) -> bytes:
        return b"".join(self._chunks)


class Stage:
    """One tablet and one dock. Every method acts at the present time; ``run`` lets time pass."""

    def __init__(self, key: bytes, policy: Policy, seed: int = 1) -> None:
        self.at = BootNs(100 * SECOND)
        self.policy = policy
        self.pile = Pile()
        self._dice = random.Random(seed)
        self._settings = DockSettings(DOCK, SERIAL, VEHICLE_ID, key)
        self._begin()
        self.dock = ReferenceDock(Identity.of(SERIAL, VEHICLE_ID, key), self._dice.randbytes, self.at)
        self.foreign = ReferenceDock(Identity.of("DK-999999", "", bytes(32)), self._dice.randbytes, self.at)
        self.plugged: ReferenceDock | None = None
        self.broken = False  # the wire loses everything
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._remembered: Remembered | None = None

    def _begin(self) -> None:
        self.pile.fresh = True
        self.recorder = Recorder(self.pile, lambda: self.at, lambda: WALL_NS + self.at)
        self.recorder.begin({"version": "scripted", "device": "tablet-1"}, lambda: self.policy)
        session = ReferenceSession(self._settings, self._dice.randbytes)
        assert SPEC.scrub is not None
        self.session = TappedSession(session, self.recorder.tap(DOCK), SPEC.scrub)
        self._state = initial(self.policy)

    # --- acts ---

    def kill(self) -> None:
        """The agent is gone, with nothing of this run left to come."""
        self.recorder.flush()
        self._heap.clear()
        self._begin()

    def start(self) -> None:
        """A run of the agent begins, docked."""
        self.see(Started(self.at, "boot-1", self._remembered))
        self.plug(self.dock)

    def plug(self, dock: ReferenceDock) -> None:
        self.plugged = dock
        self._see_all(self.session.link_up(self.at))

    def unplug(self) -> None:
        self.plugged = None
        self._see_all(self.session.link_lost(self.at, LinkLoss.UNPLUGGED))

    def put(self, **inputs: int | bool | None) -> None:
        """Change what the dock senses."""
        for dock in (self.dock, self.foreign):
            dock.set_inputs(self.at, **inputs)

    def key(self, position: KeyPosition) -> None:
        self.see(CanSignal(self.at, "powertrain", SignalKind.IGNITION, position))

    def crank(self) -> None:
        """800 ms of starter, then the engine runs and charges."""
        self.key(KeyPosition.START)
        for mv, rpm in ((8100, 0), (9200, 180), (9700, 230), (10_400, 260)):
            self.put(vehicle_mv=mv)
            self.see(CanSignal(self.at, "powertrain", SignalKind.ENGINE_SPEED, rpm))
            self.run(0.2)
        self.put(vehicle_mv=14_200)
        self.key(KeyPosition.ON)

    def drive(self, seconds: float) -> None:
        """Ten signals a second."""
        for tenth in range(round(seconds * 5)):
            self.see(CanSignal(self.at, "powertrain", SignalKind.ENGINE_SPEED, 1500 + 37 * (tenth % 20)))
            self.see(CanSignal(self.at, "powertrain", SignalKind.SPEED, 480 + tenth % 7))
            if tenth % 5 == 0:
                self.key(KeyPosition.ON)
            self.run(0.2)

    # --- time ---

    def run(self, seconds: float) -> None:
        end = BootNs(self.at + round(seconds * SECOND))
        while True:
            self._carry()
            deadlines = (next_deadline(self._state, self.policy), self.session.next_deadline())
            due: list[int] = [each for each in deadlines if each is not None]
            due += [dock.next_deadline() for dock in (self.dock, self.foreign)]
            due += [entry[0] for entry in self._heap[:1]]
            at = max(self.at, min(due))
            if at > end:
                self.at = end
                return
            self.at = BootNs(at)
            self._happen()

    def _happen(self) -> None:
        while self._heap and self._heap[0][0] <= self.at:
            heapq.heappop(self._heap)[2]()
        for dock in (self.dock, self.foreign):
            if dock.next_deadline() <= self.at:
                dock.timer(self.at)
        deadline = self.session.next_deadline()
        if deadline is not None and deadline <= self.at:
            self._see_all(self.session.timer(self.at))
        deadline = next_deadline(self._state, self.policy)
        if deadline is not None and deadline <= self.at:
            self.see(DeadlineReached(self.at))

    def _later(self, ns: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.at + ns, next(self._order), act))

    # --- the tablet ---

    def see(self, observation: Observation) -> None:
        """One step, as the runtime does it: effects first, then the recorder."""
        self._state, effects = step(self._state, observation, self.policy)
        for effect in effects:
            self._run(effect)
        self.recorder.watch(observation, self._state, effects)

    def _see_all(self, observations: Iterable[Observation]) -> None:
        self._send()
        for observation in observations:
            self.see(observation)

    def _run(self, effect: Effect) -> None:
        match effect:
            case Lock(decision=decision):
                self._answer(LOCK_NS, LockOutcome, decision, "logind", True, LOCK_NS, "")
            case DriveOutputs():
                self.session.drive(effect, self.at)
                self._send()
            case CutPowerIn(seconds=seconds):
                self.session.cut_power(seconds, self.at)
                self._send()
            case Prove():
                self.session.prove(self.at)
                self._send()
            case Drain():
                self._answer(300 * MS, Drained, 0)
            case RequestPower():
                self._answer(5 * MS, SleepSignal, True)
            case Remember(what=what):
                self._remembered = what
            case _:
                pass

    def _answer(self, ns: int, kind: Callable[..., Observation], *values: Any) -> None:
        self._later(ns, lambda: self.see(kind(self.at, *values)))

    # --- the wire ---

    def _send(self) -> None:
        data = self.session.outgoing()
        if data and self.plugged is not None and not self.broken:
            self._later(LATENCY_NS, lambda dock=self.plugged: dock.feed(data, self.at))  # type: ignore[misc]

    def _carry(self) -> None:
        for dock in (self.dock, self.foreign):
            data = dock.outgoing()
            if data and dock is self.plugged and not self.broken:
                self._later(LATENCY_NS, lambda data=data: self._receive(data))  # type: ignore[misc]

    def _receive(self, data: bytes) -> None:
        if self.plugged is not None and not self.broken:
            self._see_all(self.session.feed(data, self.at))
