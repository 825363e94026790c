"""A tablet in virtual time with sources of hints only, whose every step is recorded."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from agent.core.machine import next_deadline, step
from agent.core.policy import Policy
from agent.core.state import initial
from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CutPowerIn,
    DeadlineReached,
    Drain,
    Drained,
    DriveOutputs,
    Effect,
    LinkLoss,
    Lock,
    LockOutcome,
    Observation,
    Remember,
    Remembered,
    Started,
)
from agent.trace import Recorder
from drivers.spec import DockSession, DockSettings, DockSpec
from drivers.tapped import TappedSession
from tests.traces.stage import LOCK_NS, WALL_NS, Pile


class HintStage:
    """Sources by name, each with what takes the bytes that its session sends."""

    def __init__(self, policy: Policy) -> None:
        self.at = BootNs(100 * SECOND)
        self.policy = policy
        self.pile = Pile()
        self.recorder = Recorder(self.pile, lambda: self.at, lambda: WALL_NS + self.at)
        self.recorder.begin({"version": "scripted", "device": "tablet-1"}, lambda: self.policy)
        self.sessions: dict[str, DockSession] = {}
        self._sent: dict[str, Callable[[bytes], None]] = {}
        self._state = initial(policy)
        self._remembered: Remembered | None = None
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def source(
        self, spec: DockSpec, settings: DockSettings, sent: Callable[[bytes], None] = lambda _data: None
    ) -> None:
        assert spec.scrub is not None
        session = spec.build(settings, bytes)
        self.sessions[settings.name] = TappedSession(session, self.recorder.tap(settings.name), spec.scrub)
        self._sent[settings.name] = sent

    # --- acts ---

    def start(self) -> None:
        self.see(Started(self.at, "boot-1", self._remembered))
        for name in self.sessions:
            self.plug(name)

    def plug(self, name: str) -> None:
        self._see_all(name, self.sessions[name].link_up(self.at))

    def unplug(self, name: str) -> None:
        self._see_all(name, self.sessions[name].link_lost(self.at, LinkLoss.UNPLUGGED))

    def feed(self, name: str, data: bytes) -> None:
        self._see_all(name, self.sessions[name].feed(data, self.at))

    def later(self, ns: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.at + ns, next(self._order), act))

    def run(self, seconds: float) -> None:
        end = BootNs(self.at + round(seconds * SECOND))
        while True:
            times = [self._next(), *(entry[0] for entry in self._heap[:1])]
            times += [session.next_deadline() for session in self.sessions.values()]
            due = min((each for each in times if each is not None), default=end + 1)
            if due > end:
                self.at = end
                return
            self.at = BootNs(max(self.at, due))
            self._happen()

    def _next(self) -> BootNs | None:
        return next_deadline(self._state, self.policy)

    def _happen(self) -> None:
        while self._heap and self._heap[0][0] <= self.at:
            heapq.heappop(self._heap)[2]()
        for name, session in self.sessions.items():
            due = session.next_deadline()
            if due is not None and due <= self.at:
                self._see_all(name, session.timer(self.at))
        due = self._next()
        if due is not None and due <= self.at:
            self.see(DeadlineReached(self.at))

    # --- the tablet ---

    def see(self, observation: Observation) -> None:
        self._state, effects = step(self._state, observation, self.policy)
        for effect in effects:
            self._run(effect)
        self.recorder.watch(observation, self._state, effects)

    def _see_all(self, name: str, observations: Iterable[Observation]) -> None:
        data = self.sessions[name].outgoing()
        if data:
            self.later(2 * MS, lambda: self._sent[name](data))
        for observation in observations:
            self.see(observation)

    def _run(self, effect: Effect) -> None:
        match effect:
            case Lock(decision=decision):
                self._answer(LOCK_NS, LockOutcome, decision, "logind", True, LOCK_NS, "")
            case DriveOutputs():
                for name, session in self.sessions.items():
                    session.drive(effect, self.at)
                    self._see_all(name, ())
            case CutPowerIn(seconds=seconds):
                for name, session in self.sessions.items():
                    session.cut_power(seconds, self.at)
                    self._see_all(name, ())
            case Drain():
                self._answer(300 * MS, Drained, 0)
            case Remember(what=what):
                self._remembered = what
            case _:
                pass

    def _answer(self, ns: int, kind: Callable[..., Observation], *values: Any) -> None:
        self.later(ns, lambda: self.see(kind(self.at, *values)))
