"""The tablet as a machine: off, on or suspended, with the agent as a service on it.

Conforms to ``simulator.faults.knobs.TabletKnobs``. What the agent is made of comes from the composition root.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from agent.core.types import MS, SECOND
from simulator.faults.knobs import Step, Wish
from simulator.tablet import Power, Tablet
from simulator.virtual import events as ev
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.clock import Clock
from simulator.virtual.logind import Logind, Session
from simulator.virtual.loop import Killed, VirtualLoop
from simulator.virtual.officer import LOG_IN_NS

BOOT_NS = 12 * SECOND  # ours: from the button to the service manager
START_NS = 300 * MS  # ours: from the start of the agent's process to its first line
RESTART_NS = 250 * MS  # systemd/ivma-agent.service: RestartSec
STOP_NS = 10 * SECOND  # systemd/ivma-agent.service: TimeoutStopSec; then it is killed


class GuardService(Protocol):
    """The guard, as far as the machine starts and ends it."""

    def boot(self, ready_ns: int) -> None:
        """The machine starts; the service manager is there after ``ready_ns``."""

    def power_gone(self) -> None: ...
    def sleep(self, *, asleep: bool) -> None: ...
    def hold(self, *, down: bool) -> None:
        """Killed, and not started again before it is let go."""


class Run(Protocol):
    """One run of the agent, on a loop of its own."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def supply_changed(self) -> None:
        """udev: the tablet's supply came or went."""

    def officer(self, wish: Wish) -> None:
        """Somebody at the screen asks for something."""

    def released(self, *, power: bool) -> None:
        """The process is gone, however it ended: a kernel that has ``power`` closes what it had open."""


@dataclass(slots=True)
class _Doom:
    """Something that ends a process, or the power, after so many steps."""

    left: int
    of: Step
    what: Callable[[], None]


