"""A tablet with an agent that is nothing but its core: for lives at the level of decisions.

Conforms to ``simulator.faults.knobs.TabletKnobs``. A commit takes no time and never fails, so nothing can
happen between an effect and its record; that is what the fidelity with wires is for.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from agent.core.records import Record, Stream
from agent.core.types import (
    MS,
    SECOND,
    AllowSleep,
    BootNs,
    CutPowerIn,
    DeadlineReached,
    Drain,
    Drained,
    DriveOutputs,
    Effect,
    Effects,
    GrantKept,
    KeepGrant,
    Lock,
    LockOutcome,
    Observation,
    Order,
    PowerVerb,
    Prove,
    Release,
    Remember,
    Remembered,
    RequestPower,
    ShutdownSignal,
    SleepSignal,
    Started,
    UsedWhileLocked,
    WakeAt,
    Write,
)
from simulator.faults.knobs import Step, Wish
from simulator.tablet import Power, Tablet
from simulator.virtual import events as ev
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.history import History
from simulator.virtual.officer import LOG_IN_NS, asked

BOOT_NS = 12 * SECOND  # as simulator.virtual.machine
START_NS = 300 * MS  # as simulator.virtual.machine
RESTART_NS = 250 * MS  # systemd/ivma-agent.service: RestartSec
LOCKER_NS = (20 * MS, 150 * MS)  # as simulator.virtual.logind
CALL_NS = 5 * MS  # ours: a call on the system bus and what it leads to
INSIST_NS = 5 * SECOND  # agent.enforcement.logind: a session that did not lock is asked again
INHIBIT_NS = 5 * SECOND  # logind.conf(5): the default of InhibitDelayMaxSec
ON = Power.ON
NEVER = BootNs(1 << 62)
DRAIN_NS = 500 * MS  # ours: a short queue on a good network


@dataclass(frozen=True, slots=True)
class Core:
    """The production core and its policy. Neither the policy nor the state is looked into here."""

    policy: Any
    initial: Callable[[Any], Any]
    step: Callable[[Any, Observation, Any], tuple[Any, Effects]]
    next_deadline: Callable[[Any, Any], BootNs | None]
    last_words: Callable[[Any, BootNs], Remembered]


class Hands(Protocol):
    """What of the world the agent's effects reach."""

    def drive(self, outputs: DriveOutputs) -> None: ...
    def cut_in(self, seconds: int | None) -> None: ...
    def prove(self) -> None: ...


@dataclass(slots=True)
class Session:
    """The officer's session. Conforms to ``simulator.faults.knobs.SessionKnobs``."""

    ignores_lock: bool = False
    there: bool = False
    locked: bool = True

    @property
    def open(self) -> bool:
        return self.there and not self.locked