class Machine:
    """``launch`` makes a run on a loop.

    Called: ``on_boot`` before anything runs, ``on_power`` after every change, ``on_kill`` when a process is
    about to end at once, ``on_cut`` when the power went.
    """

    def __init__(
        self,
        agenda: Agenda,
        clock: Clock,
        events: ev.Events,
        body: Tablet,
        session: Session,
        launch: Callable[[VirtualLoop, int], Run],
        *,
        on_boot: Callable[[], None],
        on_power: Callable[[Power], None],
        on_kill: Callable[[], None],
        on_cut: Callable[[], None],
    ) -> None:
        self.body = body
        self.session = session
        self.logind = Logind(agenda, session, self._go_down)
        self.guard: GuardService | None = None
        self.run: Run | None = None
        self.loop: VirtualLoop | None = None
        self.runs = 0
        self._agenda = agenda
        self._clock = clock
        self._events = events
        self._launch = launch
        self._on_boot = on_boot
        self._on_power = on_power
        self._on_kill = on_kill
        self._on_cut = on_cut
        self._starting: Entry | None = None
        self._stopping: Entry | None = None
        self._cut: _Doom | None = None
        self._kill: _Doom | None = None
        self._start_at_wake = False
        self._stopped = self._guard_down = False
        self._last = body.power
        self._usable = False
        events.subscribe(self._look, ev.LockState, ev.Power)

    @property
    def power(self) -> Power:
        return self.body.power

    @property
    def usable(self) -> bool:
        """A person can use it now."""
        return self.power is Power.ON and self.session.open

    # --- knobs ------------------------------------------------------------------------------------------

    def officer(self, wish: Wish | None) -> None:
        if wish is None or self.run is None or self.power is not Power.ON:
            return
        self.run.officer(wish)
        self._agenda.after(LOG_IN_NS, self._log_in)

    def _log_in(self) -> None:
        if self.power is Power.ON and self._agenda.now >= self._clock.booted_at + BOOT_NS:
            self.session.log_in()

    def switch_on(self) -> None:
        self._cut = None
        if self.power is Power.SUSPENDED:
            self._wake()
        elif self.power is Power.OFF:
            self._boot()

    def suspend(self) -> None:
        if self.power is Power.ON:
            self.logind.prepare("suspend")

    def shut_down(self) -> None:
        if self.power is Power.ON:
            self.logind.prepare("power_off")

    def cut_power(self, after: int, of: Step) -> None:
        self._cut = self._doom(after, of, self._power_gone)

    def kill_agent(self, after: int, of: Step) -> None:
        self._kill = self._doom(after, of, self._killed)

    def spare_agent(self) -> None:
        self._kill = None

    def stop_agent(self) -> None:
        if self.loop is not None:
            self._stopped = True
            self.loop.freeze()

    def go_on_agent(self) -> None:
        self._stopped = False
        if self.loop is not None and self.power is Power.ON:
            self.loop.thaw()

    @property
    def guard_down(self) -> bool:
        return self._guard_down

    @guard_down.setter
    def guard_down(self, down: bool) -> None:
        self._guard_down = down
        if self.guard is not None:
            self.guard.hold(down=down)

    def step(self, of: Step) -> None:
        """The agent has come to an instant between two steps. Between effects ``Killed`` ends it there."""
        for doom in (self._cut, self._kill):
            if doom is not None and doom.of is of:
                doom.left -= 1
                if doom.left <= 0:
                    self._strike(doom)
                    if of is Step.EFFECTS:  # SQLite has to come back from the write to be closed
                        raise Killed

    def _doom(self, after: int, of: Step, what: Callable[[], None]) -> _Doom | None:
        doom = _Doom(after, of, what)
        if after <= 0:
            self._strike(doom)
            return None
        return doom

    def _strike(self, doom: _Doom) -> None:
        if self._cut is doom:
            self._cut = None
        if self._kill is doom:
            self._kill = None
        doom.what()

    # --- power ------------------------------------------------------------------------------------------

    def supply_changed(self, there: bool) -> None:
        """A dock gives power, or no longer: a tablet that is off starts with it."""
        if there and self.power is Power.OFF:
            self._boot()
        elif self.run is not None:
            self.run.supply_changed()

    def ignition_came(self) -> None:
        """A suspended tablet wakes with the ignition."""
        if self.power is Power.SUSPENDED:
            self._wake()

    def alarm_came(self) -> None:
        """The hardware clock's."""
        if self.power is Power.SUSPENDED:
            self._wake()

    def look_at_battery(self) -> None:
        """With neither supply nor battery what was on is off."""
        if self.power is Power.OFF and self._last is not Power.OFF:
            self._power_gone()

    def end(self) -> None:
        """The world ends, and the process with it."""
        self._end("killed")

    def _boot(self) -> None:
        self.look_at_battery()  # it may have run out since anybody looked: one process at a time
        self.logind.rebooted()
        self._clock.booted_at = self._agenda.now
        self._on_boot()
        if self.guard is not None:
            self.guard.boot(BOOT_NS)
        self._set_power(Power.ON)
        if self.power is Power.ON:
            self._start_in(BOOT_NS + START_NS)

    def _wake(self) -> None:
        self._set_power(Power.ON)
        if self.power is not Power.ON:
            return
        if self.guard is not None:
            self.guard.sleep(asleep=False)
        if self.loop is not None:
            if not self._stopped:
                self.loop.thaw()
        elif self._start_at_wake:
            self._start_in(START_NS)
        self._start_at_wake = False
        self.logind.resumed()

    def _go_down(self, verb: str) -> None:
        """logind: every inhibitor is gone, or the longest delay is over."""
        if self.power is not Power.ON:
            return
        if verb == "suspend":
            if self.loop is not None:
                self.loop.freeze()
            if self.guard is not None:
                self.guard.sleep(asleep=True)
            self._set_power(Power.SUSPENDED)
            return
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None
        if self.run is None or self.loop is None:
            self._off()
            return
        self._stopping = self._agenda.after(STOP_NS, self._stop_took_too_long)
        self._spawn(self.run.stop(), self._stopped_for_good)

    def _stopped_for_good(self) -> None:
        if self._stopping is not None:
            self._stopping.cancel()
            self._stopping = None
        self._end("stopped")
        self._off()

    def _stop_took_too_long(self) -> None:
        self._stopping = None
        self._end("killed")
        self._off()

    def _off(self) -> None:
        self.session.end()
        self._set_power(Power.OFF)

    def _power_gone(self) -> None:
        for entry in (self._starting, self._stopping):
            if entry is not None:
                entry.cancel()
        self._starting = self._stopping = None
        self._end("cut")
        self._on_cut()
        self.logind.rebooted()
        self._set_power(Power.OFF)

    def _set_power(self, power: Power) -> None:
        if power is Power.OFF and self.guard is not None:
            self.guard.power_gone()
        self.body.power = self._last = power
        self._on_power(power)
        if self._last is power:  # otherwise that was more than its empty battery had left
            self._events.emit(ev.Power(self._agenda.now, power.value))

    def _look(self, _event: ev.Event) -> None:
        if self.usable != self._usable:
            self._usable = self.usable
            self._events.emit(ev.Usable(self._agenda.now, self._usable))

    # --- the service ------------------------------------------------------------------------------------

    def _start_in(self, delay_ns: int) -> None:
        self._starting = self._agenda.after(delay_ns, self._start)

    def _start(self) -> None:
        self._starting = None
        if self.power is Power.SUSPENDED:
            self._start_at_wake = True  # the service manager sleeps too
            return
        self.runs += 1
        self._stopped = False  # it was another process
        loop = self.loop = VirtualLoop(self._agenda)

        def begin() -> None:
            self.run = run = self._launch(loop, self.runs)
            self._events.emit(ev.Agent(self._agenda.now, "started", self.runs))
            self._spawn(run.start())

        loop.enter(begin)

    def _killed(self) -> None:
        if self.run is not None:
            self._end("killed")
            self._start_in(RESTART_NS + START_NS)

    def _end(self, how: str) -> None:
        """The process ends at this instant."""
        run, loop = self.run, self.loop
        self.run = self.loop = None
        if how != "stopped" and run is not None:
            self._on_kill()
        if loop is not None:
            loop.kill()
        if run is not None:
            run.released(power=how != "cut")
            self.logind.connect(None)
            self._events.emit(ev.Agent(self._agenda.now, how, self.runs))

    def _spawn(self, work: Coroutine[Any, Any, None], then: Callable[[], None] | None = None) -> None:
        """Run something in the process. A start or a stop that fails is a defect, and ends the world."""
        loop = self.loop
        if loop is None:
            return

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                task.result()
            if then is not None:
                self._agenda.after(0, then)

        loop.enter(lambda: loop.create_task(work).add_done_callback(done))