class Decider:
    """Give it its ``attach`` before time begins."""

    guard_down = False  # a knob of a process, which this world does not have

    def __init__(
        self,
        agenda: Agenda,
        events: ev.Events,
        history: History,
        rng: random.Random,
        core: Core,
        body: Tablet,
    ) -> None:
        self.body = body
        self.session = Session()
        self.booted_at = BootNs(0)
        self._agenda = agenda
        self._events = events
        self._history = history
        self._rng = rng
        self._core = core
        self._step, self._next_deadline, self._policy = core.step, core.next_deadline, core.policy
        self._state: Any = None
        self._run = 0  # counts starts; an answer to an earlier run is dropped
        self._up = False
        self._remembered: Remembered | None = None
        self._prohibits = True
        self._pending: str | None = None  # what logind has announced
        self._doom: tuple[int, Callable[[], None]] | None = None
        self._tickets = 0
        self._seqs: Counter[Stream] = Counter()
        self._usable = False
        self._deadline: BootNs | None = None  # in boot time, as what follows
        self._timer_at = NEVER
        self._timer: Entry | None = None
        self._alarm: Entry | None = None  # of the hardware clock; it goes with the agent that set it

    def attach(self, hands: Hands, *, on_power: Callable[[], None], on_run: Callable[[bool], None]) -> None:
        """``on_power`` hears of changes of power, ``on_run`` whether the agent begins to hear or is gone."""
        self._hands = hands
        self._on_power = on_power
        self._on_run = on_run

    @property
    def power(self) -> Power:
        return self.body.power

    @property
    def hears(self) -> bool:
        """An agent runs and is awake."""
        return self._up and self.body.power is ON

    def boot_time(self) -> BootNs:
        return BootNs(self._agenda.now - self.booted_at)

    # --- the agent ------------------------------------------------------------------------------------

    def take(self, observation: Observation) -> None:
        """Let the core have an observation; nothing if nobody hears."""
        if not self._up or self.body.power is not ON:
            return
        self._state, effects = self._step(self._state, observation, self._policy)
        self._events.observed(self._agenda.now, observation, self._state)
        if effects:
            self._history.step(self._agenda.now, observation, effects)
            self._carry_out(effects)
        if self._up:
            deadline = self._next_deadline(self._state, self._policy)
            if deadline is None or self._timer_at <= deadline:
                self._deadline = deadline  # a timer that comes too early is put off then
            else:
                self._arm(deadline)

    def _carry_out(self, effects: Effects) -> None:
        later: list[Effect] = []
        records: list[Record] = []
        remembers = False
        newest = 0
        for effect in effects:
            if isinstance(effect, Write):
                records.append(effect.record)
            elif isinstance(effect, Remember):
                self._remembered, remembers = effect.what, True
            elif effect.order is Order.AFTER_COMMIT:
                later.append(effect)
            else:
                self._do(effect)
            if isinstance(effect, Lock | Release):
                newest = max(newest, effect.decision)
        if records or remembers:
            self._commit(records)
        for effect in later:
            if isinstance(effect, Release) and effect.decision < newest:
                continue  # as agent.runtime: a newer decision has overtaken it
            self._do(effect)
        if self._doom is not None:
            left, strike = self._doom
            self._doom = (left - len(effects), strike)
            if left <= len(effects):
                self._doom = None
                strike()

    def _commit(self, records: list[Record]) -> None:
        self._tickets += 1
        now = self._agenda.now
        self._events.emit(ev.Attempted(now, self._tickets, tuple(records)))
        counts = Counter(record.kind.stream for record in records)
        seqs = tuple(
            (stream, self._seqs[stream] + 1, self._seqs[stream] + count) for stream, count in counts.items()
        )
        self._seqs += counts
        self._events.emit(ev.Committed(now, self._tickets, seqs))

    def _do(self, effect: Effect) -> None:
        if self._events.wanted(ev.Effected):
            self._events.emit(ev.Effected(self._agenda.now, effect))
        match effect:
            case Lock():
                self._prohibits = True
                self._ask_lock(effect.decision)
            case Release():
                self._prohibits = False
            case DriveOutputs():
                self._hands.drive(effect)
            case Prove():
                self._hands.prove()
            case CutPowerIn(seconds=seconds):
                self._hands.cut_in(seconds)
            case RequestPower(verb=verb):
                self.soon(CALL_NS, lambda: self.prepare("suspend" if verb is PowerVerb.SUSPEND else "off"))
            case WakeAt(at=at):
                self._set_alarm(at)
            case AllowSleep():
                self.soon(LOCKER_NS[1] + CALL_NS, self._go_down)
            case KeepGrant(number=number):
                self.soon(0, lambda: self.take(GrantKept(self.boot_time(), number, True)))
            case Drain():
                self.soon(DRAIN_NS, lambda: self.take(Drained(self.boot_time(), 0)))
            case _:
                pass

    def _set_alarm(self, at: BootNs | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if at is not None:
            self._alarm = self._agenda.at(BootNs(at + self.booted_at), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self.power is Power.SUSPENDED:
            self.come_on()

    def soon(self, delay_ns: int, call: Callable[[], None]) -> None:
        """Later, if this run still is."""
        run = self._run

        def due() -> None:
            if self._run == run and self._up:
                call()

        self._agenda.after(delay_ns, due)

    def _arm(self, deadline: BootNs | None) -> None:
        """A timer that comes too early is put off then: cheaper than a new one at every step."""
        self._deadline = deadline
        if deadline is None or self._timer_at <= deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._agenda.at(BootNs(deadline + self.booted_at), self._due)

    def _due(self) -> None:
        self._timer, self._timer_at = None, NEVER
        if self._deadline is None or not self.hears:
            return
        if self._deadline > self.boot_time():
            self._arm(self._deadline)
        else:
            self.take(DeadlineReached(self.boot_time()))

    def _start(self) -> None:
        if self.power is not Power.ON or self._up:
            return
        self._run += 1
        self._up = True
        if self._timer is not None:
            self._timer.cancel()
        self._deadline, self._timer, self._timer_at = None, None, NEVER
        self._state = self._core.initial(self._policy)
        self._events.emit(ev.Agent(self._agenda.now, "started", self._run))
        self.take(Started(self.boot_time(), f"boot-{self.booted_at}", self._remembered))
        self._on_run(True)

    def _end(self, how: str) -> None:
        self._set_alarm(None)
        if self._up:
            self._up = False
            self._events.emit(ev.Agent(self._agenda.now, how, self._run))
            self._on_run(False)

    # --- the session ----------------------------------------------------------------------------------

    def log_in(self) -> None:
        if self.power is not Power.ON or self._agenda.now < self.booted_at + BOOT_NS:
            return
        self.session.there, self.session.locked = True, False
        self._show()
        if self._prohibits:
            self.soon(CALL_NS, lambda: self.take(UsedWhileLocked(self.boot_time(), "session came unlocked")))

    def _ask_lock(self, decision: int) -> None:
        self.soon(self._rng.randrange(*LOCKER_NS), partial(self._locker, decision))

    def _locker(self, decision: int) -> None:
        done = not self.session.ignores_lock or not self.session.open
        if done and self.session.open:
            self.session.locked = True
            self._show()
        if not done and self._prohibits:
            self.soon(INSIST_NS, partial(self._ask_lock, decision))
        self.take(LockOutcome(self.boot_time(), decision, "model", done, CALL_NS, ""))

    def _show(self) -> None:
        now = self._agenda.now
        self._events.emit(ev.LockState(now, not self.session.open))
        usable = self.session.open and self.power is Power.ON
        if usable != self._usable:
            self._usable = usable
            self._events.emit(ev.Usable(now, usable))

    # --- power ----------------------------------------------------------------------------------------

    def prepare(self, verb: str) -> None:
        """logind announces it, and waits for the agent's inhibitor."""
        if self._pending is not None or self.power is not Power.ON:
            return
        self._pending = verb
        if not self._up:
            self._go_down()
            return
        signal = SleepSignal if verb == "suspend" else ShutdownSignal
        self._agenda.after(INHIBIT_NS, self._go_down)
        self.take(signal(self.boot_time(), True))

    def _go_down(self) -> None:
        verb, self._pending = self._pending, None
        if verb is None or self.power is not Power.ON:
            return
        if verb == "suspend":
            self._set(Power.SUSPENDED)
            return
        if self._up:
            self._remembered = self._core.last_words(self._state, self.boot_time())
        self._end("stopped")
        self.session.there = False
        self._set(Power.OFF)

    def _set(self, power: Power) -> None:
        self.body.power = power
        self._history.note("power", self._agenda.now, power.value)
        self._events.emit(ev.Power(self._agenda.now, power.value))
        self._show()
        self._on_power()

    def come_on(self) -> None:
        """Power or the ignition came, or somebody switches it on."""
        if self.power is Power.SUSPENDED:
            self._set(Power.ON)
            if self._up:
                self.take(SleepSignal(self.boot_time(), False))
                self._on_run(True)
            else:
                self._agenda.after(START_NS, self._start)
        elif self.power is Power.OFF:
            self.booted_at = self._agenda.now
            self.session = Session(self.session.ignores_lock)
            self._pending = None
            self._set(Power.ON)
            if self.body.power is Power.ON:  # otherwise that was more than its empty battery had left
                self._agenda.after(BOOT_NS + START_NS, self._start)

    def ran_empty(self) -> None:
        """Neither supply nor battery."""
        self._end("cut")
        self.session.there = False
        self._set(Power.OFF)

    # --- knobs ----------------------------------------------------------------------------------------

    def officer(self, wish: Wish | None) -> None:
        if wish is not None and self.hears:
            self.take(asked(wish, self.boot_time()))
            self.soon(LOG_IN_NS, self.log_in)

    def suspend(self) -> None:
        self.prepare("suspend")

    def shut_down(self) -> None:
        self.prepare("off")

    def switch_on(self) -> None:
        if self._doom is not None and self._doom[1] == self.ran_empty:
            self._doom = None  # a cut that was to come is off
        self.come_on()

    def cut_power(self, after: int, of: Step) -> None:
        self._doomed(after, self.ran_empty)

    def kill_agent(self, after: int, of: Step) -> None:
        self._doomed(after, self._killed)

    def spare_agent(self) -> None:
        self._doom = None

    def stop_agent(self) -> None:
        """There is no process that could be stopped."""

    def go_on_agent(self) -> None:
        """Nor go on."""

    def _doomed(self, after: int, strike: Callable[[], None]) -> None:
        if after > 0:
            self._doom = (after, strike)
        else:
            strike()

    def _killed(self) -> None:
        if self._up:
            self._end("killed")
            self._agenda.after(RESTART_NS + START_NS, self._start)
